"""Which module writes which output, by the suffix of its name.

To add a sink, write a module with `open_sink(request: SinkRequest) -> Sink` and give it a line in `SUFFIXES`. A program
that uses this package may put a function there instead: `registry.SUFFIXES[".npy"] = open_array_sink`.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from ...bundle.errors import UsageError
from ...bundle.image_files import IMAGE_SUFFIXES
from ..capture.source import Source
from .sink import Opener, Sink, SinkRequest
from .staging import cannot_write

SUFFIXES: dict[str, str | Opener] = {
    ".mp4": ".video_files.video_sink",
    ".m4v": ".video_files.video_sink",
    ".mov": ".video_files.video_sink",
    ".mkv": ".video_files.video_sink",
    ".avi": ".video_files.video_sink",
    ".jsonl": ".json_lines",
    **dict.fromkeys(IMAGE_SUFFIXES, ".picture"),
}
FOLDER: str | Opener = ".folder"

_UNWRITTEN = frozenset({".webm", ".wmv", ".flv", ".mpg", ".mpeg", ".ts", ".gif"})  # not to be taken for a folder's name


def open_sink(target: str, source: Source, *, overwrite: bool = False) -> Sink:
    """The sink of `--save`: a video or a picture where the name says so, else a folder of pictures.

    Raises `UsageError` for a name that makes no sense, `SinkError` for a place that cannot be written.
    """
    path = Path(target)
    if not target:
        raise UsageError("--save is empty; give a name: out.mp4 (video), out.png (one photo) or out (folder)")
    try:
        folder = target.endswith("/") or path.is_dir()
    except (OSError, ValueError) as error:  # a name too long, or with a NUL
        raise cannot_write(path, error) from error
    suffix = "" if folder else path.suffix.lower()
    if suffix in _UNWRITTEN:
        known = " ".join(suffix for suffix, entry in SUFFIXES.items() if entry == ".video_files.video_sink")
        raise UsageError(f"{suffix} videos are not written; expected one of: {known}")
    entry = SUFFIXES.get(suffix, FOLDER)
    opener: Opener = entry if callable(entry) else import_module(entry, __package__).open_sink
    return opener(SinkRequest(target, source, overwrite))
