"""Which encoder writes a video: PyAV if it is installed, else OpenCV."""

from __future__ import annotations

from ...capture.video_files.pyav import HINT, pyav
from .encoder import VideoEncoder, VideoFormat
from .opencv_encoder import OpencvEncoder
from .pyav_encoder import PyavEncoder


def open_encoder(video: VideoFormat) -> VideoEncoder:
    """Start a file. Raises `SinkError` where there is no encoder for it."""
    av = pyav()
    if av is not None and video.suffix != ".avi":  # AVI has no time stamps, and nothing that browsers play
        return PyavEncoder(av, video)
    if av is None and video.live and video.suffix != ".mkv":
        video.warn(
            f"without PyAV a {video.suffix} recording cannot be played if this process is killed; {HINT}, or save as "
            ".mkv"
        )
    elif av is None:
        video.warn(
            f"without PyAV the video is MPEG-4 Part 2 at a constant {video.fps:.4g} FPS, without sound, and some "
            f"browsers do not play it; {HINT} gives H.264, the source's own times, and sound"
        )
    elif video.sound is not None:
        video.warn("the sound is not copied: .avi is written without; save as .mp4 or .mkv")
    return OpencvEncoder(video)
