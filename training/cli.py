"""`ovs-train`: datasets in, `model.pt` out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ovs_edge.bundle.errors import UsageError, exit_on_error, require

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.command()
def train(
    data: Annotated[list[str], typer.Option(help="Dataset folder, once or more; FOLDER:WEIGHT draws it more often.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for model.pt, the log and the state.")] = Path(
        "runs/mini"
    ),
    preset: Annotated[str, typer.Option(help="Model: mini, gkc_r50 or gkc_r101.")] = "mini",
    steps: Annotated[int, typer.Option(min=1, help="Optimiser steps.")] = 6000,
    batch: Annotated[int, typer.Option(min=1, help="Photos a step.")] = 8,
    crop: Annotated[int, typer.Option(min=64, help="Side of the training crops, pixels; a multiple of 32.")] = 256,
    view: Annotated[int, typer.Option(min=64, help="Input side at deployment, pixels; a multiple of 32.")] = 384,
    lr: Annotated[float, typer.Option(min=1e-8, help="Peak learning rate.")] = 6e-4,
    validate_every: Annotated[int, typer.Option(min=1, help="Steps between validations; each saves.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Decides crops, names and sampling.")] = 0,
    workers: Annotated[int, typer.Option(min=0, help="Processes that read photos.")] = 1,
    threads: Annotated[int, typer.Option(min=0, help="CPU threads; 0 leaves it to torch.")] = 0,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    resume: Annotated[bool, typer.Option(help="Go on from the state in the output folder.")] = False,
    pretrained: Annotated[bool, typer.Option(help="Start mini's backbone from its ImageNet weights.")] = True,
) -> None:
    """Train a segmenter on photos with named masks."""
    for value, name in ((crop, "--crop"), (view, "--view")):
        if value % 32:
            raise UsageError(f"{name} is {value}, expected a multiple of 32")
    require("torch", "train")
    from ovs_edge.training.run import run_training
    from ovs_edge.training.trainer import TrainOptions

    options = TrainOptions(
        steps=steps, batch=batch, crop=crop, view=view, lr=lr, validate_every=validate_every, seed=seed,
        workers=workers, warmup=min(200, max(1, steps // 10)),
    )  # fmt: skip
    run_training([_weighted(entry) for entry in data], output, preset, options, threads, device, resume, pretrained)


def _weighted(entry: str) -> tuple[Path, float]:
    folder, separator, weight = entry.rpartition(":")
    if separator and not Path(entry).exists():
        try:
            value = float(weight)
        except ValueError:
            value = 0.0
        if not value > 0:
            raise UsageError(f"--data {entry}: the weight {weight!r} is not a positive number; write FOLDER:0.5")
        return Path(folder), value
    return Path(entry), 1.0


def main() -> None:
    """Console entry point."""
    exit_on_error(app)


if __name__ == "__main__":
    main()
