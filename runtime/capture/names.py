"""Names of frames: what a saved picture is called, and what the JSON lines call it."""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

_LONGEST = 180  # bytes of a name, so that a number and a suffix can follow: file systems allow 255


def safe_name(text: str) -> str:
    """`text` as a file name that any file system and JSON can hold; the same text always gives the same name.

    Bytes that are not UTF-8, control characters and path separators are written as their hexadecimal codes.
    """
    name = "".join(
        f"x{ord(sign) & 0xFF:02x}"
        if 0xD800 <= ord(sign) <= 0xDFFF  # Python's stand-in for a byte of a name that is not UTF-8
        else f"x{ord(sign):02x}"
        if ord(sign) < 0x20 or ord(sign) == 0x7F or sign == "/"
        else sign
        for sign in text
    )
    name = re.sub(r"^\.+", "", name) or "frame"  # a hidden file would not be found
    if len(name.encode()) > _LONGEST:
        name = f"{name.encode()[: _LONGEST - 9].decode(errors='ignore')}_{_digest(text)}"
    return name


def unique_names(paths: Sequence[Path]) -> list[str]:
    """A name for each of `paths`, no two alike, nor alike for file systems that ignore case or normalise accents.

    A name is the file's stem; where that is not enough it gets the suffix, then the folders, and at last a digest of
    the path. So it depends on the paths alone, not on their order.
    """
    parts = [_candidates(path) for path in paths]
    level = [0] * len(paths)
    while True:
        names = [candidates[at] for candidates, at in zip(parts, level, strict=True)]
        seen = Counter(map(_key, names))
        clashing = [index for index, name in enumerate(names) if seen[_key(name)] > 1]
        movable = [index for index in clashing if level[index] + 1 < len(parts[index])]
        if not movable:
            break
        for index in movable:
            level[index] += 1
    used: Counter[str] = Counter()
    for index, name in enumerate(names):  # the same file given twice
        used[_key(name)] += 1
        if used[_key(name)] > 1:
            names[index] = f"{name}_{used[_key(name)]}"
    return names


def _candidates(path: Path) -> list[str]:
    """Names of `path`, the shortest first."""
    stem, suffix = path.stem, path.suffix[1:]
    short = f"{stem}_{suffix}" if suffix else stem
    folders = [part for part in path.parent.parts if part not in (os.sep, ".", "..")]
    longer = ["_".join([*folders[-count:], short]) for count in range(1, min(len(folders), 4) + 1)]
    names = [safe_name(name) for name in (stem, short, *longer)]
    return [*names, f"{names[-1]}_{_digest(str(path))}"]


def _key(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:8]
