"""Files of shown classes, `NAME.npz`: vectors, names, thumbnails, and which bundle the vectors belong to.

    header      JSON: format, version, identity of the vectors' space, dimensions, classes with their names
    vectors     (N, C) float32, of every example
    fitted      (F, C) float32, of those that have a fitted vector; files of earlier versions have none
    rows        (R, D) float32, text vectors of the classes, class by class, then of what they are not
    thumbnails  uint8, JPEG files behind each other

A file may come from anywhere: no object is unpickled, no size is believed, and a file of another model is refused.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...bundle.class_files import read_class_entries
from ...bundle.errors import BundleError, UsageError
from ...bundle.files import read_bounded, refuse_address, refuse_pipe, replacing
from ...bundle.strict import parse
from ...bundle.vocabulary import MAX_NAME, ClassNames
from ..vocabulary.cache import read_array
from .fitting import FittedVector
from .shown_classes import MOST_EXAMPLES, MOST_SHOWN, Example, ShownClass, ShownClasses

SUFFIX = ".npz"
_FORMAT, _VERSION = "ovs-edge classes", 1
_MOST_BYTES = 64 * 2**20
_MOST_CLASSES = 65536  # with those of names alone
_MOST_NEAR = 1024  # trained names near one example
_ARRAYS = ("header", "vectors", "rows", "thumbnails")
_FITTED = "fitted"

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class _StoredExample:
    positive: bool
    near: tuple[str, ...]
    thumbnail: int  # bytes
    found: tuple[float, ...] = ()  # of a fitted vector: IoU with which it and the plain one find the region


@dataclass(frozen=True)
class _StoredClass:
    names: tuple[str, ...]
    threshold: float | None
    rows: int
    opposites: int
    examples: tuple[_StoredExample, ...]


@dataclass(frozen=True)
class _Header:
    format: str
    version: int
    model: str  # name of the bundle, for messages
    identity: str  # of the space of the vectors
    classes: tuple[_StoredClass, ...]


@dataclass(frozen=True)
class Archive:
    """What a file holds."""

    classes: tuple[ClassNames, ...]
    shown: tuple[ShownClass, ...]  # of those that were shown


def expanded(classes: str, shown: ShownClasses, identity: Callable[[], str], dim: int) -> str | list[str]:
    """`"@mugs.npz, person"` with the classes of the files in their place; what was shown of them is put into `shown`.

    A list without such a file stays as it is. `identity` and `dim` are as for `load`. Raises `UsageError`.
    """
    whole = classes.strip()
    parts = [whole] if _is_file(whole) and Path(whole[1:]).is_file() else [part.strip() for part in classes.split(",")]
    if not any(map(_is_file, parts)):
        return classes
    entries: list[str] = []
    found: list[ShownClass] = []
    for part in parts:
        if _is_file(part):
            archive = load(Path(part[1:]), identity(), dim)
            entries += map(str, archive.classes)
            found += archive.shown
        else:
            entries += read_class_entries(Path(part[1:])) if part.startswith("@") else [part]
    shown.put(found)
    return entries


def _is_file(entry: str) -> bool:
    return entry.startswith("@") and entry.lower().endswith(SUFFIX)


def pack(classes: Sequence[ClassNames], shown: Sequence[ShownClass], model: str, identity: str) -> bytes:
    """A file's contents: `classes`, with what was shown of them."""
    of = {entry.label.casefold(): entry for entry in shown}
    stored, vectors, fitted, rows, thumbnails = [], [], [], [], []
    for names in classes:
        entry = of.get(names.label.casefold())
        examples = () if entry is None else entry.examples
        own, opposites = ([], []) if entry is None else (list(entry.rows), list(entry.opposites))
        stored.append(
            _StoredClass(
                names.names,
                names.threshold,
                len(own),
                len(opposites),
                tuple(map(_stored, examples)),
            )
        )
        vectors += [one.vector for one in examples]
        fitted += [one.fitted.vector for one in examples if one.fitted is not None]
        thumbnails += [one.thumbnail for one in examples]
        rows += [*own, *opposites]
    header = _Header(_FORMAT, _VERSION, model, identity, tuple(stored))
    contents = io.BytesIO()
    np.savez_compressed(
        contents,
        header=np.frombuffer(json.dumps(asdict(header)).encode(), np.uint8),
        vectors=_stacked(vectors),
        fitted=_stacked(fitted),
        rows=_stacked(rows),
        thumbnails=np.frombuffer(b"".join(thumbnails), np.uint8),
    )
    return contents.getvalue()


def _stored(example: Example) -> _StoredExample:
    fitted = example.fitted
    found = () if fitted is None else (fitted.found, fitted.found_plain)
    return _StoredExample(example.positive, example.near, len(example.thumbnail), found)


def _stacked(vectors: Sequence[Floats]) -> Floats:
    return np.stack(vectors) if vectors else np.zeros((0, 0), np.float32)


def save(path: Path, contents: bytes) -> None:
    """Write a file that `pack` made, whole or not at all. Raises `UsageError`."""
    refuse_address(path, "the file of classes")
    if path.suffix.lower() != SUFFIX:
        raise UsageError(f"the file of classes is {path}, expected NAME{SUFFIX}, by which it is read as @NAME{SUFFIX}")
    try:
        if path.exists() and not (path.is_file() and _is_archive(path)):
            raise UsageError(f"{path} exists and holds no classes of ovs-edge; choose another name")
        with replacing(path) as work:
            work.write_bytes(contents)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"cannot write {path} ({reason}); choose another place") from error


def load(path: Path, identity: str, dim: int) -> Archive:
    """Read a file for a bundle of this `identity` and text vectors of length `dim`. Raises `UsageError`."""
    refuse_pipe(path, "the file of saved classes")
    try:
        contents = read_bounded(path, _MOST_BYTES)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(
            f"cannot read the classes {str(path)!r} ({reason}); expected a file of saved classes"
        ) from error
    return unpack(contents, str(path), identity, dim)


def unpack(contents: bytes, origin: str, identity: str, dim: int) -> Archive:
    """As `load`, from the file's bytes; `origin` is for messages."""
    try:
        arrays = _arrays(contents)
        raw = json.loads(arrays["header"].tobytes())
        header = parse(_Header, raw, origin, "save the classes again")
    except (BundleError, UsageError) as error:
        raise UsageError(str(error)) from error
    except Exception as error:  # on bytes that are no archive, zipfile and numpy raise whatever they trip over
        raise UsageError(
            f"{origin} holds no saved classes ({type(error).__name__}); expected a file of --save-classes"
        ) from error
    if header.format != _FORMAT or header.version != _VERSION:
        raise UsageError(
            f"{origin} is {header.format[:40]!r} version {header.version}, expected {_FORMAT!r} version {_VERSION}; "
            "update ovs-edge or save the classes again"
        )
    if header.identity != identity:
        raise UsageError(
            f"{origin} was saved with another model ({header.model[:60]}), whose vectors mean nothing to this one; show "
            "the examples again, or use the bundle they were saved with"
        )
    _check(header, arrays, origin, dim)
    return _archive(header, arrays)


def _arrays(contents: bytes) -> dict[str, npt.NDArray[Any]]:
    with zipfile.ZipFile(io.BytesIO(contents)) as archive:
        # Compressed, a small file may hold any amount.
        if sum(entry.file_size for entry in archive.infolist()) > _MOST_BYTES:
            raise UsageError("it unpacks to more than it may hold")
        found = {name: read_array(archive, name) for name in _ARRAYS}
        there = f"{_FITTED}.npy" in archive.namelist()
        return {**found, _FITTED: read_array(archive, _FITTED) if there else np.zeros((0, 0), np.float32)}


def _check(header: _Header, arrays: dict[str, npt.NDArray[Any]], origin: str, dim: int) -> None:
    """Nothing in the file may contradict the rest, or be no vector of this model."""

    def refuse(what: str) -> UsageError:
        return UsageError(f"{origin} is damaged: {what}; save the classes again")

    names = [name for entry in header.classes for name in entry.names]
    near = [name for entry in header.classes for one in entry.examples for name in one.near]
    if not 0 < len(header.classes) <= _MOST_CLASSES or any(not entry.names for entry in header.classes):
        raise refuse(f"it lists {len(header.classes)} classes, or one without a name")
    if any(len(name) > MAX_NAME or not name.isprintable() or not name.strip() for name in (*names, *near)):
        raise refuse("it holds a name that is none")
    if len({name.casefold() for name in names}) != len(names):
        raise refuse("a name stands in it twice")
    if any(entry.threshold is not None and not 0 <= entry.threshold <= 1 for entry in header.classes):
        raise refuse("a threshold is outside of 0 to 1")
    shown = [entry for entry in header.classes if entry.examples]
    if len(shown) > MOST_SHOWN or any(len(entry.examples) > MOST_EXAMPLES for entry in shown):
        raise refuse("it holds more examples than can be shown")
    if any(len(one.near) > _MOST_NEAR or one.thumbnail < 0 for entry in shown for one in entry.examples):
        raise refuse("an example's description is out of range")
    found = [one.found for entry in shown for one in entry.examples if one.found]
    if any(len(pair) != 2 or not all(0 <= value <= 1 for value in pair) for pair in found):
        raise refuse("an example's description is out of range")
    sizes = [(entry.rows, entry.opposites) for entry in header.classes]
    if any(
        min(pair) < 0 or (any(pair) and not entry.examples) for pair, entry in zip(sizes, header.classes, strict=True)
    ):
        raise refuse("a class has vectors without examples")
    count = sum(len(entry.examples) for entry in shown)
    length = arrays["vectors"].shape[-1] if arrays["vectors"].ndim else None
    for key, rows, columns in (
        ("vectors", count, None), (_FITTED, len(found), length), ("rows", sum(map(sum, sizes)), dim)
    ):  # fmt: skip
        array = arrays[key]
        if array.dtype != np.float32 or array.ndim != 2 or len(array) != rows:
            raise refuse(f"{key} are {array.dtype} {list(array.shape)}, expected float32 with {rows} rows")
        if rows and columns not in (None, array.shape[1]):
            raise refuse(f"{key} have length {array.shape[1]}, expected {columns}")
        if rows and not (np.isfinite(array).all() and (np.abs(array) < 1e6).all() and array.any(axis=1).all()):
            raise refuse(f"{key} hold numbers that are no vectors")
    bytes_ = sum(one.thumbnail for entry in shown for one in entry.examples)
    if arrays["thumbnails"].dtype != np.uint8 or arrays["thumbnails"].shape != (bytes_,):
        raise refuse("its thumbnails are not those it describes")


def _archive(header: _Header, arrays: dict[str, npt.NDArray[Any]]) -> Archive:
    vector = row = byte = number = 0
    shown = []
    blob = arrays["thumbnails"].tobytes()
    for entry in header.classes:
        examples = []
        for one in entry.examples:
            thumbnail = blob[byte : byte + one.thumbnail]
            fitted = FittedVector(arrays[_FITTED][number], *one.found) if one.found else None
            examples.append(Example(arrays["vectors"][vector], one.positive, one.near, thumbnail, fitted))
            vector, byte, number = vector + 1, byte + one.thumbnail, number + bool(one.found)
        middle, end = row + entry.rows, row + entry.rows + entry.opposites
        if examples:
            rows, opposites = arrays["rows"][row:middle], arrays["rows"][middle:end]
            shown.append(ShownClass(entry.names[0], tuple(examples), rows, opposites))
        row = end
    classes = tuple(ClassNames(entry.names[0], entry.names, entry.threshold) for entry in header.classes)
    return Archive(classes, tuple(shown))


def _is_archive(path: Path) -> bool:
    """Whether a file is one of ours, whatever model it belongs to, or empty."""
    if not path.stat().st_size:
        return True
    try:
        if path.stat().st_size > _MOST_BYTES:
            return False
        header = json.loads(_arrays(path.read_bytes())["header"].tobytes())
    except Exception:  # noqa: BLE001 - it is something else then
        return False
    return isinstance(header, dict) and header.get("format") == _FORMAT
