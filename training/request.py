"""Options of `ovs-train`: one frozen dataclass."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from ..bundle.errors import UsageError
from ..bundle.files import refuse_address
from .choices import Device, NamesMode, Precision, Schedule


@dataclass(frozen=True)
class TrainRequest:
    """What `ovs-train` was asked for; each field is the option of the same name, None where it was not given."""

    data: Annotated[
        tuple[str, ...],
        typer.Option(help="Dataset folder; repeat for several. FOLDER:WEIGHT sets how often photos are drawn from it."),
    ] = ()
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for model.pt, the log and the state.")] = Path(
        "runs/mini"
    )
    recipe: Annotated[
        str | None,
        typer.Option(
            help="plain; guided (text diversification and distillation); everyday (guided, for several datasets); "
            "dense (a model without queries, for several datasets); paper. Sets the defaults below. [default: plain]"
        ),
    ] = None
    preset: Annotated[str | None, typer.Option(help="Model: mini, dense_mini, dense_small, gkc_r50 or gkc_r101.")] = (
        None
    )
    steps: Annotated[int | None, typer.Option(min=1, help="Optimiser steps.")] = None
    until: Annotated[
        int | None,
        typer.Option(min=1, help="Stop after this step, validate and save; the schedule is that of --steps."),
    ] = None
    batch: Annotated[int | None, typer.Option(min=1, help="Crops per step, over all processes.")] = None
    crop: Annotated[int | None, typer.Option(min=64, help="Side of the crops in pixels; a multiple of 32.")] = None
    view: Annotated[int | None, typer.Option(min=64, help="Input side at deployment in pixels; a multiple of 32.")] = (
        None
    )
    largest_scale: Annotated[
        float | None,
        typer.Option(min=1, max=8, help="Up to how many times as large as at deployment photos are drawn."),
    ] = None
    balance: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Share of crops drawn by class, so that rare classes come more often."),
    ] = None
    paste: Annotated[
        float | None, typer.Option(min=0, max=1, help="Share of crops with objects pasted from other photos.")
    ] = None
    mosaic: Annotated[float | None, typer.Option(min=0, max=1, help="Share of crops made of four photos.")] = None
    lr: Annotated[float | None, typer.Option(min=1e-8, help="Peak learning rate.")] = None
    backbone_lr: Annotated[float | None, typer.Option(min=0, help="Backbone learning-rate multiplier, times --lr.")] = (
        None
    )
    frozen_stages: Annotated[
        int | None, typer.Option(min=0, help="First stages of an EfficientNet that are not trained: faster steps.")
    ] = None
    schedule: Annotated[
        Schedule | None, typer.Option(help="poly: polynomial decay. step: a tenth from 80 % and from 90 % on.")
    ] = None
    precision: Annotated[Precision | None, typer.Option(help="Type of the network's arithmetic; fp16 on CUDA.")] = None
    names: Annotated[
        NamesMode | None,
        typer.Option(
            help="Class-name sampling. plain: the plain name. random: a synonym at random. draw: names the teacher "
            "finds likely. max, mean: all names at once."
        ),
    ] = None
    teacher: Annotated[
        str | None,
        typer.Option(
            help="none, imagenet, clip:MODEL/WEIGHTS (clip:RN50/openai), clip:MODEL:FILE, or clip-dense:SOURCE with "
            "SOURCE as ovs-export --clip takes it."
        ),
    ] = None
    drawn: Annotated[float | None, typer.Option(min=0, help="Weight of the classification by drawn names.")] = None
    absent: Annotated[
        bool | None,
        typer.Option("--absent/--no-absent", help="Names of classes absent from the image compete with drawn names."),
    ] = None
    distill_region: Annotated[
        float | None, typer.Option(min=0, help="Weight of the distance to the teacher's region vectors.")
    ] = None
    distill_pairs: Annotated[
        float | None, typer.Option(min=0, help="Weight of the similarities between an image's regions.")
    ] = None
    centred: Annotated[
        bool | None,
        typer.Option(
            "--centred/--no-centred", help="Subtract the mean vectors of names and teacher before distilling."
        ),
    ] = None
    trusted: Annotated[
        int | None,
        typer.Option(min=0, help="Distil only regions whose class is among the teacher's first N names; 0: all."),
    ] = None
    clip_text: Annotated[
        str | None,
        typer.Option(help="gkc presets: CLIP for text and backbone, RN50/openai or RN50:FILE. Default: the preset's."),
    ] = None
    split: Annotated[Path | None, typer.Option(help='JSON with "unseen" classes, hidden from training.')] = None
    pseudo: Annotated[
        Path | None,
        typer.Option(help="model.pt, or clip-dense:SOURCE, that labels unlabelled pixels where it is confident."),
    ] = None
    pseudo_share: Annotated[
        float | None,
        typer.Option(
            min=0.01, max=1, help="Share of each class's pixels that --pseudo labels, the surest. [default: 0.5]"
        ),
    ] = None
    photos: Annotated[
        tuple[str, ...],
        typer.Option(help="Folder of photos without masks, FOLDER or FOLDER:WEIGHT; needs --pseudo. Repeatable."),
    ] = ()
    region_cache: Annotated[
        Path | None, typer.Option(help="Folder for the teacher's vectors. Default: the user's cache.")
    ] = None
    photo_cache: Annotated[Path | None, typer.Option(help="Folder for decoded photos. Default: the user's cache.")] = (
        None
    )
    cache_gb: Annotated[
        float | None,
        typer.Option(min=0, help="Largest cache of one dataset's decoded photos in GB; 0: no cache. [default: 8]"),
    ] = None
    validate_every: Annotated[int | None, typer.Option(min=1, help="Steps between validations.")] = None
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of crops, names and sampling. [default: 0]")] = None
    workers: Annotated[int | None, typer.Option(min=0, help="Processes that read photos.")] = None
    threads: Annotated[int | None, typer.Option(min=0, help="CPU threads; 0: torch's choice. [default: 0]")] = None
    device: Annotated[Device | None, typer.Option(help="Device to train on. [default: cpu]")] = None
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Continue the run in the output folder, with its own options where none are given."
        ),
    ] = False
    pretrained: Annotated[
        bool | None,
        typer.Option("--pretrained/--no-pretrained", help="Start the backbone from published weights. [default: yes]"),
    ] = None
    start: Annotated[
        Path | None,
        typer.Option(help='Start the whole model from the weights of a model.pt; "default": of the embedded model.'),
    ] = None
    tensorboard: Annotated[
        bool | None, typer.Option("--tensorboard", help="Write curves and example images for TensorBoard.")
    ] = None
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print data, parameters and memory; train nothing, write nothing.")
    ] = False

    def __post_init__(self) -> None:
        refuse_address(self.output, "-o")
        for value, name in ((self.crop, "--crop"), (self.view, "--view")):
            if value is not None and value % 32:
                raise UsageError(f"{name} is {value}, expected a multiple of 32")


def weighted_folder(entry: str) -> tuple[Path, float]:
    """`FOLDER` or `FOLDER:WEIGHT`, weight 1 by default; raises `UsageError` for a weight that is not positive."""
    folder, separator, weight = entry.rpartition(":")
    if separator and not Path(entry).exists():
        try:
            value = float(weight)
        except ValueError:
            if Path(weight).exists():  # SET:FOLDER, where several sets share a layout
                return Path(entry), 1.0
            value = 0.0
        if not value > 0:
            raise UsageError(f"--data {entry}: the weight {weight!r} is not a positive number; write FOLDER:0.5")
        return Path(folder), value
    return Path(entry), 1.0
