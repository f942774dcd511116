"""The datasets of a run, ready to draw crops from: opened, split, under one set of names, cached, pseudo-labelled."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console

from ...bundle.errors import CheckpointError, DatasetError, UsageError
from ...bundle.files import cache_folder
from ...data.datasets import SegmentationDataset, open_dataset
from ...data.folders import told
from ...data.names.concepts import reconcile
from ...data.recognised import recognise
from ...segmenter.checkpoint import load_checkpoint
from ...segmenter.dense import DenseSegmenter
from ...segmenter.model import SegmenterModel
from ...segmenter.text.encoder import TorchTextEncoder
from ..distillation.clip_dense import PREFIX, clip_dense_labels
from ..distributed import Ranks, barrier
from ..losses.objectives import TrainableModel
from ..options import TrainingRunOptions
from ..pseudo.dataset import open_photos
from ..pseudo.labels import Labeller, PseudoOptions, label_datasets
from ..reporting.progress import progress_bar
from ..splits import Split, check_known, hide, read_split
from .cache import cache_photos

Weighted = list[tuple[SegmentationDataset, float]]


@dataclass(frozen=True)
class RunSets:
    """The data of a run, as far as reading needs no model."""

    train: Weighted  # each dataset, and how often it is drawn from
    val: list[SegmentationDataset]
    split: Split | None


def open_sets(options: TrainingRunOptions, console: Console) -> RunSets:
    """Open what the options name; raises `DatasetError` and `UsageError`."""
    data = [(_recognised(path, console), weight) for path, weight in options.data]
    train: Weighted = [(open_dataset(path, "train"), weight) for path, weight in data]
    if options.photos and options.pseudo is None:
        raise UsageError("photos without masks were given, and no model to label them; name one with --pseudo")
    val = [found for path, _ in data if (found := _validation_split(path, console)) is not None]
    for dataset in (*(entry for entry, _ in train), *val):
        for reason in told(dataset.skipped):
            console.print(f"{dataset.name}: left out: {reason}", markup=False, soft_wrap=True)
    split = None if options.split is None else read_split(options.split)
    if split is not None:
        check_known((dataset for dataset, _ in train), split)
        train = [(hide(dataset, split), weight) for dataset, weight in train]
    unlabelled: Weighted = [(open_photos(path), weight) for path, weight in options.photos]
    return RunSets([*under_one_set_of_names(train), *unlabelled], val, split)


def _recognised(path: Path, console: Console) -> Path:
    """The folder as training reads it; says what it was taken for."""
    found = recognise(path)
    for line in (found.about, *(f"{path.name}: left out: {reason}" for reason in told(found.skipped))):
        console.print(line, markup=False, soft_wrap=True)
    return found.place


def _validation_split(path: Path, console: Console) -> SegmentationDataset | None:
    try:
        return open_dataset(path, "val")
    except DatasetError as error:
        console.print(f"no validation on {path.name}: {error}", markup=False, soft_wrap=True)
        return None


def under_one_set_of_names(train: Weighted) -> Weighted:
    """The datasets with one entry of names for each concept, see `reconcile`."""
    classes = reconcile([dataset.classes for dataset, _ in train])
    return [
        (dataclasses.replace(dataset, classes=own), weight)
        for (dataset, weight), own in zip(train, classes, strict=True)
    ]


def cached(train: Weighted, options: TrainingRunOptions, ranks: Ranks, console: Console) -> Weighted:
    """The datasets with their photos decoded once and kept, as far as they are small enough."""
    if not options.cache_gb:
        return train
    folder = options.photo_cache or cache_folder("photos")
    if not ranks.first:  # those of a machine share the files that the first process writes
        barrier()
    found: Weighted = []
    with progress_bar(console, "photos", sum(len(dataset) for dataset, _ in train)) as bar:
        for dataset, weight in train:
            kept = cache_photos(dataset, folder, int(options.cache_gb * 1e9), bar.advance)
            if kept is dataset:
                console.print(
                    f"{dataset.name}: decoded photos would take more than {options.cache_gb:g} GB or half of the free "
                    "disk, so none are kept; its photos are drawn without balance (more: --cache-gb)",
                    markup=False, soft_wrap=True,
                )  # fmt: skip
            found.append((kept, weight))
    if ranks.first:
        barrier()
    return found


def labelled_by(
    path: Path,
    encoder: TorchTextEncoder,
    train: Weighted,
    options: TrainingRunOptions,
    ranks: Ranks,
    device: torch.device,
    console: Console,
) -> Weighted:
    """The datasets with labels by a model where they have none; raises `CheckpointError` for one of another space.

    `path` is a `model.pt`, or clip-dense:SOURCE for a plain CLIP.
    """
    labeller, digest = _labeller(str(path), encoder, device)
    datasets: Sequence[SegmentationDataset] = [dataset for dataset, _ in train]
    folder = (options.photo_cache or cache_folder("photos")) / "pseudo"
    if not ranks.first:
        barrier()
    with progress_bar(console, "labels", sum(map(len, datasets))) as bar:
        settings = PseudoOptions(share=options.pseudo_share)
        found = label_datasets(labeller, encoder, datasets, settings, folder, digest, bar.advance)
    if ranks.first:
        barrier()
    return [(dataset, weight) for dataset, (_, weight) in zip(found, train, strict=True)]


def _labeller(name: str, encoder: TorchTextEncoder, device: torch.device) -> tuple[TrainableModel | Labeller, str]:
    """What labels photos, and the digest of its weights."""
    if name.startswith(PREFIX):
        return clip_dense_labels(name, device)
    path = Path(name)
    model, _ = load_checkpoint(path)
    if not isinstance(model, SegmenterModel | DenseSegmenter):
        raise CheckpointError(
            f"{path} holds a model of the family {model.config.family!r}; pseudo-labels need one trained here"
        )
    if model.config.text.kind != encoder.config.kind or model.config.text.dim != encoder.config.dim:
        raise CheckpointError(
            f"{path} uses another text encoder than the model to be trained; name a model with the same one"
        )
    return model.to(device), hashlib.sha256(path.read_bytes()).hexdigest()
