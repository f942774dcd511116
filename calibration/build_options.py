"""Options of `ovs-build`: one frozen dataclass."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

_LEVELS = 5


class PlanSampling(str, Enum):
    """Values of --msda."""

    auto = "auto"
    gridsample = "gridsample"
    gather = "gather"
    plugin = "plugin"


class TensorRTModule(str, Enum):
    """Values of --engine."""

    tensorrt = "tensorrt"
    tensorrt_rtx = "tensorrt_rtx"


@dataclass(frozen=True)
class BuildOptions:
    """What `ovs-build` was asked for; each field is the option of the same name."""

    bundle: Annotated[
        Path,
        typer.Argument(help="Bundle folder, as ovs-export writes it; with --inspect, or a plan.", metavar="NAME.ovs"),
    ]
    precision: Annotated[
        str,
        typer.Option(help="A precision of the bundle (fp32, fp16, int8), or auto: the fastest that passes, on a GPU."),
    ] = "auto"
    msda: Annotated[
        PlanSampling,
        typer.Option(
            help="How deformable attention samples. auto: as in the bundle, and otherwise if that fails. "
            "plugin: TensorRT's own kernel, untested on a GPU."
        ),
    ] = PlanSampling.auto
    profiles: Annotated[
        str | None,
        typer.Option(help="Sizes that class lists are padded to, CLASSESxNAMES. Default: 8x64,32x64,128x64,512x32."),
    ] = None
    level: Annotated[
        int | None,
        typer.Option(min=0, max=_LEVELS, help="TensorRT's builder optimization level, 0 to 5. Default: 3."),
    ] = None
    workspace: Annotated[
        int | None, typer.Option(min=1, help="MiB of GPU memory for scratch. Default: half of what is free.")
    ] = None
    images: Annotated[
        str | None,
        typer.Option(
            help="Images to compare the plan on: a folder or a video. Default: the demo's photos, or generated images."
        ),
    ] = None
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write the plan to this folder. Default: the user's cache.")
    ] = None
    engine: Annotated[
        TensorRTModule | None, typer.Option(help="Which TensorRT, if both are installed. Default: tensorrt.")
    ] = None
    inspect: Annotated[
        bool,
        typer.Option(
            "--inspect",
            help="Print layers and their types, and on a GPU the ten slowest layers; of an existing plan without "
            "building it.",
        ),
    ] = False
    report: Annotated[Path | None, typer.Option(help="Add the result, as JSON, to this file.")] = None
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Build even if the cache has a plan that fits.")] = False
    force: Annotated[
        bool, typer.Option("--force", help="Build a precision even if its comparison with fp32 failed.")
    ] = False
    memory_check: Annotated[
        bool, typer.Option("--memory-check/--no-memory-check", help="Whether too little free memory is refused.")
    ] = True
