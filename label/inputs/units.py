"""Units of work: photos, members of an archive, or a video. They and their order are fixed when a job begins."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import Enum
from typing import Any


class UnitKind(str, Enum):
    """What a unit holds."""

    PHOTOS = "photos"
    ARCHIVE = "archive"
    VIDEO = "video"


@dataclass(frozen=True)
class Item:
    """A photo, or a video as a whole."""

    name: str  # of the files that are written, without suffix; of a video their beginning
    place: str  # path or address; of an archive's member its name there
    offset: int = 0  # of a member, see `archives.Member`
    size: int = 0  # bytes of a member; frames to expect of a video, 0 where that is not known


@dataclass(frozen=True)
class Unit:
    """Items that one worker labels, one after another."""

    number: int  # from 0, in the order of the inputs
    kind: UnitKind
    items: tuple[Item, ...]  # of a video one
    archive: str = ""  # the archive's place

    @property
    def expected(self) -> int:
        """Pictures, as far as that is known."""
        return max(1, self.items[0].size) if self.kind is UnitKind.VIDEO else len(self.items)

    def to_json(self) -> str:
        """One line."""
        items = [[item.name, item.place, item.offset, item.size] for item in self.items]
        entry: dict[str, Any] = {"unit": self.number, "kind": self.kind.value, "items": items}
        if self.archive:
            entry["archive"] = self.archive
        return json.dumps(entry)

    @classmethod
    def from_json(cls, line: str) -> Unit:
        """What `to_json` wrote. Raises `ValueError`, `KeyError` or `TypeError` for anything else."""
        entry = json.loads(line)
        items = tuple(Item(str(name), str(place), int(at), int(size)) for name, place, at, size in entry["items"])
        return cls(int(entry["unit"]), UnitKind(entry["kind"]), items, str(entry.get("archive", "")))
