"""What is behind an http address: a video file, or a live stream."""

from __future__ import annotations

import re

from .live import streams
from .source import Source, SourceRequest
from .video_files.video_source import open_source as open_video

_VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".avi", ".webm")


def open_source(request: SourceRequest) -> Source:
    """A video file has an end, and all its frames matter; of a stream only the newest frame does."""
    path = re.sub(r"[?#].*", "", request.address).lower()
    if not request.live and path.endswith(_VIDEO_SUFFIXES):
        return open_video(request)
    return streams.open_source(request)
