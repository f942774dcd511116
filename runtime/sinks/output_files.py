"""What an output may replace: results of an earlier run, and nothing else unless the user says so.

Every picture and video carries a mark that says who wrote it; JSON lines are known by their fields.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from ...bundle.errors import UsageError

MARK = "written by ovs-edge"
_BYTES = MARK.encode()
_START, _END = 65536, 4096  # bytes at the beginning and the end of a file in which the mark stands
_ATTRIBUTE = "user.ovs_edge"  # for video that was cut off before its mark could be written


def refuse_inputs(target: Path, inputs: Iterable[Path], option: str) -> None:
    """Raise `UsageError` if writing to `target` would write to an input, or into the folder that an input lies in.

    Links are followed, and hard links are known by their inode.
    """
    place = _identity(target)
    real = Path(os.path.realpath(target))
    for path in inputs:
        same = os.path.realpath(path) == str(real) or (place is not None and place == _identity(path))
        holds = os.path.isdir(real) and Path(os.path.realpath(path)).parent == real and not os.path.isdir(path)
        if same or holds:
            what = f"is the input {path}" if same else f"holds the input {path.name}"
            raise UsageError(
                f"{option} {target} {what}, which the output would replace; give another name, such as "
                f"{option} {_beside(target)}"
            )


def refuse_foreign(target: Path, option: str, *, overwrite: bool, allow: str = "--overwrite") -> None:
    """Raise `UsageError` if something stands at `target` that no earlier run wrote, unless it may be overwritten.

    `allow` is how the user says that it may.
    """
    if overwrite:
        return
    try:
        if target.is_dir():
            foreign, what = not folder_is_ours(target), "is a folder with files that this program did not write"
        else:
            foreign, what = target.is_file() and not is_ours(target), "exists, and this program did not write it"
    except (OSError, ValueError):
        return  # the sink says what is wrong with the name
    if foreign:
        raise UsageError(f"{target} {what}; add {allow} to use it all the same, or choose another name: "
                         f"{option} {_beside(target)}")  # fmt: skip


def is_ours(path: Path) -> bool:
    """Whether a file is an output of this program, or empty. A file that cannot be read is not."""
    try:
        with path.open("rb") as stream:
            start = stream.read(_START)
            stream.seek(max(0, os.fstat(stream.fileno()).st_size - _END))
            end = stream.read(_END)
    except OSError:
        return False
    return not start or _BYTES in start or _BYTES in end or _is_json_line(start) or _has_attribute(path)


def folder_is_ours(folder: Path) -> bool:
    """Whether a folder is empty, or holds at least one output of this program."""
    entries = sorted(entry.path for entry in os.scandir(folder) if not entry.name.startswith("."))
    return not entries or any(
        os.path.isfile(path) and is_ours(Path(path)) and os.path.getsize(path) for path in entries
    )


def marked(data: bytes, suffix: str) -> bytes:
    """An encoded picture with the mark in it: where the format has a place for it, or after its end."""
    if suffix in (".jpg", ".jpeg", ".jpe", ".jfif"):
        return data[:2] + b"\xff\xfe" + (len(_BYTES) + 2).to_bytes(2, "big") + _BYTES + data[2:]
    if suffix == ".png":
        import zlib

        body = b"tEXtSoftware\0" + _BYTES
        chunk = (len(body) - 4).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")
        return data[:33] + chunk + data[33:]  # after the signature and IHDR
    if suffix in (".avif", ".jp2"):
        return data + _box()
    return data + _BYTES


def mark_video(path: Path) -> None:
    """Append the mark to a finished video whose writer has no place for it (OpenCV's), as an element to be ignored."""
    suffix = path.suffix.lower()
    element = {
        ".avi": b"JUNK" + len(_BYTES + b"\0").to_bytes(4, "little") + _BYTES + b"\0",
        ".mkv": b"\xec" + bytes([0x80 | len(_BYTES)]) + _BYTES,  # EBML Void
    }.get(suffix, _box())
    with path.open("ab") as stream:
        stream.write(element)
    with suppress(OSError, AttributeError):  # it would outlast the file's contents
        os.removexattr(path, _ATTRIBUTE)


def mark_by_attribute(path: Path) -> None:
    """Mark a video that is yet to be written, where the file system can."""
    with suppress(OSError, AttributeError):
        os.setxattr(path, _ATTRIBUTE, _BYTES)


def free_path(path: Path) -> Path:
    """`path`, or the same with the lowest number from 2 on, such that nothing stands there."""
    candidate, number = path, 1
    while os.path.lexists(candidate):
        number += 1
        candidate = path.with_name(f"{path.stem}_{number}{path.suffix}")
    return candidate


def _box() -> bytes:
    return (len(_BYTES) + 8).to_bytes(4, "big") + b"free" + _BYTES


def _has_attribute(path: Path) -> bool:
    with suppress(OSError, AttributeError):
        return bool(os.getxattr(path, _ATTRIBUTE) == _BYTES)
    return False


def _is_json_line(start: bytes) -> bool:
    try:
        line = json.loads(start.partition(b"\n")[0])
    except (ValueError, RecursionError):
        # A first line longer than what was read: its beginning tells.
        return start.startswith((b'{"index": ', b'{"camera": ')) and b'"time": ' in start[:300]
    return isinstance(line, dict) and {"index", "time"} <= line.keys() and bool({"classes", "event"} & line.keys())


def _identity(path: Path) -> tuple[int, int] | None:
    with suppress(OSError, ValueError):
        found = os.stat(path)
        return found.st_dev, found.st_ino
    return None


def _beside(target: Path) -> Path:
    return target.with_name(f"{target.stem}_segmented{target.suffix}") if target.name else Path("segmented")
