"""Recordings: video files on disk, at a web address, or through a pipe."""
