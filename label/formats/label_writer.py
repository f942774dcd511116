"""What every output format provides: files of each picture, of each shard, and of the whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from ..geometry.regions import LabelledRegion
from ..inputs.pictures import InputPicture
from ..records import PictureRecord
from ..store import Store
from .shape import Shape

Records = Callable[[], Iterator[PictureRecord]]  # all pictures that were labelled, in order; may be asked for twice


@dataclass(frozen=True)
class WriterOptions:
    """What the formats need to know of a job."""

    classes: tuple[str, ...]  # labels, in the order of their indices
    shape: Shape = Shape.AUTO
    tolerance: float = 0.0  # pixels by which polygons may differ from the regions
    digest: str = ""  # of the bundle


class LabelWriter:
    """One format. To add one, write a module with a subclass and give it a line in `registry.WRITERS`.

    Every method may be called again for the same picture, shard or job, and writes the same bytes again.
    """

    name: ClassVar[str]  # value of --format
    shapes: ClassVar[tuple[Shape, ...]]  # that it can write, the usual one first; empty: it has one form only
    folder: ClassVar[str] = "images"  # where the pictures go
    with_pictures: ClassVar[bool] = True  # whether the labels are of little use without the pictures beside them

    def __init__(self, options: WriterOptions) -> None:
        self.options = options

    @property
    def shape(self) -> Shape:
        """The form of the regions."""
        if self.options.shape is not Shape.AUTO or not self.shapes:
            return self.options.shape
        return self.shapes[0]

    @property
    def polygons(self) -> bool:
        """Whether `finish` needs the regions' polygons in the records."""
        return False

    def write_picture(
        self, store: Store, picture: InputPicture, regions: Sequence[LabelledRegion], file: str | None
    ) -> None:
        """Write the files that belong to one picture; `file` is its name in the store, where it was written."""

    def write_shard(self, store: Store, name: str, records: Sequence[PictureRecord]) -> None:
        """Write the file of a shard, whose pictures are complete."""

    def finish(self, store: Store, records: Records) -> None:
        """Write the files of the whole job."""
