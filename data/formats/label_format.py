"""What every label format provides: its photos, and how to paint the labels of one of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from ...bundle.errors import UsageError
from ..labelled import VOID
from ..readers.reader import Split
from ..text_files import read_text

Size = tuple[int, int]  # height, width in pixels


@dataclass(frozen=True)
class Painted:
    """The labels of one photo."""

    labels: npt.NDArray[np.int32]  # (H, W) class index, VOID where nothing is labelled
    background: npt.NDArray[np.bool_] | None = None  # (H, W) True: known to be none of the classes; None: not known
    objects: npt.NDArray[np.int32] | None = None  # (H, W) number of the object, from 1 on, 0 for none; None: not told


class Canvas:
    """Labels of one photo while its objects are painted; later ones cover earlier ones."""

    def __init__(self, size: Size) -> None:
        self.labels: npt.NDArray[np.int32] = np.full(size, VOID, np.int32)
        self.objects: npt.NDArray[np.int32] = np.zeros(size, np.int32)
        self._groups: dict[tuple[int, Hashable], int] = {}
        self._count = 0

    def paint(self, mask: npt.NDArray[np.bool_], label: int, group: Hashable = None) -> None:
        """Give the pixels of `mask` (H, W) a label. Parts of one object have the same `group`, which is not None."""
        self._count += 1
        number = self._count if group is None else self._groups.setdefault((label, group), self._count)
        self.labels[mask] = label
        self.objects[mask] = number if label >= 0 else 0


@dataclass(frozen=True)
class Annotated:
    """One photo whose labels are not painted yet."""

    image: Path
    name: str  # of the files that are written, without suffix; unique within a split
    paint: Callable[[Size], Painted]  # labels for a photo of that size; raises `DatasetError`
    split: Split | None = None  # None: the source knows no splits


@dataclass(frozen=True)
class FormatSet:
    """All photos of a folder in one format."""

    classes: tuple[str, ...]  # in the order of the class indices
    photos: tuple[Annotated, ...]
    skipped: tuple[str, ...] = ()  # why files or annotations were left out


@dataclass(frozen=True)
class ReadOptions:
    """What the files themselves do not tell."""

    names: dict[str, str] = field(default_factory=dict)  # name -> name to write, "" for unlabelled; or name -> "r,g,b"
    complete: bool = False  # every object of the classes is labelled, so the rest is none of them


class LabelFormat(ABC):
    """One format. To add one, write a module with a subclass and put an instance of it into `registry.FORMATS`."""

    name: ClassVar[str]  # what users call it
    title: ClassVar[str]  # what messages call it
    upright: ClassVar[bool] = True  # labels lie on the photo as shown, turned by its EXIF note; else on stored pixels

    @abstractmethod
    def recognises(self, folder: Path) -> bool:
        """Whether a folder looks like this format; reads little."""

    @abstractmethod
    def read(self, folder: Path, options: ReadOptions) -> FormatSet:
        """List all photos; raises `DatasetError`."""


def merged(classes: Sequence[str], options: ReadOptions) -> tuple[tuple[str, ...], list[int]]:
    """The classes by the names to write, and for each given class the index it gets, VOID for one that is dropped."""
    renamed = [options.names.get(name, name) for name in classes]
    kept = tuple(dict.fromkeys(name for name in renamed if name))
    index = {name: place for place, name in enumerate(kept)}
    return kept, [index[name] if name else VOID for name in renamed]


def painted(
    labels: npt.NDArray[np.int32], options: ReadOptions, objects: npt.NDArray[np.int32] | None = None
) -> Painted:
    """The labels; of complete ones, what is left is background."""
    return Painted(labels, labels == VOID if options.complete else None, objects)


def unique_names(paths: Sequence[Path], root: Path) -> list[str]:
    """A name for each path, unique whatever folders they come from: the stem, with its folders where stems repeat."""
    stems = [path.stem for path in paths]
    twice = {stem for stem in stems if stems.count(stem) > 1} if len(set(stems)) < len(stems) else set()
    names: list[str] = []
    taken: set[str] = set()
    for path, stem in zip(paths, stems, strict=True):
        name = "_".join(path.relative_to(root).with_suffix("").parts) if stem in twice else stem
        while name.casefold() in taken:
            name += "_"
        taken.add(name.casefold())
        names.append(name)
    return names


def read_names(path: Path) -> dict[str, str]:
    """Lines `name: name to write`; nothing after the colon leaves the class unlabelled. Lines with # are comments.

    For masks in colours the lines are `name: r,g,b`; for binary masks a single name. Raises `UsageError`.
    """
    entries: dict[str, str] = {}
    for number, line in enumerate(read_text(path).splitlines(), 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        name, colon, value = (part.strip() for part in text.partition(":"))
        if not name:
            raise UsageError(f"{path}, line {number}: {text!r} has no name before the colon; expected name: new name")
        if name in entries:
            raise UsageError(f"{path}, line {number}: {name!r} stands there twice")
        entries[name] = value if colon else name
    if not entries:
        raise UsageError(f"{path} names nothing; expected lines such as kitty: cat")
    return entries
