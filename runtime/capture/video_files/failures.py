"""Why a video cannot be read: from the structure of the file, for messages."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ....bundle.errors import SourceError
from ....bundle.image_files import HEAD, PLAYLIST, file_kind, image_kind
from .completeness import boxes, cut_short

CONVERT = "convert it: ffmpeg -i IN -c:v libx264 OUT.mp4"
_EXPECTED = "expected a video such as .mp4 or .avi, or a photo (.jpg, .png)"
# Most MP4 files have their index at the end, and a pipe cannot be wound forward and back.
_PIPE = "expected a video that plays as it comes: MPEG-TS, Matroska, AVI, or MP4 made with -movflags +faststart"
_MOST_INDEX = 64 * 2**20  # bytes of an index that are looked at


def why_unreadable(shown: str, file: str | None, place: str) -> str:
    """The message for what no decoder takes: `file` is its path, if it is one; `shown` is what it is called."""
    if file is None:
        return f"{shown} does not decode as a video; {_PIPE if place == '-' else _EXPECTED}"
    try:
        with open(file, "rb") as stream:
            head = stream.read(HEAD)
            found = list(boxes(stream))
    except OSError as error:
        return f"cannot read {shown} ({error.strerror}); check the file and its permissions"
    if not head:
        return f"{shown} does not decode as a video: it is empty; copy it again"
    if found and not any(kind in (b"moov", b"moof") for kind, _, _ in found):
        return (
            f"{shown} does not decode as a video: its index (moov) is missing, so it is cut short or still being "
            "written; copy it again"
        )
    if found and not _has_pictures(file, found):
        return f"{shown} has no picture track; give a video"
    if (missing := cut_short(Path(file))) is not None:
        return f"{shown} is cut short before its first frame ends: {missing}; copy it again"
    if (kind := _other_kind(head)) is not None:
        return _kind_message(shown, kind)
    if not any(head):
        return f"{shown} does not decode as a video: it begins with zeros, as after a failed copy; copy it again"
    return f"{shown} does not decode as a video; {_EXPECTED}"


def refuse_lists(file: Path) -> None:
    """Raise `SourceError` for a file that is text or a document.

    FFmpeg would open the files and addresses that a playlist names, and wait for them.
    """
    try:
        with file.open("rb") as stream:
            head = stream.read(HEAD)
    except OSError:
        return
    if image_kind(head) is None and (kind := _other_kind(head)) is not None:
        raise SourceError(_kind_message(str(file), kind))


def _other_kind(head: bytes) -> str | None:
    kind = file_kind(head)
    return None if kind is None or kind.startswith("a video") else kind


def _kind_message(shown: str, kind: str) -> str:
    """The message for a file of a `kind` that is no video."""
    if kind.startswith(PLAYLIST):
        return f"{shown} is {kind}; give the address of its stream with --camera or --source"
    return f"{shown} does not decode as a video: it is {kind}; {_EXPECTED}"


def _has_pictures(file: str, found: list[tuple[bytes, int, int]]) -> bool:
    for kind, at, size in found:
        if kind == b"moov":
            with open(file, "rb") as stream:
                stream.seek(at)
                index = stream.read(min(size, _MOST_INDEX))
            handlers = [index[place + 12 : place + 16] for place in _places(index, b"hdlr")]
            return not handlers or b"vide" in handlers
    return True


def _places(data: bytes, word: bytes) -> Iterator[int]:
    at = -1
    while (at := data.find(word, at + 1)) >= 0:
        yield at
