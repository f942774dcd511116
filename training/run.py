"""Builds what a training run needs and shows its progress."""

from __future__ import annotations

import ctypes
import dataclasses
import logging
import sys
from contextlib import ExitStack
from typing import Any

import torch
from rich.console import Console

from ..bundle.errors import CheckpointError, UsageError
from ..bundle.files import cache_folder, replacing
from ..data.datasets import SegmentationDataset
from ..segmenter.checkpoint import load_checkpoint
from ..segmenter.config import SegmenterConfig, TextConfig, preset
from ..segmenter.dense import DenseSegmenter
from ..segmenter.text.clip_text_weights import give_text_tower
from ..segmenter.text.encoder import TorchTextEncoder, load_text_encoder
from .choices import Device
from .distillation.region_cache import RegionVectors, teach_regions
from .distillation.teachers import load_teacher
from .distributed import Ranks, process_group
from .interrupts import Interrupted, StopSignals
from .losses.objectives import TrainableModel, trainable
from .options import RUN_FILE, TrainingRunOptions
from .photos.sets import cached, labelled_by, open_sets
from .pretrained import load_pretrained
from .recipes import Recipe
from .reporting.progress import progress_bar
from .text.vocabulary import training_vocabulary
from .trainer import STATE, Trainer, TrainerContext
from .trainer import Progress as StepProgress

_MOST_MAPPINGS, _TRIM_ABOVE, _TAKE = -4, -1, -2  # parameters of glibc's mallopt
_NEVER = 2**31 - 1
_AT_ONCE = 2**27  # bytes by which the heap grows


def run_training(recipe: Recipe, options: TrainingRunOptions) -> None:
    """Train and write `folder/model.pt`; under torchrun, as one of several processes."""
    ranks = Ranks.from_environment()
    device = _device(options.device, ranks)
    # Only the first process prints.
    console = Console(stderr=True, quiet=not ranks.first)
    logging.basicConfig(format="%(message)s")
    config = preset(recipe.preset)
    if options.threads:
        torch.set_num_threads(options.threads)
    sets = open_sets(options, console)
    if options.dry_run:
        if options.start is not None:
            _model(config, recipe, options)  # raises where that cannot be done
        from .reporting.dry_run import describe

        return describe(config, recipe, sets.train, ranks, console)
    _claim(options, ranks)
    keep_memory()
    with process_group(ranks, cuda=device.type == "cuda"), ExitStack() as stack:
        train = cached(sets.train, options, ranks, console)
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
        if options.pseudo is not None:
            train = labelled_by(options.pseudo, encoder, train, options, ranks, device, console)
        context = TrainerContext(device, ranks, regions, sets.split, origin, text_state)
        trainer = Trainer(model, encoder, train, sets.val, options.folder, recipe.train, recipe.losses, context)
        if options.resume:
            trainer.resume()
        console.print(
            f"{recipe.preset}: {sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters, "
            f"{sum(map(len, datasets))} photos" + f", {ranks.world} processes" * (ranks.world > 1)
        )
        _train(trainer, options, console, stack)


def keep_memory() -> None:
    """Have the allocator keep what a step frees: else the system clears each large map anew, a tenth of a CPU step.

    Does nothing where the C library is not glibc.
    """
    if not sys.platform.startswith("linux"):
        return
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return
    for parameter, value in ((_MOST_MAPPINGS, 0), (_TRIM_ABOVE, _NEVER), (_TAKE, _AT_ONCE)):
        library.mallopt(parameter, value)


def _device(device: Device, ranks: Ranks) -> torch.device:
    if device == Device.CPU:
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise UsageError("--device cuda was asked for, torch sees no CUDA device here; use --device cpu")
    if ranks.local >= torch.cuda.device_count():
        raise UsageError(
            f"process {ranks.local} of this machine has no CUDA device, it has {torch.cuda.device_count()}; start at "
            "most one process per device"
        )
    own = torch.device("cuda", ranks.local)
    torch.cuda.set_device(own)
    return own


def _claim(options: TrainingRunOptions, ranks: Ranks) -> None:
    """Make the folder of a run, and note its options there; raises `UsageError` for one that holds another run."""
    if (options.folder / STATE).exists() and not options.resume:
        raise UsageError(f"{options.folder} holds an earlier run; continue it with --resume or choose another --output")
    try:
        options.folder.mkdir(parents=True, exist_ok=True)
        if ranks.first and options.request and not options.resume:
            with replacing(options.folder / RUN_FILE) as work:
                work.write_text(options.request, encoding="utf-8")
    except OSError as error:
        raise CheckpointError(f"cannot write {options.folder} ({error}); choose a writable folder with -o") from error


def _model(
    config: SegmenterConfig, recipe: Recipe, options: TrainingRunOptions
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
    options: TrainingRunOptions,
    ranks: Ranks,
    device: torch.device,
    console: Console,
) -> RegionVectors:
    teacher = load_teacher(name, encoder, device)
    folder = options.region_cache or cache_folder("regions")
    photos = sum(map(len, datasets))
    with progress_bar(console, "teacher", photos) as bar:
        regions = teach_regions(teacher, datasets, folder, bar.advance, ranks, device)
        bar.update(photos)  # with those of the other processes
    console.print(f"{len(regions.keys)} regions taught, kept in {folder}", markup=False)
    return regions


def _train(trainer: Trainer, options: TrainingRunOptions, console: Console, stack: ExitStack) -> None:
    monitor = None
    if options.tensorboard and trainer.ranks.first:
        from .reporting.monitor import Monitor

        monitor = Monitor(options.folder / "tensorboard", trainer)
        stack.callback(monitor.close)
    bar = stack.enter_context(progress_bar(console, "train", trainer.options.steps, trainer.step))

    def on_step(step: StepProgress) -> None:
        shown = " ".join(
            f"{name} {value:.3f}"
            for name, value in (
                ("class", step.classification), ("mask", step.mask), ("dice", step.dice), ("pixel", step.pixel_text),
                ("drawn", step.drawn), ("region", step.region), ("pairs", step.pairs),
            )
            if value
        )  # fmt: skip
        details = "" if console.is_terminal else f" {shown}, {step.seconds:.2f} s/step"
        bar.update(step.step, f"loss {step.loss:6.2f}{details}")
        if monitor:
            monitor.on_step(step)

    def on_validation(step: int, scores: dict[str, float]) -> None:
        if monitor:
            monitor.on_validation(step, scores)
        shown = "  ".join(f"{name} {score:.3f}" for name, score in scores.items())
        # On one line, however narrow a log's console claims to be.
        console.print(f"step {step}: mIoU {shown or '(no validation data)'}", markup=False, soft_wrap=True)

    stop = StopSignals(together=trainer.ranks.world > 1)
    try:
        with stop.installed():
            trainer.run(on_step, on_validation, stop, options.until)
    except Interrupted as interrupted:
        bar.close()
        console.print(
            f"stopped after step {trainer.step} of {trainer.options.steps}, saved in {options.folder / STATE}; "
            "continue with --resume",
            markup=False, soft_wrap=True,
        )  # fmt: skip
        raise SystemExit(128 + interrupted.number) from None
    except torch.OutOfMemoryError as error:
        raise UsageError(
            f"{trainer.device} has too little memory for {trainer.options.batch} crops of {trainer.options.crop} "
            f"pixels ({str(error).splitlines()[0]}); lower --batch or --crop, or use --precision bf16; --dry-run "
            "prints an estimate"
        ) from error
    skipped = trainer.all_skipped()
    console.print(
        f"wrote {options.folder / 'model.pt'}" + f", {skipped} unreadable files skipped" * (skipped > 0), markup=False
    )
