"""Options of `ovs-calibrate`: one frozen dataclass, validated where it is made."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Literal, cast, get_args

import typer

from ..bundle.errors import UsageError

Precision = Literal["fp16", "int8", "int8-cpu"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)


class RangeMethod(str, Enum):
    """Values of --method."""

    mse = "mse"
    percentile = "percentile"
    min_max = "min-max"
    entropy = "entropy"


class TargetCpu(str, Enum):
    """Values of --cpu."""

    auto = "auto"
    vnni = "vnni"
    x86 = "x86"
    arm = "arm"


@dataclass(frozen=True)
class CalibrateOptions:
    """What `ovs-calibrate` was asked for; each field is the option of the same name. Raises `UsageError`."""

    bundle: Annotated[Path, typer.Argument(help="Bundle folder, as ovs-export writes it.", metavar="NAME.ovs")]
    images: Annotated[
        str,
        typer.Option(help="Calibration images, like those the device will see: a folder, 'shots/*.jpg', a video."),
    ]
    held_out: Annotated[
        str | None,
        typer.Option(
            help="Images for the verdict, never used to calibrate: a folder, a glob, a video. Default: a third of "
            "--images."
        ),
    ] = None
    precision: Annotated[
        str, typer.Option(help="Precisions to write: fp16, int8 (for TensorRT), int8-cpu (for ONNX Runtime).")
    ] = "fp16,int8,int8-cpu"
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Write another bundle. Default: add the precisions to NAME.ovs."),
    ] = None
    method: Annotated[RangeMethod, typer.Option(help="How the range of a tensor is found.")] = RangeMethod.mse
    pictures: Annotated[
        int, typer.Option(min=2, help="Largest number of images used, evenly spread over --images.")
    ] = 96
    labels: Annotated[
        tuple[Path, ...],
        typer.Option(help="Labelled photos (classes.json, images/val, masks/val): mean IoU is reported. Repeatable."),
    ] = ()
    fp16_bar: Annotated[float, typer.Option(help="Acceptance threshold of fp16: share of labels equal to fp32's.")] = (
        0.99
    )
    int8_bar: Annotated[float, typer.Option(help="Acceptance threshold of int8 and int8-cpu.")] = 0.97
    leave_out: Annotated[
        tuple[str, ...],
        typer.Option(help="Group of layers that stays in floating point, as named in the table. Repeatable."),
    ] = ()
    cpu: Annotated[
        TargetCpu,
        typer.Option(
            help="Processor for int8-cpu: auto, this machine's; vnni, x86 with VNNI; x86, any (less accurate); arm."
        ),
    ] = TargetCpu.auto
    threads: Annotated[int, typer.Option(min=0, help="CPU threads; 0: one per core.")] = 0

    def __post_init__(self) -> None:
        """Check what Typer cannot."""
        for name, bar in (("--fp16-bar", self.fp16_bar), ("--int8-bar", self.int8_bar)):
            if not 0 <= bar <= 1:
                raise UsageError(f"{name} is {bar:g}, expected a share from 0 to 1, such as 0.97")
        found = self._names()
        if not found or not set(found) <= set(PRECISIONS):
            raise UsageError(f"--precision is {self.precision!r}, expected some of {', '.join(PRECISIONS)}")

    @property
    def precisions(self) -> tuple[Precision, ...]:
        """The precisions to write, each once, in the order given."""
        return cast("tuple[Precision, ...]", self._names())

    def _names(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name.strip() for name in self.precision.split(",") if name.strip()))
