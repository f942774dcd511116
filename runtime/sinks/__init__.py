"""Outputs: pictures, video files, JSON lines, a window."""
