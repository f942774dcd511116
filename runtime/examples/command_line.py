"""Examples as the command line gives them: `--example "my mug=photo.jpg#mask.png"`."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ...bundle.errors import UsageError
from ..capture.photos import read_photo
from ..segmenter import Segmenter
from .region import parse_region

_EXPECTED = 'expected "NAME=PHOTO#REGION" such as "my mug=photo.jpg#mask.png", "…#x,y,width,height" or "…#x,y"'


@dataclass(frozen=True)
class ExampleEntry:
    """One value of `--example`."""

    label: str
    photo: Path
    region: str  # what stands behind #

    @classmethod
    def parse(cls, text: str) -> ExampleEntry:
        """Raises `UsageError`."""
        label, equals, rest = text.partition("=")
        photo, mark, region = rest.rpartition("#")
        if not (equals and mark and label.strip() and photo.strip() and region.strip()):
            raise UsageError(f"--example is {text[:80]!r}, {_EXPECTED}")
        return cls(label.strip(), Path(photo.strip()), region.strip())

    @property
    def files(self) -> tuple[Path, ...]:
        """The photo, and the mask where it is a file."""
        places = self.photo, Path(self.region), self.photo.parent / self.region
        return tuple(place for place in places if os.path.isfile(place))


def show_examples(segmenter: Segmenter, entries: Iterable[str]) -> None:
    """Add the classes of `entries`, each a value of `--example`. Raises `UsageError`, `SourceError`, `BundleError`."""
    for entry in map(ExampleEntry.parse, entries):
        region = parse_region(entry.region, entry.photo)
        image = read_photo(entry.photo)
        segmenter.add_example(entry.label, image, mask=region.mask, box=region.box, point=region.point)
