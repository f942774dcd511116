"""Which labels a model gives to unlabelled pixels: of every class the surest ones (Zou et al., ECCV 2018).

A fixed threshold would label easy classes everywhere and rare ones nowhere. So each class has its own: of the places
that the model calls by its name, the surest share becomes labels, though never below a least probability. A place
where all of a dataset's own classes together are improbable becomes background there.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import cv2
import numpy as np
import numpy.typing as npt
import torch

from ...bundle.errors import CheckpointError, DatasetError
from ...bundle.files import replacing
from ...bundle.metrics import IGNORE
from ...data.datasets import SegmentationDataset, TrainingSample
from ...data.names.category_names import CategoryNames
from ...segmenter.text.encoder import TorchTextEncoder
from ..losses.objectives import TrainableModel
from ..photos.cache import dataset_fingerprint
from ..text.vocabulary import rival_names
from ..validate import probabilities
from .dataset import BACKGROUND_MARK, PseudoLabelled, with_pseudo_labels

_log = logging.getLogger("ovs_edge.training")
_MOST_CLASSES = BACKGROUND_MARK  # a map has a byte a place, and two values that are no class


@dataclass(frozen=True)
class PseudoOptions:
    """How sure a model must be."""

    share: float = 0.5  # of a class's places that become labels, the surest ones
    least: float = 0.7  # probability below which no place does
    background: float = 0.03  # probability of all own classes together up to which a place is background
    view: int = 384  # side of the network's input


@runtime_checkable
class Labeller(Protocol):
    """A model of another kind that gives names to the places of a photo."""

    def vectors(self, names: Sequence[str]) -> torch.Tensor:
        """What `probabilities` takes for the classes `names`."""

    def probabilities(self, photo: npt.NDArray[np.uint8], vectors: torch.Tensor) -> npt.NDArray[np.float32]:
        """Probability (K + 1, h, w) of every class at the places of a BGR photo, the last that of none of them."""


@dataclass(frozen=True)
class _Guess:
    """What the model says of one photo."""

    classes: npt.NDArray[np.uint8]  # (h, w) most probable class among all
    chance: npt.NDArray[np.uint8]  # (h, w) its probability, 0..255
    foreign: npt.NDArray[np.bool_]  # (h, w) own classes are improbable


def label_datasets(
    model: TrainableModel | Labeller,
    encoder: TorchTextEncoder,
    datasets: Sequence[SegmentationDataset],
    options: PseudoOptions,
    folder: Path,
    origin: str,
    on_photos: Callable[[int], None] = lambda count: None,
) -> list[PseudoLabelled]:
    """The datasets with labels by `model`, from the cache in `folder` where it has them.

    The further classes of a dataset are those of the others that mean none of its own, see `rival_names`. `origin`:
    digest of the model's weights; `on_photos` is called with the number of photos done. Raises `CheckpointError` when
    the cache cannot be written, `DatasetError` for more classes than a map can tell apart.
    """
    by_name = {entry.names[0]: entry for dataset in datasets for entry in dataset.classes}
    others = [tuple(by_name[name] for name in names) for names in rival_names(list(datasets), encoder)]
    key = _key(datasets, others, options, origin)
    path = folder / f"{key[:32]}.npz"
    maps = _read(path, datasets)
    if maps is None:
        maps = _label(model, encoder, datasets, others, options, on_photos)
        _write(path, maps)
    else:
        on_photos(sum(map(len, datasets)))
    return [
        with_pseudo_labels(dataset, more, found, key)
        for dataset, more, found in zip(datasets, others, maps, strict=True)
    ]


def _label(
    model: TrainableModel | Labeller,
    encoder: TorchTextEncoder,
    datasets: Sequence[SegmentationDataset],
    others: Sequence[tuple[CategoryNames, ...]],
    options: PseudoOptions,
    on_photos: Callable[[int], None],
) -> list[tuple[npt.NDArray[np.uint8], ...]]:
    names = [[entry.names[0] for entry in (*d.classes, *more)] for d, more in zip(datasets, others, strict=True)]
    guesses: list[list[_Guess | None]] = []
    seen: dict[str, npt.NDArray[np.int64]] = {}  # name -> places of each probability, where nothing is labelled
    for dataset, words in zip(datasets, names, strict=True):
        if len(words) > _MOST_CLASSES:
            raise DatasetError(f"the datasets have {len(words)} classes, pseudo-labels can tell {_MOST_CLASSES} apart")
        vectors = model.vectors(words) if isinstance(model, Labeller) else encoder.encode(words)[:, None]
        found: list[_Guess | None] = []
        for index in range(len(dataset)):
            on_photos(1)
            try:
                sample = dataset.load(index)
            except DatasetError as error:
                _log.warning("not labelled: %s", error)
                found.append(None)
                continue
            guess = _guess(model, sample, vectors, len(dataset.classes), options)
            found.append(guess)
            open_places = _open_places(sample, guess, len(dataset.classes))
            for number in np.unique(guess.classes[open_places]):
                chances = guess.chance[open_places & (guess.classes == number)]
                counted = seen.setdefault(words[number], np.zeros(256, np.int64))
                counted += np.bincount(chances, minlength=256)
        guesses.append(found)
    least = {name: _threshold(counted, options) for name, counted in seen.items()}
    return [
        tuple(_map(guess, [least.get(name, 256) for name in words]) for guess in found)
        for found, words in zip(guesses, names, strict=True)
    ]


def _guess(
    model: TrainableModel | Labeller, sample: TrainingSample, vectors: torch.Tensor, own: int, options: PseudoOptions
) -> _Guess:
    # (K + 1, h, w), the last "none of them"
    if isinstance(model, Labeller):
        chances = model.probabilities(sample.image, vectors)
    else:
        chances = probabilities(model, sample.image, vectors, options.view)
    named = chances[:-1]
    classes = named.argmax(0)
    best = np.take_along_axis(named, classes[None], 0)[0]
    foreign = named[:own].sum(0) <= options.background
    return _Guess(classes.astype(np.uint8), np.round(best * 255).astype(np.uint8), foreign)


def _open_places(sample: TrainingSample, guess: _Guess, own: int) -> npt.NDArray[np.bool_]:
    """Places of a guess where the dataset has no label, and where it does not rule out the class."""
    size = guess.classes.shape[::-1]
    labels = cv2.resize(sample.labels, size, interpolation=cv2.INTER_NEAREST_EXACT)
    places = labels == IGNORE
    if sample.background is not None:
        ruled = cv2.resize(sample.background.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST_EXACT) > 0
        places &= ~ruled | (guess.classes >= own)
    return np.asarray(places, np.bool_)


def _threshold(counted: npt.NDArray[np.int64], options: PseudoOptions) -> int:
    """Probability, 0..255, from which a class's places become labels."""
    above = counted[::-1].cumsum()[::-1]  # places at least as sure
    fit = np.flatnonzero(above >= options.share * counted.sum())
    return max(int(fit[-1]), round(options.least * 255))


def _map(guess: _Guess | None, least: Sequence[int]) -> npt.NDArray[np.uint8]:
    if guess is None:
        return np.full((1, 1), IGNORE, np.uint8)
    sure = guess.chance >= np.asarray(least)[guess.classes]
    sure &= _inside(guess.classes)
    marks = np.where(guess.foreign, BACKGROUND_MARK, IGNORE).astype(np.uint8)
    marks[sure] = guess.classes[sure]
    return marks


def _inside(classes: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Places whose neighbours are of the same class: borders are where a model errs."""
    kernel = np.ones((3, 3), np.uint8)
    return np.asarray(cv2.erode(classes, kernel) == cv2.dilate(classes, kernel), np.bool_)


def _key(
    datasets: Sequence[SegmentationDataset],
    others: Sequence[tuple[CategoryNames, ...]],
    options: PseudoOptions,
    origin: str,
) -> str:
    content = [
        [dataset_fingerprint(dataset), [entry.names[0] for entry in (*dataset.classes, *more)]]
        for dataset, more in zip(datasets, others, strict=True)
    ]
    return hashlib.sha256(json.dumps([content, asdict(options), origin]).encode()).hexdigest()


def _read(path: Path, datasets: Sequence[SegmentationDataset]) -> list[tuple[npt.NDArray[np.uint8], ...]] | None:
    found = []
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            for number, dataset in enumerate(datasets):
                sizes, places = file[f"sizes{number}"], file[f"places{number}"]
                ends = sizes.prod(1).cumsum()
                if len(sizes) != len(dataset) or (len(ends) and ends[-1] != len(places)):
                    return None
                parts = np.split(places, ends[:-1]) if len(ends) else []
                found.append(tuple(part.reshape(size) for part, size in zip(parts, sizes.tolist(), strict=True)))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None  # absent or damaged: labelled again
    return found


def _write(path: Path, maps: Sequence[tuple[npt.NDArray[np.uint8], ...]]) -> None:
    arrays: dict[str, Any] = {}
    for number, found in enumerate(maps):
        arrays[f"sizes{number}"] = np.array([part.shape for part in found], np.int64).reshape(-1, 2)
        arrays[f"places{number}"] = np.concatenate([np.empty(0, np.uint8), *(part.ravel() for part in found)])
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path, str(os.getpid())) as work:
            work.write_bytes(content.getvalue())
    except OSError as error:
        raise CheckpointError(f"cannot write {path} ({error}); free some space") from error
