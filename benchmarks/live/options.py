"""The options of `ovs-bench live`, `pipeline`, `soak` and `serving`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from ..options import Model, Output, Precision, Threads


@dataclass(frozen=True)
class LiveOptions:
    """Options of `ovs-bench live`; each field is the option of its name."""

    source: Annotated[str, Option(help="Clip to segment, or 'demo'.")] = "demo"
    model: Model = None
    threads: Threads = 0
    changes: Annotated[int, Option(min=1, help="Class changes to new names, and as many to known names.")] = 60
    clicks: Annotated[int, Option(min=0, help="Classes shown by a click, instead of changes to names.")] = 0
    output: Output = None


@dataclass(frozen=True)
class PipelineOptions:
    """Options of `ovs-bench pipeline`; each field is the option of its name."""

    source: Annotated[str, Option(help="Clip to turn into a labelled video, or 'demo'.")] = "demo"
    model: Model = None
    precision: Precision = "fp32"
    threads: Threads = 0
    frames: Annotated[int, Option(min=10, help="Frames of the clip in each round.")] = 200
    rounds: Annotated[int, Option(min=1, help="Rounds of network alone, then pipeline.")] = 3
    output: Output = None


@dataclass(frozen=True)
class SoakOptions:
    """Options of `ovs-bench soak`; each field is the option of its name."""

    clip: Annotated[Path, Argument(help="Video, played in a loop.")]
    minutes: Annotated[float, Option(min=0.6, help="Duration in minutes.")] = 30.0
    unpaced: Annotated[
        bool, Option("--unpaced", help="Deliver frames as fast as they decode, not at the clip's frame rate.")
    ] = False
    cameras: Annotated[
        int, Option(min=1, max=64, help="So many synthetic cameras that play the clip; classes and rules change.")
    ] = 1
    model: Model = None
    threads: Threads = 0
    output: Output = None


@dataclass(frozen=True)
class CamerasOptions:
    """Options of `ovs-bench cameras`; each field is the option of its name."""

    clip: Annotated[Path, Argument(help="Video that the synthetic cameras play.")]
    cameras: Annotated[int, Option(min=2, max=64, help="Number of cameras.")] = 4
    fps: Annotated[float, Option(min=0.1, max=1000, help="Frame rate of each camera.")] = 15.0
    seconds: Annotated[float, Option(min=1, help="Duration of each part of a round.")] = 20.0
    rounds: Annotated[int, Option(min=1, help="Rounds of one camera, then several, then faults.")] = 3
    model: Model = None
    threads: Threads = 0
    output: Output = None


@dataclass(frozen=True)
class ServingOptions:
    """Options of `ovs-bench serving`; each field is the option of its name."""

    photos: Annotated[Path, Argument(help="Folder of photos, of which a few are sent over and over.")]
    minutes: Annotated[float, Option(min=0.05, help="Duration in minutes.")] = 5.0
    clients: Annotated[int, Option(min=1, max=1000, help="Clients that send at the same time.")] = 64
    replicas: Annotated[int, Option(min=1, help="Replicas of ovs-serve.")] = 2
    queue: Annotated[int, Option(min=0, help="Requests that may wait; further ones get 503.")] = 32
    model: Model = None
    output: Output = None
