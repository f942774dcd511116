"""Copy-paste: things cut out of one photo and put into a crop of another (Ghiasi et al., CVPR 2021).

A thing of a class that the crop's dataset has, under whatever name, is labelled as that class. A thing that certainly
is none of the dataset's classes becomes background there, which teaches datasets of people alone what is no person.
What may overlap one of them (a face, in a dataset of persons) is not pasted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from ...bundle.errors import DatasetError
from ...bundle.metrics import IGNORE
from ...data.datasets import SegmentationDataset, TrainingSample
from ...data.names.concepts import concept
from ...runtime.vocabulary.background import Spellings
from .augment import AugmentOptions, view_scale
from .sampling import class_by_chance, photos_by_class

# Concepts whose masks cut out a whole thing. Tables are left out: COCO's masks of them hold what lies on the table.
THINGS = frozenset(
    (
        "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light",
        "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow",
        "elephant", "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee",
        "skis", "snowboard", "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard",
        "tennis racket", "bottle", "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple",
        "sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch",
        "potted plant", "bed", "toilet", "tv", "laptop", "mouse", "remote", "keyboard", "cell phone", "microwave",
        "oven", "toaster", "sink", "refrigerator", "book", "clock", "vase", "scissors", "teddy bear", "hair drier",
        "toothbrush",
    )
)  # fmt: skip
_LEAST_AREA = 300  # pixels of a thing in its photo; of less nothing can be recognised
_MOST_SHARE = 0.6  # of its photo; more is no thing in front of something
_MOST_PASTED = 3  # things in one crop
_SCALE = (0.5, 1.4)  # of a thing, times its size in the deployed view
_FOREIGN = 0.3  # share of the things pasted that may be none of the dataset's classes


@dataclass(frozen=True)
class _Source:
    dataset: int
    index: int  # class in that dataset
    photos: npt.NDArray[np.intp]


@dataclass(frozen=True)
class Cutout:
    """A thing on its own."""

    image: npt.NDArray[np.uint8]  # (h, w, 3) BGR, its box
    mask: npt.NDArray[np.bool_]  # (h, w)


class Paster:
    """Cuts things out of cached datasets and pastes them into crops."""

    def __init__(self, datasets: Sequence[SegmentationDataset], options: AugmentOptions) -> None:
        self._datasets, self._options = datasets, options
        sources: dict[str, list[_Source]] = {}
        for number, dataset in enumerate(datasets):
            for index, photos in photos_by_class(dataset).items():
                name = concept(dataset.classes[index].names[0])
                if name in THINGS:
                    sources.setdefault(name, []).append(_Source(number, index, photos))
        self._names = sorted(sources)
        self._sources = [sources[name] for name in self._names]
        self._labels = [self._labelled_as(dataset) for dataset in datasets]

    def _labelled_as(self, dataset: SegmentationDataset) -> dict[int, int]:
        """Number of a thing -> class of the dataset, or `IGNORE` for what is certainly none."""
        own = {concept(entry.names[0]): index for index, entry in enumerate(dataset.classes)}
        near = Spellings.of(name for entry in dataset.classes for name in (*entry.names, *entry.related))
        found = {}
        for number, name in enumerate(self._names):
            source = self._sources[number][0]
            words = self._datasets[source.dataset].classes[source.index]
            if name in own:
                found[number] = own[name]
            elif not any(map(near.match, (*words.names, *words.related))):
                found[number] = IGNORE
        return found

    def paste(self, crop: TrainingSample, dataset: int, rng: np.random.Generator) -> TrainingSample:
        """The crop of a photo of `dataset` with one to three things in it; fewer where a photo cannot be read."""
        known, foreign = (
            {
                number: self._weights(number)
                for number, label in self._labels[dataset].items()
                if (label == IGNORE) == kind
            }
            for kind in (False, True)
        )
        for _ in range(int(rng.integers(1, _MOST_PASTED + 1))):
            among = foreign if foreign and (not known or rng.random() < _FOREIGN) else known
            if not among:
                break
            number = class_by_chance(among, 0.25, rng)
            cutout = self._cut_out(number, rng)
            if cutout is not None:
                crop = put(crop, cutout, self._labels[dataset][number], rng)
        return crop

    def _weights(self, number: int) -> npt.NDArray[np.intp]:
        return np.concatenate([source.photos for source in self._sources[number]])

    def _cut_out(self, number: int, rng: np.random.Generator) -> Cutout | None:
        sources = self._sources[number]
        sizes = np.array([len(source.photos) for source in sources], np.float64)
        source = sources[int(rng.choice(len(sources), p=sizes / sizes.sum()))]
        photo = int(rng.choice(source.photos))
        try:
            sample = self._datasets[source.dataset].load(photo)
        except DatasetError:  # a cached photo is readable, unless its file was lost since
            return None
        part = connected_part(sample.labels == source.index, rng)
        if part is None:
            return None
        rows, columns = (np.flatnonzero(part.any(axis)) for axis in (1, 0))
        box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
        factor = view_scale(sample, self._options) * float(np.exp(rng.uniform(*np.log(_SCALE))))
        most = 0.8 * self._options.crop / max(len(rows), columns[-1] + 1 - columns[0], rows[-1] + 1 - rows[0])
        return _resized(Cutout(sample.image[box], part[box]), min(factor, most), mirrored=bool(rng.random() < 0.5))


def connected_part(mask: npt.NDArray[np.bool_], rng: np.random.Generator) -> npt.NDArray[np.bool_] | None:
    """One connected part of the mask (H, W), of those that are neither tiny nor nearly the whole photo."""
    _, numbers, statistics, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4)
    areas = statistics[1:, cv2.CC_STAT_AREA]
    fit = np.flatnonzero((areas >= _LEAST_AREA) & (areas <= _MOST_SHARE * mask.size)) + 1
    return np.asarray(numbers == int(rng.choice(fit)), np.bool_) if len(fit) else None


def _resized(cutout: Cutout, factor: float, *, mirrored: bool) -> Cutout:
    height, width = (max(1, round(side * factor)) for side in cutout.mask.shape)
    smooth = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    image = np.asarray(cv2.resize(cutout.image, (width, height), interpolation=smooth), np.uint8)
    mask = cv2.resize(cutout.mask.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST_EXACT) > 0
    return Cutout(image[:, ::-1], mask[:, ::-1]) if mirrored else Cutout(image, mask)


def put(crop: TrainingSample, cutout: Cutout, label: int, rng: np.random.Generator) -> TrainingSample:
    """The crop with the cutout somewhere in it, at most half of its box outside; `label` `IGNORE` makes it
    background."""
    corner = [
        int(rng.integers(-(own // 2), max(1, side - own // 2)))
        for own, side in zip(cutout.mask.shape, crop.labels.shape, strict=True)
    ]
    first = [max(0, start) for start in corner]
    last = [
        min(side, start + own) for start, own, side in zip(corner, cutout.mask.shape, crop.labels.shape, strict=True)
    ]
    here = slice(first[0], last[0]), slice(first[1], last[1])
    there = tuple(slice(a - start, b - start) for a, b, start in zip(first, last, corner, strict=True))
    mask, source = cutout.mask[there], cutout.image[there]
    # A soft edge, or cut-outs would be known by their staircase.
    alpha = cv2.GaussianBlur(mask.astype(np.float32), (3, 3), 0)[..., None]
    image, labels = crop.image.copy(), crop.labels.copy()
    background = np.zeros(labels.shape, np.bool_) if crop.background is None else crop.background.copy()
    image[here] = np.round(alpha * source + (1 - alpha) * image[here]).astype(np.uint8)
    labels[here][mask] = label
    background[here][mask] = label == IGNORE
    return TrainingSample(image, labels, crop.name, background)
