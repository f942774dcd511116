"""What every layout that a conversion writes provides."""

from __future__ import annotations

import json
import shutil
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from ...readers.reader import Split
from ..label_format import Painted


@dataclass(frozen=True)
class LoadedPhoto:
    """A photo with its labels, lying alike."""

    image: npt.NDArray[np.uint8]  # (H, W, 3) BGR
    painted: Painted
    turned: bool  # it was turned upright, so its file cannot be used as it is
    place: Path  # of its file


class LayoutWriter(ABC):
    """Writes one data set into a folder. To add a layout, subclass it and add a line to `convert.LAYOUTS`."""

    name: ClassVar[str]  # what users call it
    keeps_background: ClassVar[bool]  # pixels of none of the classes are told apart from those that nobody labelled

    def __init__(self, work: Path, classes: tuple[str, ...], *, link: bool = False) -> None:
        """`link` makes symbolic links to the photos instead of copies."""
        self.work = work
        self.classes = classes
        self._link = link

    @abstractmethod
    def add(self, name: str, loaded: LoadedPhoto, split: Split) -> None:
        """Write a photo with at least one label, and its labels."""

    @abstractmethod
    def finish(self) -> None:
        """Write what describes the whole."""

    def _write_photo(self, folder: Path, name: str, loaded: LoadedPhoto) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        if loaded.turned:
            target = folder / f"{name}.png"
            Image.fromarray(loaded.image[..., ::-1]).save(target)
            return target
        target = folder / f"{name}{loaded.place.suffix}"
        if self._link:
            target.symlink_to(loaded.place.resolve())
        else:
            shutil.copyfile(loaded.place, target)
        return target


def write_json(path: Path, value: Any) -> None:
    """`value` as indented UTF-8."""
    path.write_text(json.dumps(value, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
