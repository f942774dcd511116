"""What every reader of photo sets provides."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..labelled import PhotoSet

Split = Literal["train", "val"]


@dataclass(frozen=True)
class PhotoReader:
    """One layout of labelled photos. To add one, write a module with a reader and put it into `photo_sets.READERS`."""

    name: str  # what users call it: `--data NAME:FOLDER`
    signs: tuple[str, ...]  # paths in the folder, any of which shows that it is of this layout; {split} is the split
    open: Callable[[Path, Split], PhotoSet]  # raises `DatasetError`

    def recognises(self, folder: Path, split: Split) -> bool:
        """Whether the folder looks like this layout."""
        return any((folder / sign.format(split=split)).exists() for sign in self.signs)
