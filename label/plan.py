"""The units of a job, in a fixed order. Inputs that come later are appended, so that what is done stays as it is."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from ..bundle.errors import SourceError
from ..runtime.capture.names import unique_names
from ..runtime.capture.video_files.decoders import open_decoder
from .inputs.listing import Listing
from .inputs.places import is_remote
from .inputs.sampling import Sampling
from .inputs.units import Item, Unit, UnitKind

_FRAME = re.compile(r"(.+)_[0-9]{6}")


def make_units(listing: Listing, before: Sequence[Unit], sampling: Sampling, size: int) -> list[Unit]:
    """The units of what is listed and not in `before`, `size` photos each."""
    known = {(unit.archive, item.place) for unit in before for item in unit.items}
    photos = [place for place in listing.photos if ("", place) not in known]
    archives = [
        (place, [member for member in members if (place, member.name) not in known])
        for place, members in listing.archives
    ]
    videos = [place for place in listing.videos if ("", place) not in known]
    paths = [
        *(_path(place) for place in photos),
        *(_path(place) / member.name.lstrip("/") for place, members in archives for member in members),
        *(_path(place) for place in videos),
    ]
    names = iter(_names(paths, {item.name for unit in before for item in unit.items}, len(videos)))
    number = len(before)
    units: list[Unit] = []

    def add(kind: UnitKind, items: Iterator[Item], archive: str = "") -> None:
        while chunk := tuple(islice(items, 1 if kind is UnitKind.VIDEO else size)):
            units.append(Unit(number + len(units), kind, chunk, archive))

    add(UnitKind.PHOTOS, (Item(next(names), place) for place in photos))
    for place, members in archives:
        items = (Item(next(names), member.name, member.offset, member.size) for member in members)
        add(UnitKind.ARCHIVE, items, place)
    add(UnitKind.VIDEO, (Item(next(names), place, 0, _frames(place, sampling)) for place in videos))
    return units


def _path(place: str) -> Path:
    return Path(place.partition("?")[0].partition("://")[2] if is_remote(place) else place)


def _names(paths: list[Path], taken: set[str], videos: int) -> list[str]:
    """Unique names; frames of the last `videos` of them get a number behind theirs, which no other name may have."""
    names = unique_names(paths)
    keys = {_key(name) for name in taken}
    for index, name in enumerate(names):
        if _key(name) in keys:
            names[index] = f"{name}_{_digest(paths[index])}"
    beginnings = {_key(found[1]) for name in [*taken, *names] if (found := _FRAME.fullmatch(name)) is not None}
    for index in range(len(names) - videos, len(names)):
        if _key(names[index]) in beginnings:
            names[index] = f"{names[index]}_{_digest(paths[index])}"
    return names


def _key(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _digest(path: Path) -> str:
    return hashlib.sha256(str(path).encode("utf-8", "surrogateescape")).hexdigest()[:8]


def _frames(place: str, sampling: Sampling) -> int:
    """How many frames of a video will be labelled, or 0 where that is not known before it is read."""
    if is_remote(place):
        return 0
    try:
        decoder = open_decoder(place)
    except SourceError:  # told when its turn comes
        return 0
    found = sampling.estimate(decoder.total, decoder.fps)
    decoder.close()
    return found or 0
