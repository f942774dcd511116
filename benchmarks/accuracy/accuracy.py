"""Accuracy of what is deployed: exact counts through the runtime's own preprocessing, session and postprocessing."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...bundle.metrics import confusion, intersection_over_union
from ...data.labelled import LabelledPhoto, PhotoSet
from ...data.names.category_names import category_names
from ...runtime.segmenter import Segmenter
from ...training.splits import Split, SplitScore, score
from .boundary import boundary_counts, boundary_iou
from .class_list import ClassQuery
from .panoptic_quality import SegmentCounts, match_segments


@dataclass(frozen=True)
class Counts:
    """Counts over photos; they can be added."""

    pixels: npt.NDArray[np.int64]  # (K, K + 1) truth by prediction, the last column "none of them"
    boundary: npt.NDArray[np.int64]  # (3, K) near outlines: in both, in the truth, in the prediction
    segments: SegmentCounts | None = None  # of panoptic segmentation

    @classmethod
    def zero(cls, classes: int, *, panoptic: bool = False) -> Counts:
        """Counts of no photo."""
        return cls(
            np.zeros((classes, classes + 1), np.int64),
            np.zeros((3, classes), np.int64),
            SegmentCounts.zero(classes) if panoptic else None,
        )

    def __add__(self, other: Counts) -> Counts:
        segments = None if self.segments is None or other.segments is None else self.segments + other.segments
        return Counts(self.pixels + other.pixels, self.boundary + other.boundary, segments)


@dataclass(frozen=True)
class PanopticScore:
    """Panoptic quality over all classes, over things and over stuff."""

    pq: float
    sq: float  # mean IoU of the segments that are matched
    rq: float  # F1 of finding them
    things: float | None  # PQ, None without such classes
    stuff: float | None


@dataclass(frozen=True)
class AccuracyResult:
    """Accuracy on one data set."""

    dataset: str
    photos: int
    classes: int  # number of class names, all competing
    miou: float  # mean over the classes that occur in the truth
    pixel_accuracy: float  # of labelled pixels
    per_class: dict[str, float | None]  # IoU, None where a class occurs in neither truth nor prediction
    split: SplitScore | None = None  # mean IoU of seen and of unseen classes, with a split file
    frequency_weighted: float = float("nan")  # IoU, classes weighted by their share of the truth
    boundary_iou: float = float(
        "nan"
    )  # mean over the classes of the truth; pixels within 2 % of the diagonal of an outline
    panoptic: PanopticScore | None = None  # of a panoptic bundle on data with segments
    stage: str = "fp32"  # what was run: one of the bundle's precisions, torch, or a plan
    synonyms: bool = False  # whether classes were asked for by all their names instead of the plain one
    skipped: tuple[str, ...] = ()  # photos left out, and why


def count_photo(segmenter: Segmenter, asked: ClassQuery, photo: LabelledPhoto) -> Counts:
    """Segment one photo at its own size and count."""
    prediction = segmenter.predict(photo.image)
    truth = asked.truth(photo.truth)
    segments = None
    if prediction.segment_map is not None and photo.truth.ids is not None:
        labels = {segment.id: segment.index for segment in prediction.segments}
        segments = match_segments(
            photo.truth.ids, asked.segments(photo.truth), prediction.segment_map, labels, len(asked)
        )
    return Counts(
        confusion(truth, prediction.labels, len(asked)),
        boundary_counts(truth, prediction.labels, len(asked)),
        segments,
    )


def count_photos(
    segmenter: Segmenter,
    photos: PhotoSet,
    indices: Iterable[int],
    *,
    synonyms: bool = False,
    on_photo: Callable[[], None] = lambda: None,
) -> tuple[Counts, ClassQuery]:
    """Counts over the photos `indices`, and the classes as they were asked for.

    The segmenter must have no background classes and no confidence threshold: every pixel gets a class.
    Raises `UsageError`, `DatasetError`, `SourceError`.
    """
    asked = ClassQuery(segmenter, photos.classes, synonyms=synonyms)
    total = Counts.zero(len(asked), panoptic=segmenter.task == "panoptic" and photos.stuff is not None)
    for index in indices:
        total += count_photo(segmenter, asked, photos.load(index))
        on_photo()
    return total, asked


def summarise(
    counts: Counts,
    labels: tuple[str, ...],
    photos: PhotoSet,
    *,
    split: Split | None = None,
    stage: str = "fp32",
    synonyms: bool = False,
    stuff: npt.NDArray[np.bool_] | None = None,
) -> AccuracyResult:
    """Figures from summed counts; `labels` are the classes asked for, `stuff` (K,) those without instances."""
    result = intersection_over_union(counts.pixels)
    per_class = {
        label: None if np.isnan(value) else round(float(value), 4)
        for label, value in zip(labels, result.per_class, strict=True)
    }
    return AccuracyResult(
        dataset=photos.name,
        photos=len(photos),
        classes=len(labels),
        miou=result.mean,
        pixel_accuracy=result.pixel_accuracy,
        per_class=per_class,
        split=score(counts.pixels, tuple(map(category_names, labels)), split) if split is not None else None,
        frequency_weighted=result.frequency_weighted,
        boundary_iou=boundary_iou(counts.boundary)[1],
        panoptic=_panoptic(counts.segments, stuff),
        stage=stage,
        synonyms=synonyms,
        skipped=photos.skipped,
    )


def _panoptic(segments: SegmentCounts | None, stuff: npt.NDArray[np.bool_] | None) -> PanopticScore | None:
    if segments is None or stuff is None:
        return None
    everything, things, rest = segments.quality(), segments.quality(~stuff), segments.quality(stuff)
    return PanopticScore(
        everything.pq,
        everything.sq,
        everything.rq,
        things.pq if things.classes else None,
        rest.pq if rest.classes else None,
    )


def measure_accuracy(
    segmenter: Segmenter,
    photos: PhotoSet,
    *,
    on_photo: Callable[[], None] = lambda: None,
    split: Split | None = None,
    synonyms: bool = False,
) -> AccuracyResult:
    """Measure in this process, see `count_photos`."""
    counts, asked = count_photos(segmenter, photos, range(len(photos)), synonyms=synonyms, on_photo=on_photo)
    stuff = None if photos.stuff is None else asked.of_labels(photos.stuff)
    return summarise(counts, asked.labels, photos, split=split, synonyms=synonyms, stuff=stuff)
