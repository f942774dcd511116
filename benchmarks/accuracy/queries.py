"""Names asked for alone and in short lists: share found, share with nothing painted, share of false alarms.

For every photo, every class that covers at least `LEAST_SHARE` of it is asked for alone, and so are `ABSENT` classes
that are labelled nowhere in it. Then the same names are asked for in lists of `LIST_LENGTH`. All of it goes through the
segmenter as `ovs-run` opens it: background classes, confidence threshold and postprocessing included.

A name counts as found where the IoU of its mask with the truth is above `FOUND`. The IoU is counted over pixels that
are labelled, or known to be none of the data set's classes. An absent name counts as a false alarm from
`FALSE_ALARM` of the picture on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
import numpy.typing as npt

from ...data.labelled import VOID, PhotoSet
from ...runtime.inference.frame_processor import ActiveClasses
from ...runtime.inference.prediction import Prediction
from ...runtime.segmenter import Segmenter
from .class_list import entries

LEAST_SHARE = 0.02  # of a photo that a class must cover to be asked for
ABSENT = 5  # absent classes asked for, a photo
LIST_LENGTH = 5  # names of a list
FOUND = 0.5  # IoU above which a class counts as found
FALSE_ALARM = 0.01  # share of the picture from which on an absent class counts as painted
PERSON = "person"
THRESHOLDS = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6, 0.7)  # of the curve

Mask = npt.NDArray[np.bool_]


class Request(str, Enum):
    """How names are asked for."""

    ALONE = "alone"
    LIST = f"lists of {LIST_LENGTH}"


@dataclass(frozen=True)
class Outcome:
    """What was painted for one name at one confidence threshold."""

    painted: float  # share of the picture
    iou: float  # with the truth; 0 for an absent class


@dataclass(frozen=True)
class Query:
    """One name asked for on one photo."""

    index: int  # of the photo in its set
    photo: str
    name: str
    request: tuple[str, ...]  # all names that were asked for together
    share: float  # of the photo that the class covers; 0: it is absent
    outcomes: tuple[Outcome, ...]  # one for each threshold

    @property
    def present(self) -> bool:
        """Whether the class is in the photo."""
        return self.share > 0


@dataclass(frozen=True)
class QueryScore:
    """Figures over the queries of a data set at one confidence threshold."""

    threshold: float
    asked: int  # queries for a class that is there
    found: float | None  # share of them with an IoU above `FOUND`
    nothing: float | None  # share of them with not one pixel painted
    mean_iou: float | None
    absent: int  # queries for a class that is not there
    false_alarms: float | None  # share of them painted on at least `FALSE_ALARM` of the picture
    found_without_person: float | None  # `found` of all other classes; None where there is none
    person_mean_iou: float | None  # None where no photo shows one


@dataclass(frozen=True)
class ClassScore:
    """Figures of one class at the segmenter's own threshold."""

    asked: int
    found: float | None
    nothing: float | None
    mean_iou: float | None
    absent: int
    false_alarms: float | None


@dataclass(frozen=True)
class QueryResult:
    """All figures of one data set and one kind of request."""

    dataset: str
    request: str  # value of a `Request`
    photos: int
    score: QueryScore  # at the segmenter's own threshold
    curve: tuple[QueryScore, ...]  # over `THRESHOLDS`
    per_class: dict[str, ClassScore]


@dataclass(frozen=True)
class PhotoClasses:
    """Which classes a photo shows, and where."""

    masks: dict[str, Mask]  # name -> pixels (H, W), of every class labelled anywhere in it
    counted: Mask  # (H, W) pixels that are labelled, or known to be none of the classes

    def present(self) -> list[str]:
        """Names of the classes that cover at least `LEAST_SHARE` of the photo."""
        return [name for name, mask in self.masks.items() if mask.mean() >= LEAST_SHARE]


class QuerySet:
    """A data set's photos with the names to ask for."""

    def __init__(self, photos: PhotoSet, *, synonyms: bool = False) -> None:
        """With `synonyms`, a class is asked for by all its names, "cup|mug", else by its plain one."""
        self.photos = photos
        self._entries = entries(photos.classes, synonyms=synonyms)
        self.names = tuple(dict.fromkeys(self._entries))

    def load(self, index: int) -> tuple[npt.NDArray[np.uint8], PhotoClasses, set[str]]:
        """A photo (H, W, 3) BGR, its classes, and all names that must not be chosen as absent.

        Raises `DatasetError`.
        """
        photo = self.photos.load(index)
        labels = photo.truth.labels
        masks: dict[str, Mask] = {}
        for label in np.unique(labels[labels != VOID]).tolist():
            name = self._entries[label]
            mask = labels == label
            masks[name] = masks[name] | mask if name in masks else mask
        crowds = {self._entries[segment.label] for segment in photo.truth.segments.values() if segment.crowd}
        background = photo.truth.background
        counted = labels != VOID if background is None else (labels != VOID) | background
        return photo.image, PhotoClasses(masks, counted), {*masks, *crowds}

    def absent(self, index: int, present: Iterable[str]) -> list[str]:
        """`ABSENT` names that are not in the photo: always the same ones for the same photo and data set."""
        photo, there = self.photos.files[index].image.stem, set(present)

        def order(name: str) -> str:
            return hashlib.sha256(f"{self.photos.name}\n{photo}\n{name}".encode()).hexdigest()

        return sorted((name for name in self.names if name not in there), key=order)[:ABSENT]


def measure_queries(
    segmenter: Segmenter,
    queries: QuerySet,
    *,
    thresholds: Sequence[float] = THRESHOLDS,
    on_photo: Callable[[], None] = lambda: None,
) -> tuple[dict[Request, QueryResult], list[Query]]:
    """Ask for every name of every photo, alone and in lists; the figures of both, and every single query.

    The last of a query's outcomes is at the segmenter's own threshold, the others at `thresholds`. Raises `UsageError`,
    `DatasetError`, `SourceError`, `BundleError`.
    """
    own = segmenter.threshold
    points = (*thresholds, own)
    everything: dict[Request, list[Query]] = {request: [] for request in Request}
    runner = _QueryRunner(segmenter)
    try:
        for index in range(len(queries.photos)):
            image, classes, there = queries.load(index)
            present, absent = classes.present(), queries.absent(index, there)
            photo = queries.photos.files[index].image.stem
            for request in Request:
                for names in _requests(request, present, absent):
                    predictions = runner.ask(image, names, points)
                    for position, name in enumerate(names):
                        outcomes = tuple(_outcome(found, position, classes, name) for found in predictions)
                        share = float(classes.masks[name].mean()) if name in classes.masks else 0.0
                        everything[request].append(Query(index, photo, name, names, share, outcomes))
            on_photo()
    finally:
        segmenter.threshold = own
    results = {request: _result(queries, request, found, points) for request, found in everything.items()}
    return results, [query for found in everything.values() for query in found]


def _requests(request: Request, present: list[str], absent: list[str]) -> list[tuple[str, ...]]:
    """Names asked for together on one photo: each alone, or the present ones in lists filled up with absent ones."""
    if request is Request.ALONE:
        return [(name,) for name in (*present, *absent)]
    lists = []
    for start in range(0, max(len(present), 1), LIST_LENGTH):
        part = present[start : start + LIST_LENGTH]
        lists.append((*part, *absent[: LIST_LENGTH - len(part)]))
    return [names for names in lists if names]


class _QueryRunner:
    """Sets the classes of a segmenter, each class list once, and predicts."""

    def __init__(self, segmenter: Segmenter) -> None:
        self._segmenter = segmenter
        self._known: dict[tuple[str, ...], ActiveClasses] = {}

    def ask(
        self, image: npt.NDArray[np.uint8], names: tuple[str, ...], thresholds: Sequence[float]
    ) -> list[Prediction]:
        """A prediction for each threshold; the network runs once."""
        segmenter = self._segmenter
        if names not in self._known:
            self._known[names] = segmenter.set_classes(names)
        inferred = segmenter.infer(segmenter.prepare(image), self._known[names])
        predictions = []
        for threshold in thresholds:
            segmenter.threshold = threshold
            predictions.append(segmenter.finish(inferred))
        return predictions


def _outcome(prediction: Prediction, position: int, classes: PhotoClasses, name: str) -> Outcome:
    painted: Mask = prediction.labels == position
    share = float(painted.mean())
    truth = classes.masks.get(name)
    if truth is None:
        return Outcome(share, 0.0)
    union = int(((painted & classes.counted) | truth).sum())
    return Outcome(share, float((painted & truth).sum() / union) if union else 0.0)


def _result(queries: QuerySet, request: Request, found: list[Query], points: Sequence[float]) -> QueryResult:
    scores = [query_score(found, position, threshold) for position, threshold in enumerate(points)]
    per_class = {}
    for name in sorted({query.name for query in found}):
        own = query_score([query for query in found if query.name == name], -1, points[-1])
        per_class[name] = ClassScore(own.asked, own.found, own.nothing, own.mean_iou, own.absent, own.false_alarms)
    return QueryResult(
        queries.photos.name, request.value, len(queries.photos), scores[-1], tuple(scores[:-1]), per_class
    )


def query_score(queries: Sequence[Query], position: int, threshold: float) -> QueryScore:
    """The figures of `queries` from their outcomes number `position`, which are those at `threshold`."""
    present = [(query.name, query.outcomes[position]) for query in queries if query.present]
    absent = [query.outcomes[position] for query in queries if not query.present]
    others = [outcome for name, outcome in present if not _is_person(name)]
    persons = [outcome for name, outcome in present if _is_person(name)]
    outcomes = [outcome for _, outcome in present]
    return QueryScore(
        threshold=threshold,
        asked=len(present),
        found=_mean([outcome.iou > FOUND for outcome in outcomes]),
        nothing=_mean([outcome.painted == 0 for outcome in outcomes]),
        mean_iou=_mean([outcome.iou for outcome in outcomes]),
        absent=len(absent),
        false_alarms=_mean([outcome.painted >= FALSE_ALARM for outcome in absent]),
        found_without_person=_mean([outcome.iou > FOUND for outcome in others]),
        person_mean_iou=_mean([outcome.iou for outcome in persons]),
    )


def _is_person(name: str) -> bool:
    return PERSON in name.casefold().split("|")


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None
