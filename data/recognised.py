"""What `ovs-train --data FOLDER` takes a folder for; labels of other tools are converted on the way.

A conversion is kept in the user's cache, by what the folder holds, with links to the photos: the second run begins at
once, and a changed label makes a new one.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..bundle.errors import BundleError, DatasetError
from ..bundle.files import cache_folder
from .formats.convert import MARKER, ConvertOptions, convert
from .formats.label_format import LabelFormat, ReadOptions
from .formats.registry import FORMATS
from .photo_sets import find_readers

_READ_AS_IT_IS = "published"


@dataclass(frozen=True)
class RecognisedFolder:
    """A folder in a layout that training reads."""

    place: Path  # for `open_dataset`
    about: str  # one line: what the given folder was taken for
    skipped: tuple[str, ...] = ()  # why photos were left out of a conversion


def recognise(given: Path) -> RecognisedFolder:
    """`FOLDER` or `SET:FOLDER` as training reads it. Raises `DatasetError` for a folder of no known labels."""
    try:
        readers, folder = find_readers(str(given), "train")
    except DatasetError:
        found = next((known for known in FORMATS if known.name != _READ_AS_IT_IS and _recognises(known, given)), None)
        if found is None:
            raise
        return _converted(given, found)
    return RecognisedFolder(given, f"{folder}: read as {readers[0].name}")


def _recognises(known: LabelFormat, folder: Path) -> bool:
    return folder.is_dir() and known.recognises(folder)


def _converted(folder: Path, label_format: LabelFormat) -> RecognisedFolder:
    # Below the name of the folder: it is what logs and results call the data set.
    target = cache_folder("datasets") / _key(folder, label_format) / (folder.resolve().name or "root")
    with _alone(target.parent):
        if not (target / MARKER).is_file():
            convert(folder, label_format, label_format.read(folder, ReadOptions()), target, ConvertOptions(link=True))
    about = json.loads((target / MARKER).read_text(encoding="utf-8"))
    counts = about["photos"]
    return RecognisedFolder(
        target,
        f"{folder}: taken for {label_format.title}, {counts['train']} photos in train, {counts['val']} in val; pixels "
        "without a label count as not labelled (ovs-data convert --complete makes them none of the classes)",
        tuple(about["left_out"]),
    )


def _key(folder: Path, label_format: LabelFormat) -> str:
    """Changes with the format, the place, and the names, sizes and times of all files."""
    state = hashlib.sha256(f"1 {label_format.name} {folder.resolve()}\n".encode("utf-8", "surrogateescape"))
    for place, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted(files):
            found = os.lstat(os.path.join(place, name))
            line = f"{os.path.relpath(place, folder)}/{name} {found.st_size} {found.st_mtime_ns}\n"
            state.update(line.encode("utf-8", "surrogateescape"))
    return state.hexdigest()[:32]


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One process at a time: those of a distributed run come here together."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / "lock", os.O_CREAT | os.O_RDWR, 0o600)
    except OSError as error:
        raise BundleError(
            f"cannot write {folder} ({error.strerror}); convert the labels with ovs-data convert, and give that folder"
        ) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
