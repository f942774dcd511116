"""Reads a picture of a unit: a photo's file, or an archive's member. Later, for the review, by its record."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from ...bundle.errors import SourceError
from ..records import PictureRecord
from ..store import Store
from .archives import ArchiveReader, Member
from .pictures import InputPicture, decode
from .places import is_remote, read_bytes, shown
from .units import Item, Unit, UnitKind


class PictureLoader:
    """Loads photos and members of archives, from any thread."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._archives = ArchiveReader()
        self._places: dict[str, tuple[Unit, Item]] | None = None

    def read(self, unit: Unit, item: Item) -> InputPicture:
        """A photo of a unit. Raises `SourceError`."""
        source = source_of(unit, item)
        if unit.kind is UnitKind.ARCHIVE:
            content = self._archives.read(unit.archive, Member(item.place, item.offset, item.size))
            return decode(item.name, source, content)
        local = None if is_remote(item.place) else Path(item.place)
        return decode(item.name, source, read_bytes(item.place), local)

    def load(self, record: PictureRecord, units: Sequence[Unit]) -> InputPicture:
        """The picture of a record: where it was written beside its labels, else from its input. Raises `SourceError`."""
        if record.file is not None:
            content = self._store.read(record.file)
            if content is None:
                raise SourceError(f"{record.file} is not in {self._store.place} any more")
            return decode(record.name, PurePosixPath(record.file).name, content)
        if self._places is None:
            self._places = {item.name: (unit, item) for unit in units for item in unit.items}
        if record.name not in self._places:
            raise SourceError(f"the frame {record.name} of {record.source} was not kept; label with --photos link")
        return self.read(*self._places[record.name])

    def close(self) -> None:
        """Close the archive that is open."""
        self._archives.close()


def source_of(unit: Unit, item: Item) -> str:
    """Where a picture comes from, as it may be shown and written."""
    if unit.kind is UnitKind.ARCHIVE:
        return f"{shown(unit.archive)}: {shown(item.place)}"
    return shown(item.place)
