"""Annotated videos in files."""
