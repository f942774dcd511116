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
from ...runtime.inference.frame_processor import ActiveClasses, Inferred
from ...runtime.inference.prediction import Prediction
from ...runtime.segmenter import Segmenter
from ...runtime.vocabulary.sensitivity import Sensitivity
from .class_list import entries

LEAST_SHARE = 0.02  # of a photo that a class must cover to be asked for
ABSENT = 5  # absent classes asked for, a photo
LIST_LENGTH = 5  # names of a list
FOUND = 0.5  # IoU above which a class counts as found
FALSE_ALARM = 0.01  # share of the picture from which on an absent class counts as painted
PERSON = "person"
THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)  # of the curve over the confidence threshold
SENSITIVITIES = tuple(one.value for one in Sensitivity)  # of the curve over the sensitivity

Mask = npt.NDArray[np.bool_]


class Request(str, Enum):
    """How names are asked for."""

    ALONE = "alone"
    LIST = f"lists of {LIST_LENGTH}"


@dataclass(frozen=True)
class Setting:
    """Settings of a segmenter at which the same names are asked for."""

    sensitivity: str  # value of a `Sensitivity`
    threshold: float  # confidence threshold


@dataclass(frozen=True)
class Outcome:
    """What was painted for one name at one setting."""

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
    outcomes: tuple[Outcome, ...]  # one for each setting, the segmenter's own last

    @property
    def present(self) -> bool:
        """Whether the class is in the photo."""
        return self.share > 0


@dataclass(frozen=True)
class QueryScore:
    """Figures over the queries of a data set at one setting."""

    setting: Setting
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
    """Figures of one class at the segmenter's own setting."""

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
    score: QueryScore  # at the segmenter's own setting
    sensitivities: tuple[QueryScore, ...]  # at each sensitivity, with the segmenter's own threshold
    thresholds: tuple[QueryScore, ...]  # at each threshold, with the segmenter's own sensitivity
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
    sensitivities: Sequence[str] = SENSITIVITIES,
    thresholds: Sequence[float] = THRESHOLDS,
    on_photo: Callable[[], None] = lambda: None,
) -> tuple[dict[Request, QueryResult], list[Query]]:
    """Ask for every name of every photo, alone and in lists; the figures of both, and every single query.

    They are asked for at every one of `sensitivities`, and of `thresholds` at the segmenter's own sensitivity. Raises
    `UsageError`, `DatasetError`, `SourceError`, `BundleError`.
    """
    own = Setting(segmenter.sensitivity, segmenter.threshold)
    settings = [
        *(Setting(sensitivity, own.threshold) for sensitivity in sensitivities),
        *(Setting(own.sensitivity, threshold) for threshold in thresholds),
        own,
    ]
    everything: dict[Request, list[Query]] = {request: [] for request in Request}
    runner = _QueryRunner(segmenter)
    try:
        for index in range(len(queries.photos)):
            image, classes, there = queries.load(index)
            present, absent = classes.present(), queries.absent(index, there)
            photo = queries.photos.files[index].image.stem
            for request in Request:
                for names in _requests(request, present, absent):
                    predictions = runner.ask(image, names, settings)
                    for position, name in enumerate(names):
                        outcomes = tuple(_outcome(found, position, classes, name) for found in predictions)
                        share = float(classes.masks[name].mean()) if name in classes.masks else 0.0
                        everything[request].append(Query(index, photo, name, names, share, outcomes))
            on_photo()
    finally:
        segmenter.sensitivity, segmenter.threshold = own.sensitivity, own.threshold
    results = {
        request: _result(queries, request, found, settings, len(sensitivities)) for request, found in everything.items()
    }
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
        self._known: dict[tuple[str, tuple[str, ...]], ActiveClasses] = {}

    def ask(
        self, image: npt.NDArray[np.uint8], names: tuple[str, ...], settings: Sequence[Setting]
    ) -> list[Prediction]:
        """A prediction for each setting; the network runs once for each sensitivity."""
        segmenter = self._segmenter
        prepared = segmenter.prepare(image)
        inferred: dict[str, Inferred] = {}
        predictions = []
        for setting in settings:
            if setting.sensitivity not in inferred:
                inferred[setting.sensitivity] = segmenter.infer(prepared, self._active(setting.sensitivity, names))
            segmenter.threshold = setting.threshold
            predictions.append(segmenter.finish(inferred[setting.sensitivity]))
        return predictions

    def _active(self, sensitivity: str, names: tuple[str, ...]) -> ActiveClasses:
        if (sensitivity, names) not in self._known:
            self._segmenter.sensitivity = sensitivity
            self._known[sensitivity, names] = self._segmenter.set_classes(names)
        return self._known[sensitivity, names]


def _outcome(prediction: Prediction, position: int, classes: PhotoClasses, name: str) -> Outcome:
    painted: Mask = prediction.labels == position
    share = float(painted.mean())
    truth = classes.masks.get(name)
    if truth is None:
        return Outcome(share, 0.0)
    union = int(((painted & classes.counted) | truth).sum())
    return Outcome(share, float((painted & truth).sum() / union) if union else 0.0)


def _result(
    queries: QuerySet, request: Request, found: list[Query], settings: Sequence[Setting], sensitivities: int
) -> QueryResult:
    """`settings` begin with so many sensitivities, and end with the segmenter's own."""
    scores = [query_score(found, position, setting) for position, setting in enumerate(settings)]
    per_class = {}
    for name in sorted({query.name for query in found}):
        own = query_score([query for query in found if query.name == name], -1, settings[-1])
        per_class[name] = ClassScore(own.asked, own.found, own.nothing, own.mean_iou, own.absent, own.false_alarms)
    return QueryResult(
        dataset=queries.photos.name,
        request=request.value,
        photos=len(queries.photos),
        score=scores[-1],
        sensitivities=tuple(scores[:sensitivities]),
        thresholds=tuple(scores[sensitivities:-1]),
        per_class=per_class,
    )


def query_score(queries: Sequence[Query], position: int, setting: Setting) -> QueryScore:
    """The figures of `queries` from their outcomes number `position`, which are those at `setting`."""
    present = [(query.name, query.outcomes[position]) for query in queries if query.present]
    absent = [query.outcomes[position] for query in queries if not query.present]
    others = [outcome for name, outcome in present if not _is_person(name)]
    persons = [outcome for name, outcome in present if _is_person(name)]
    outcomes = [outcome for _, outcome in present]
    return QueryScore(
        setting=setting,
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
