"""All readers of video sets. A new one is a module in `readers/` and one entry in `VIDEO_SETS`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..bundle.errors import DatasetError, UsageError
from .labelled import VideoSet
from .readers.vspw import vipseg, vspw

VIDEO_SETS: dict[str, Callable[[Path], VideoSet]] = {"vspw": vspw, "vipseg": vipseg}
_SIGNS = {"vspw": "data", "vipseg": "panomasks"}  # folder that shows which of them it is


def open_videos(given: str) -> VideoSet:
    """Open `FOLDER`, or `vspw:FOLDER` and `vipseg:FOLDER`.

    Raises `UsageError` for a folder that is neither, `DatasetError` for one without labelled sequences.
    """
    name, colon, rest = given.partition(":")
    folder = Path(rest if colon and name in VIDEO_SETS else given)
    if not colon or name not in VIDEO_SETS:
        name = next((name for name, sign in _SIGNS.items() if (folder / sign).is_dir()), "")
        if not name:
            raise UsageError(
                f"{folder} is no video set that is known ({', '.join(VIDEO_SETS)}); expected data/VIDEO/origin and "
                "data/VIDEO/mask, or imgs/VIDEO and panomasks/VIDEO"
            )
    videos = VIDEO_SETS[name](folder)
    if not videos.clips:
        why = f"; the first: {videos.skipped[0]}" if videos.skipped else ""
        raise DatasetError(f"{folder} holds no labelled sequence of {name} ({len(videos.skipped)} skipped{why})")
    return videos
