"""Builds what a training run needs and shows its progress."""

from __future__ import annotations

import dataclasses
import logging
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ..bundle.errors import CheckpointError, DatasetError, UsageError
from ..bundle.files import cache_folder
from ..data.datasets import SegmentationDataset, open_dataset
from ..data.folders import told
from ..data.names.concepts import reconcile
from ..segmenter.checkpoint import load_checkpoint
from ..segmenter.config import SegmenterConfig, TextConfig, preset
from ..segmenter.dense import DenseSegmenter
from ..segmenter.text.clip_text_weights import give_text_tower
from ..segmenter.text.encoder import TorchTextEncoder, load_text_encoder
from .distillation.region_cache import RegionVectors, teach_regions
from .distillation.teachers import load_teacher
from .distributed import Ranks, barrier, process_group
from .interrupts import Interrupted, StopSignals
from .losses.objectives import TrainableModel, trainable
from .photos.cache import cache_photos
from .pretrained import load_pretrained
from .recipes import Recipe
from .splits import check_known, hide, read_split
from .text.vocabulary import training_vocabulary
from .trainer import STATE, Trainer
from .trainer import Progress as StepProgress


@dataclass(frozen=True)
class RunOptions:
    """Where a run reads and writes, and on what it computes; nothing here decides the weights but the data."""

    data: list[tuple[Path, float]]  # folders, and how often each is drawn from
    folder: Path  # for model.pt, the log and the state
    threads: int = 0  # CPU threads; 0 leaves it to torch
    device: str = "cpu"
    resume: bool = False
    pretrained: bool = True  # start the backbone from published weights
    start: Path | None = None  # a `model.pt` whose weights the whole model starts from
    clip_text: str = ""  # CLIP whose text tower and backbone a preset with CLIP's text uses; empty: the preset's own
    split: Path | None = None  # see `training.splits`
    region_cache: Path | None = None  # None: under the user's cache folder
    photo_cache: Path | None = None  # folder for decoded photos; None: under the user's cache folder
    cache_gb: float = 8.0  # most gigabytes of decoded photos of one dataset; 0: none are kept
    tensorboard: bool = False
    dry_run: bool = False


def run_training(recipe: Recipe, options: RunOptions) -> None:
    """Train and write `folder/model.pt`; under torchrun, as one of several processes."""
    ranks = Ranks.from_environment()
    device = _device(options.device, ranks)
    # The first process speaks for all.
    console = Console(stderr=True, quiet=not ranks.first)
    logging.basicConfig(format="%(message)s")
    config = preset(recipe.preset)
    if options.threads:
        torch.set_num_threads(options.threads)
    train = [(open_dataset(path, "train"), weight) for path, weight in options.data]
    val = _validation_splits(options.data, console)
    for dataset in (*(entry for entry, _ in train), *val):
        for reason in told(dataset.skipped):
            console.print(f"{dataset.name}: left out: {reason}", markup=False, soft_wrap=True)
    split = None if options.split is None else read_split(options.split)
    if split is not None:
        check_known((dataset for dataset, _ in train), split)
        train = [(hide(dataset, split), weight) for dataset, weight in train]
    train = _reconciled(train)
    if options.dry_run:
        if options.start is not None:
            _model(config, recipe, options)  # tells whether that can be done
        from .dry_run import describe

        return describe(config, recipe, train, ranks, console)
    _claim(options)
    with process_group(ranks, device.type == "cuda"), ExitStack() as stack:
        train = _cached(train, options, ranks, console)
        model, origin = _model(config, recipe, options)
        towers: dict[str, Any] = {}
        if options.clip_text:
            give_text_tower(model, towers, options.clip_text, recipe.preset)
        text_state = towers.get("text_encoder")
        encoder = load_text_encoder(model.config.text, text_state, options.clip_text)
        datasets = [dataset for dataset, _ in train]
        if isinstance(model, DenseSegmenter) and origin is None and not options.resume:
            model.names.whiten(encoder.encode([entry[0] for entry in training_vocabulary(datasets)]))
        regions = None
        if recipe.teacher:
            regions = _taught(recipe.teacher, encoder, datasets, options, ranks, device, console)
        trainer = Trainer(
            model, encoder, train, val, options.folder, recipe.train, recipe.losses, device, regions, ranks, text_state,
            split, origin,
        )  # fmt: skip
        if options.resume:
            trainer.resume()
        console.print(
            f"{recipe.preset}: {sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters, "
            f"{sum(map(len, datasets))} photos" + f", {ranks.world} processes" * (ranks.world > 1)
        )
        _train(trainer, options, console, stack)


def _reconciled(train: list[tuple[SegmentationDataset, float]]) -> list[tuple[SegmentationDataset, float]]:
    """The datasets with one entry of names for each concept, see `reconcile`."""
    classes = reconcile([dataset.classes for dataset, _ in train])
    return [
        (dataclasses.replace(dataset, classes=own), weight)
        for (dataset, weight), own in zip(train, classes, strict=True)
    ]


def _cached(
    train: list[tuple[SegmentationDataset, float]], options: RunOptions, ranks: Ranks, console: Console
) -> list[tuple[SegmentationDataset, float]]:
    """The datasets with their photos decoded once and kept, as far as they are small enough."""
    if not options.cache_gb:
        return train
    folder = options.photo_cache or cache_folder("photos")
    if not ranks.first:  # those of a machine share the files that the first process writes
        barrier()
    found = []
    with _bar(console) as bar:
        task = bar.add_task("photos", total=sum(len(dataset) for dataset, _ in train))
        for dataset, weight in train:
            most = int(options.cache_gb * 1e9)
            cached = cache_photos(dataset, folder, most, lambda count: bar.advance(task, count))
            if cached is dataset:
                console.print(
                    f"{dataset.name}: decoded photos would take more than {options.cache_gb:g} GB or half of the free disk, "
                    "so none are kept; its photos are drawn without balance (more: --cache-gb)",
                    markup=False, soft_wrap=True,
                )  # fmt: skip
            found.append((cached, weight))
    if ranks.first:
        barrier()
    return found


def _device(name: str, ranks: Ranks) -> torch.device:
    if name == "cuda":
        if not torch.cuda.is_available():
            raise UsageError("--device cuda was asked for, torch sees no CUDA device here; use --device cpu")
        if ranks.local >= torch.cuda.device_count():
            raise UsageError(
                f"process {ranks.local} of this machine has no CUDA device, there are {torch.cuda.device_count()}; start no "
                "more processes than devices"
            )
        device = torch.device("cuda", ranks.local)
        torch.cuda.set_device(device)
        return device
    if name != "cpu":
        raise UsageError(f"--device is {name!r}, expected cpu or cuda")
    return torch.device("cpu")


def _claim(options: RunOptions) -> None:
    if (options.folder / STATE).exists() and not options.resume:
        raise UsageError(f"{options.folder} holds an earlier run; go on with --resume or choose another --output")
    try:
        options.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CheckpointError(f"cannot write {options.folder} ({error}); choose a writable folder with -o") from error


def _validation_splits(data: list[tuple[Path, float]], console: Console) -> list[SegmentationDataset]:
    splits = []
    for path, _ in data:
        try:
            splits.append(open_dataset(path, "val"))
        except DatasetError as error:
            console.print(f"no validation on {path.name}: {error}", markup=False)
    return splits


def _model(
    config: SegmenterConfig, recipe: Recipe, options: RunOptions
) -> tuple[TrainableModel, dict[str, Any] | None]:
    """The model as the first step finds it, and the provenance of the checkpoint it starts from."""
    torch.manual_seed(recipe.train.seed)
    model = trainable(config)
    if options.start is not None:
        started, extras = load_checkpoint(options.start)
        if type(started) is not type(model) or _but_text(started.config) != _but_text(config):
            raise CheckpointError(
                f"{options.start} holds another model than {recipe.preset}; start from one of its kind"
            )
        model.load_state_dict(started.state_dict())
        return model, extras["provenance"]
    if options.pretrained and not options.resume:
        load_pretrained(model, options.clip_text)
    return model, None


def _but_text(config: SegmenterConfig) -> SegmenterConfig:
    """What has to be the same for weights to fit: of the text encoder, only its kind and the size of its vectors."""
    text = TextConfig(config.text.kind, config.text.dim, 0, 0, 0, 0, 0)
    return dataclasses.replace(config, text=text)


def _taught(
    name: str,
    encoder: TorchTextEncoder,
    datasets: list[SegmentationDataset],
    options: RunOptions,
    ranks: Ranks,
    device: torch.device,
    console: Console,
) -> RegionVectors:
    teacher = load_teacher(name, encoder, device)
    folder = options.region_cache or cache_folder("regions")
    photos = sum(map(len, datasets))
    with _bar(console) as bar:
        task = bar.add_task("teacher", total=photos)
        regions = teach_regions(teacher, datasets, folder, lambda count: bar.advance(task, count), ranks, device)
        bar.update(task, completed=photos)  # with those of the other processes
    console.print(f"{len(regions.keys)} regions taught, kept in {folder}", markup=False)
    return regions


def _train(trainer: Trainer, options: RunOptions, console: Console, stack: ExitStack) -> None:
    monitor = None
    if options.tensorboard and trainer.ranks.first:
        from .monitor import Monitor

        monitor = Monitor(options.folder / "tensorboard", trainer)
        stack.callback(monitor.close)
    bar = stack.enter_context(_bar(console))
    task = bar.add_task("train", total=trainer.options.steps, completed=trainer.step)
    started = time.monotonic()

    def on_step(step: StepProgress) -> None:
        bar.update(task, completed=step.step, description=f"loss {step.loss:6.2f}")
        if monitor:
            monitor.on_step(step)
        if not console.is_terminal and step.step % 100 == 0:
            shown = " ".join(
                f"{name} {value:.3f}"
                for name, value in (
                    ("class", step.classification), ("mask", step.mask), ("dice", step.dice), ("pixel", step.pixel_text),
                    ("drawn", step.drawn), ("region", step.region), ("pairs", step.pairs),
                )
                if value
            )  # fmt: skip
            console.print(
                f"step {step.step} loss {step.loss:.2f} {shown} {step.seconds:.2f} s/step "
                f"{time.monotonic() - started:.0f} s"
            )

    def on_validation(step: int, scores: dict[str, float]) -> None:
        if monitor:
            monitor.on_validation(step, scores)
        shown = "  ".join(f"{name} {score:.3f}" for name, score in scores.items())
        # On one line, however narrow a log's console claims to be.
        console.print(f"step {step}: mIoU {shown or '(no validation data)'}", markup=False, soft_wrap=True)

    stop = StopSignals(together=trainer.ranks.world > 1)
    try:
        with stop.installed():
            trainer.run(on_step, on_validation, stop)
    except Interrupted as interrupted:
        bar.stop()
        console.print(
            f"stopped after step {trainer.step} of {trainer.options.steps}, {options.folder / STATE} holds all of it; go on "
            "with --resume",
            markup=False, soft_wrap=True,
        )  # fmt: skip
        raise SystemExit(128 + interrupted.number) from None
    except torch.OutOfMemoryError as error:
        raise UsageError(
            f"{trainer.device} has too little memory for {trainer.options.batch} crops of {trainer.options.crop} pixels "
            f"({str(error).splitlines()[0]}); lower --batch or --crop, or use --precision bf16; --dry-run estimates"
        ) from error
    skipped = trainer.all_skipped()
    console.print(
        f"wrote {options.folder / 'model.pt'}" + f", {skipped} unreadable files skipped" * (skipped > 0), markup=False
    )


def _bar(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console
    )
