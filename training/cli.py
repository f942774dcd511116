"""`ovs-train`: datasets in, `model.pt` out."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast

import typer

from ..bundle.errors import UsageError, require
from ..runtime.command_line import run_command

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
_Options = TypeVar("_Options")


@app.command()
def train(
    data: Annotated[list[str], typer.Option(help="Dataset folder, once or more; FOLDER:WEIGHT draws it more often.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for model.pt, the log and the state.")] = Path(
        "runs/mini"
    ),
    recipe: Annotated[
        str,
        typer.Option(
            help="plain, guided (diversification and distillation), everyday (guided, for several datasets), dense (a model "
            "without queries, for several datasets) or paper; "
            "gives all defaults below."
        ),
    ] = "plain",
    preset: Annotated[str | None, typer.Option(help="Model: mini, dense_mini, gkc_r50 or gkc_r101.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Optimiser steps.")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Photos a step, of all processes together.")] = None,
    crop: Annotated[int | None, typer.Option(min=64, help="Side of the crops, pixels; a multiple of 32.")] = None,
    view: Annotated[int | None, typer.Option(min=64, help="Input side at deployment, a multiple of 32.")] = None,
    lr: Annotated[float | None, typer.Option(min=1e-8, help="Peak learning rate.")] = None,
    backbone_lr: Annotated[float | None, typer.Option(min=0, help="The backbone's, times --lr.")] = None,
    frozen_stages: Annotated[
        int | None, typer.Option(min=0, help="First stages of an EfficientNet that keep their weights: faster steps.")
    ] = None,
    schedule: Annotated[str | None, typer.Option(help="poly, or step: a tenth from 80 % and from 90 % on.")] = None,
    precision: Annotated[str | None, typer.Option(help="fp32, bf16, or fp16 on CUDA.")] = None,
    names: Annotated[
        str | None, typer.Option(help="Of a class in training: plain, random, draw (by the teacher), max or mean.")
    ] = None,
    teacher: Annotated[
        str | None, typer.Option(help="none, imagenet, clip:MODEL/WEIGHTS (clip:RN50/openai) or clip:MODEL:FILE.")
    ] = None,
    drawn: Annotated[float | None, typer.Option(min=0, help="Weight of the classification by drawn names.")] = None,
    absent: Annotated[
        bool | None,
        typer.Option(
            "--absent/--no-absent", help="Whether names of what an image does not show compete with those drawn."
        ),
    ] = None,
    distill_region: Annotated[
        float | None, typer.Option(min=0, help="Weight of the distance from the teacher.")
    ] = None,
    distill_pairs: Annotated[float | None, typer.Option(min=0, help="Weight of the alikeness of regions.")] = None,
    centred: Annotated[
        bool | None,
        typer.Option("--centred/--no-centred", help="Distil what is left of names and teacher without their means."),
    ] = None,
    trusted: Annotated[
        int | None, typer.Option(min=0, help="Distil regions whose class is among the teacher's so many first; 0: all.")
    ] = None,
    clip_text: Annotated[
        str,
        typer.Option(help="gkc presets: CLIP for text and backbone, RN50/openai or RN50:FILE; default: the preset's."),
    ] = "",
    split: Annotated[Path | None, typer.Option(help='JSON with "unseen" categories, hidden from training.')] = None,
    region_cache: Annotated[
        Path | None, typer.Option(help="Folder for the teacher's vectors; default: the user's cache.")
    ] = None,
    photos: Annotated[
        list[str] | None, typer.Option(help="Folder of photos without masks, FOLDER or FOLDER:WEIGHT; needs --pseudo.")
    ] = None,
    pseudo: Annotated[
        Path | None, typer.Option(help="A model.pt that labels, where it is sure, what the data leave unlabelled.")
    ] = None,
    pseudo_share: Annotated[
        float, typer.Option(min=0.01, max=1, help="Share of the places of a class, the surest, that --pseudo labels.")
    ] = 0.5,
    photo_cache: Annotated[
        Path | None, typer.Option(help="Folder for decoded photos; default: the user's cache.")
    ] = None,
    cache_gb: Annotated[
        float, typer.Option(min=0, help="Most GB of decoded photos of one dataset to keep on disk; 0: none.")
    ] = 8.0,
    balance: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="Share of crops that look for a class, rare classes more often than by chance."
        ),
    ] = None,
    paste: Annotated[
        float | None, typer.Option(min=0, max=1, help="Share of crops that get things from other photos (copy-paste).")
    ] = None,
    mosaic: Annotated[float | None, typer.Option(min=0, max=1, help="Share of crops made of four photos.")] = None,
    validate_every: Annotated[int | None, typer.Option(min=1, help="Steps between validations; each saves.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Decides crops, names and sampling.")] = 0,
    workers: Annotated[int | None, typer.Option(min=0, help="Processes that read photos.")] = None,
    threads: Annotated[int, typer.Option(min=0, help="CPU threads; 0 leaves it to torch.")] = 0,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    resume: Annotated[bool, typer.Option(help="Go on from the state in the output folder.")] = False,
    pretrained: Annotated[bool, typer.Option(help="Start the backbone from its published weights.")] = True,
    start: Annotated[
        Path | None, typer.Option(help="A model.pt whose weights to start from, in place of the backbone's alone.")
    ] = None,
    tensorboard: Annotated[bool, typer.Option(help="Write curves and example pictures for TensorBoard.")] = False,
    dry_run: Annotated[bool, typer.Option(help="Print data, parameters and memory, and stop.")] = False,
) -> None:
    """Train a segmenter on photos with named masks.

    On several devices: torchrun --nproc_per_node N --no-python ovs-train …
    """
    for value, name in ((crop, "--crop"), (view, "--view")):
        if value is not None and value % 32:
            raise UsageError(f"{name} is {value}, expected a multiple of 32")
    for choice, option, known in (
        (schedule, "--schedule", ("poly", "step")),
        (precision, "--precision", ("fp32", "bf16", "fp16")),
        (names, "--names", ("plain", "random", "draw", "max", "mean")),
    ):
        if choice is not None and choice not in known:
            raise UsageError(f"{option} is {choice!r}, expected one of {', '.join(known)}")
    require("torch", "train")
    from .options import RunOptions
    from .recipes import recipe as recipe_of
    from .run import run_training

    chosen = recipe_of(recipe)
    options = _given(
        chosen.train, steps=steps, batch=batch, crop=crop, view=view, lr=lr, backbone_lr=backbone_lr, frozen_stages=frozen_stages, schedule=schedule,
        precision=precision, names=names, validate_every=validate_every, workers=workers, seed=seed, balance=balance, paste=paste, mosaic=mosaic,
    )  # fmt: skip
    options = dataclasses.replace(options, warmup=min(options.warmup, max(1, options.steps // 10)))
    losses = _given(
        chosen.losses,
        drawn=drawn,
        absent=absent,
        region=distill_region,
        pairs=distill_pairs,
        centred=centred,
        trusted=trusted,
    )
    taught = chosen.teacher if teacher is None else "" if teacher == "none" else teacher
    run_training(
        dataclasses.replace(chosen, preset=preset or chosen.preset, train=options, losses=losses, teacher=taught),
        RunOptions(
            [weighted_folder(entry) for entry in data], output, threads, device, resume, pretrained, start, clip_text,
            split, region_cache, [weighted_folder(entry) for entry in photos or ()], pseudo, pseudo_share, photo_cache,
            cache_gb, tensorboard, dry_run,
        ),
    )  # fmt: skip


def _given(options: _Options, **values: Any) -> _Options:
    """`options` with what the command line says."""
    given = {name: value for name, value in values.items() if value is not None}
    changed: _Options = dataclasses.replace(cast(Any, options), **given)
    return changed


def weighted_folder(entry: str) -> tuple[Path, float]:
    """`FOLDER` or `FOLDER:WEIGHT`, a weight of 1 where none is given; raises `UsageError` for one that makes no sense."""
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
    run_command(app)


if __name__ == "__main__":
    main()
