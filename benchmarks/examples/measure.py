"""n-shot segmentation: examples are drawn from the training split, photos of the validation split are labelled.

All classes of a data set compete, in four ways:

    names             asked for by name, as in `ovs-bench accuracy`
    examples          by n examples each, no names
    names + examples  by both
    weak shown        by name, and those that names do not find by both: what a user would do

Every example is read once; which of them a draw takes then costs nothing. Validation photos run through the exported
graph, once for each list of text vectors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum

import numpy as np
import numpy.typing as npt

from ...bundle.metrics import confusion, intersection_over_union
from ...data.labelled import PhotoSet
from ...runtime.examples.shown_classes import Example
from ...runtime.inference.frame_processor import ActiveClasses
from ...runtime.segmenter import Segmenter
from ..accuracy.class_list import ClassQuery, entries

_LEAST = 0.003  # share of a photo below which a region is no example
_OWN = "example of "  # before a label makes it one that no model was trained with


class AskedBy(str, Enum):
    """How the classes are asked for."""

    NAMES = "names"
    EXAMPLES = "examples"
    BOTH = "names + examples"
    WEAK = "weak shown"


@dataclass(frozen=True)
class ShotScore:
    """Mean IoU over the classes that occur in the truth, mean and standard deviation over the draws."""

    arm: str
    shots: int  # examples of each class; 0: none
    all: float
    all_sd: float
    weak: float | None  # classes that their names do not find; None: there are none
    weak_sd: float | None
    strong: float | None  # the others
    strong_sd: float | None


@dataclass(frozen=True)
class ShotResult:
    """One data set."""

    dataset: str
    photos: int  # of the validation split
    train_photos: int  # that examples come from
    classes: int
    weak: tuple[str, ...]  # classes whose IoU by name is below the bar
    without: tuple[str, ...]  # classes of which the training photos show no region; their names stand for them
    scores: tuple[ShotScore, ...]
    per_class: dict[str, dict[str, float]]  # class -> arm and shots -> IoU, mean over the draws


@dataclass(frozen=True)
class _Plan:
    arm: AskedBy
    shots: int
    active: ActiveClasses


def subset(photos: PhotoSet, count: int) -> PhotoSet:
    """At most `count` photos, evenly spread; 0: all."""
    if not count or count >= len(photos):
        return photos
    chosen = np.linspace(0, len(photos) - 1, count).round().astype(int)
    return replace(photos, files=tuple(photos.files[index] for index in chosen))


def measure_examples(
    segmenter: Segmenter,
    train: PhotoSet,
    val: PhotoSet,
    shots: Sequence[int],
    draws: int,
    weak_below: float,
    on_photo: Callable[[], None] = lambda: None,
) -> ShotResult:
    """Measure one data set; the segmenter must have no background classes and no confidence threshold.

    Raises `UsageError` for a bundle that cannot read examples, `DatasetError`, `SourceError`.
    """
    asked = ClassQuery(segmenter, val.classes)
    names = entries(val.classes)
    named = segmenter.active
    examples = _read(segmenter, asked, train, on_photo)
    by_name = _count(segmenter, asked, val, [_Plan(AskedBy.NAMES, 0, named)], on_photo)[0]
    iou, occurs = _iou(by_name)
    weak = occurs & (np.nan_to_num(iou) < weak_below)
    lists = [next(entry for entry in names if entry.split("|")[0] == label.split("|")[0]) for label in named.labels]
    plans = _plans(segmenter, lists, examples, weak, shots, draws)
    counts = [by_name, *_count(segmenter, asked, val, plans, on_photo)]
    keys = [(AskedBy.NAMES, 0), *((plan.arm, plan.shots) for plan in plans)]
    scores: list[ShotScore] = []
    per_class: dict[str, dict[str, float]] = {label: {} for label in asked.labels}
    for key in dict.fromkeys(keys):
        found = np.stack([_iou(count)[0] for count, other in zip(counts, keys, strict=True) if other == key])
        scores.append(_score(key, found, occurs, weak))
        for label, value, there in zip(asked.labels, found.mean(0), occurs, strict=True):
            if there:
                per_class[label][f"{key[0].value}, {key[1]}" if key[1] else key[0].value] = round(float(value), 4)
    return ShotResult(
        dataset=val.name,
        photos=len(val),
        train_photos=len(train),
        classes=len(asked),
        weak=tuple(label for label, flag in zip(asked.labels, weak, strict=True) if flag),
        without=tuple(label for label, found in zip(asked.labels, examples, strict=True) if not found),
        scores=tuple(scores),
        per_class={label: row for label, row in per_class.items() if row},
    )


def _read(
    segmenter: Segmenter, asked: ClassQuery, train: PhotoSet, on_photo: Callable[[], None]
) -> list[list[Example]]:
    """Every region of the training photos as an example of its class: the class's pixels in one photo.

    As with `Segmenter.add_example`, it is fitted against the names of all other classes.
    """
    found: list[list[Example]] = [[] for _ in range(len(asked))]
    rows = segmenter.active.vocabulary.vectors[: len(asked)]
    others = [np.concatenate([*rows[:label], *rows[label + 1 :]]) for label in range(len(asked))]
    rivals = [segmenter.regions.space.from_text(vectors[vectors.any(axis=1)]) for vectors in others]
    for index in range(len(train)):
        photo = train.load(index)
        truth = asked.truth(photo.truth)
        features = segmenter.regions.features(photo.image)
        for label in np.unique(truth[truth >= 0]).tolist():
            region = truth == label
            if np.count_nonzero(region) >= _LEAST * region.size:
                fitted = features.fitted(region, rivals[label])
                found[label].append(Example(features.vector(region), fitted=fitted))
        on_photo()
    return found


def _plans(
    segmenter: Segmenter,
    lists: Sequence[str],
    examples: Sequence[Sequence[Example]],
    weak: npt.NDArray[np.bool_],
    shots: Sequence[int],
    draws: int,
) -> list[_Plan]:
    """The class lists of every arm, number of examples and draw, with their vectors."""
    space, shown = segmenter.regions.space, segmenter.shown
    plans = []
    for count in shots:
        for draw in range(draws):
            generator = np.random.default_rng([draw, count])
            drawn = [[found[i] for i in generator.permutation(len(found))[:count]] for found in examples]
            for arm in (AskedBy.EXAMPLES, AskedBy.BOTH, AskedBy.WEAK):
                entries_, made = [], []
                for number, (entry, chosen) in enumerate(zip(lists, drawn, strict=True)):
                    if not chosen or (arm is AskedBy.WEAK and not weak[number]):
                        entries_.append(entry)
                        continue
                    label = _OWN + str(number) if arm is AskedBy.EXAMPLES else entry.split("|")[0]
                    entries_.append(label if arm is AskedBy.EXAMPLES else entry)
                    made.append((label, chosen))
                shown.clear()
                for label, chosen in made:
                    shown.set(label, chosen, space)
                plans.append(_Plan(arm, count, segmenter.encode_classes(entries_)))
    shown.clear()
    return plans


def _count(
    segmenter: Segmenter, asked: ClassQuery, val: PhotoSet, plans: Sequence[_Plan], on_photo: Callable[[], None]
) -> list[npt.NDArray[np.int64]]:
    """Confusion (K, K + 1) of every plan over the validation photos."""
    counts = [np.zeros((len(asked), len(asked) + 1), np.int64) for _ in plans]
    for index in range(len(val)):
        photo = val.load(index)
        truth = asked.truth(photo.truth)
        prepared = segmenter.prepare(photo.image)
        for count, plan in zip(counts, plans, strict=True):
            prediction = segmenter.finish(segmenter.infer(prepared, plan.active))
            count += confusion(truth, prediction.labels, len(asked))
        on_photo()
    return counts


def _iou(counts: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """IoU (K,) of the classes, and which of them occur in the truth."""
    return intersection_over_union(counts).per_class, counts.sum(axis=1) > 0


def _score(
    key: tuple[AskedBy, int], found: npt.NDArray[np.float64], occurs: npt.NDArray[np.bool_], weak: npt.NDArray[np.bool_]
) -> ShotScore:
    """Figures of an arm; `found` (draws, K)."""

    def over(which: npt.NDArray[np.bool_]) -> tuple[float | None, float | None]:
        if not which.any():
            return None, None
        means = np.nan_to_num(found[:, which]).mean(axis=1)
        return float(means.mean()), float(means.std())

    all_, all_sd = over(occurs)
    assert all_ is not None
    assert all_sd is not None
    return ShotScore(key[0].value, key[1], all_, all_sd, *over(weak), *over(occurs & ~weak))
