"""Which pictures a person should look at first.

Three signs that a label may be wrong, or is worth the look: the class the network is least sure of, labels that change
when the picture is mirrored (test-time augmentation as a measure of doubt: Wang et al., Aleatoric uncertainty estimation
with test-time augmentation, Neurocomputing 2019), and classes that few pictures show. Mirroring costs a run of the
network, so it is done for the pictures that the other two put first.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ..records import PictureRecord

_LEAST_SHARE = 0.005  # of the picture: smaller classes say little about it
_NOTHING_FOUND = 0.5  # doubt of a picture without a label: perhaps something was missed
_RARE = 0.5  # weight of a rare class against doubt
_CANDIDATES = 4  # times as many pictures as asked for are mirrored

Labels = npt.NDArray[np.int32]


@dataclass(frozen=True)
class ReviewCandidate:
    """A picture with what speaks for looking at it, each 0..1."""

    place: int  # in the order of the inputs
    record: PictureRecord
    doubt: float  # 1 - confidence of its least certain class
    weakest: str  # that class; empty where nothing was found
    rarity: float  # 1 for the class of the fewest pictures, 0 for that of the most
    rarest: str
    flipped: float | None = (
        None  # share of the labelled pixels that get another label when mirrored; None: not measured
    )

    @property
    def score(self) -> float:
        """The higher, the sooner."""
        return self.doubt + _RARE * self.rarity + (self.flipped or 0.0)


def count_pictures(records: Iterator[PictureRecord]) -> Counter[int]:
    """In how many pictures each class was found."""
    counts: Counter[int] = Counter()
    for record in records:
        counts.update(_shares(record).keys())
    return counts


def rank(
    records: Iterator[PictureRecord],
    pictures: Counter[int],
    classes: Sequence[str],
    count: int,
    flipped: Callable[[PictureRecord], float | None],
) -> list[ReviewCandidate]:
    """The `count` pictures to look at first, best first; ties are in the order of the inputs.

    `pictures` is what `count_pictures` gave; `flipped` measures the change of labels when a picture is mirrored.
    """
    most = max(pictures.values(), default=1)

    def key(candidate: ReviewCandidate) -> tuple[float, int]:
        return candidate.score, -candidate.place

    candidates = (_candidate(place, record, pictures, most, classes) for place, record in enumerate(records))
    first = heapq.nlargest(_CANDIDATES * count, candidates, key=key)
    measured = [replace(candidate, flipped=flipped(candidate.record)) for candidate in first]
    return sorted(measured, key=key, reverse=True)[:count]


def disagreement(labels: Labels, mirrored: Labels) -> float:
    """Share of the pixels with a label in either (H, W) whose label is another in `mirrored`, which lies as `labels`."""
    labelled = (labels >= 0) | (mirrored >= 0)
    count = int(np.count_nonzero(labelled))
    return float(np.count_nonzero((labels != mirrored) & labelled) / count) if count else 0.0


def _shares(record: PictureRecord) -> dict[int, float]:
    """Confidence of each class that covers enough of the picture, or of all where none does; mean over its pixels."""
    pixels: Counter[int] = Counter()
    sums: dict[int, float] = {}
    for region in record.regions:
        pixels[region.index] += region.pixels
        sums[region.index] = sums.get(region.index, 0.0) + region.pixels * region.confidence
    least = _LEAST_SHARE * record.size[0] * record.size[1]
    kept = [index for index, count in pixels.items() if count >= least] or list(pixels)
    return {index: sums[index] / pixels[index] for index in kept}


def _candidate(
    place: int, record: PictureRecord, pictures: Counter[int], most: int, classes: Sequence[str]
) -> ReviewCandidate:
    found = _shares(record)
    if not found:
        return ReviewCandidate(place, record, _NOTHING_FOUND, "", 0.0, "")
    weakest = min(found, key=lambda index: (found[index], index))
    rarest = min(found, key=lambda index: (pictures[index], index))
    return ReviewCandidate(
        place,
        record,
        round(1 - found[weakest], 4),
        classes[weakest],
        round(1 - pictures[rarest] / most, 4),
        classes[rarest],
    )
