"""The options of `ovs-bench ablation`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated

from typer import Option

from ..options import Output


class Arm(str, Enum):
    """A way of training that is compared."""

    PLAIN = "plain"
    DIVERSIFICATION = "diversification"
    DISTILLATION = "distillation"
    BOTH = "both"

    @property
    def diversified(self) -> bool:
        """Whether class names are sampled from each category's synonyms."""
        return self in (Arm.DIVERSIFICATION, Arm.BOTH)

    @property
    def distilled(self) -> bool:
        """Whether region vectors of a teacher are distilled."""
        return self in (Arm.DISTILLATION, Arm.BOTH)


@dataclass(frozen=True)
class AblationCommand:
    """Options of `ovs-bench ablation`; each field is the option of its name."""

    data: Annotated[
        tuple[str, ...],
        Option(
            help="Data set FOLDER, or FOLDER:WEIGHT to draw it more often; may be repeated. The first is evaluated."
        ),
    ]
    split: Annotated[
        Path | None,
        Option(help="JSON of unseen categories and reserved names. Default: that of the published figures."),
    ] = None
    folder: Annotated[Path, Option(help="Where the runs are kept; finished runs are not repeated.")] = Path(
        "runs/ablation"
    )
    arms: Annotated[str, Option(help="Which of the arms, comma-separated.")] = ",".join(arm.value for arm in Arm)
    seeds: Annotated[int, Option(min=1, help="Runs of each arm.")] = 3
    first_seed: Annotated[int, Option(min=0, help="First seed; the others follow it.")] = 0
    steps: Annotated[int, Option(min=1, help="Optimiser steps of each run.")] = 500
    crop: Annotated[int, Option(min=64, help="Side of the training crops, pixels; a multiple of 32.")] = 128
    view: Annotated[int, Option(min=64, help="Input side at evaluation, pixels; a multiple of 32.")] = 160
    drawn: Annotated[float, Option(min=0, help="Loss weight of the classification over sampled names.")] = 2.0
    region: Annotated[float, Option(min=0, help="Loss weight of the distance from the teacher.")] = 8.0
    pairs: Annotated[float, Option(min=0, help="Loss weight of the relations between regions.")] = 8.0
    trusted: Annotated[
        int,
        Option(min=0, help="Distil only regions whose class is among the teacher's N nearest names; 0: all regions."),
    ] = 0
    jobs: Annotated[int, Option(min=1, help="Runs at a time, one thread each.")] = 2
    output: Output = None
