"""OpenCV, imported in one place: quiet, and never drawn in by an extra where the system has its own build.

OpenCV and its FFmpeg write warnings of their own to stderr; this package reports each failure itself, in one line.
The variables must be set before the import, and a user's own setting is respected.
"""

from __future__ import annotations

import os

from ..bundle.errors import require

os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # AV_LOG_QUIET

cv2 = require("cv2", "cpu")
