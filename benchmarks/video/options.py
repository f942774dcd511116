"""The options of `ovs-bench video`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from typer import Option

from ...bundle.errors import UsageError
from ..options import Model, Output, Precision, Synonyms, Threads, positive


@dataclass(frozen=True)
class VideoOptions:
    """Options of `ovs-bench video`; each field is the option of its name. Raises `UsageError`."""

    clips: Annotated[
        tuple[Path, ...],
        Option(
            help="Folder of clips with frames/, masks/ and foreground.json, or DAVIS as published; may be repeated."
        ),
    ] = ()
    video: Annotated[
        tuple[Path, ...],
        Option(help="Video file or folder of frames without ground truth: flicker only; may be repeated."),
    ] = ()
    data: Annotated[
        tuple[str, ...],
        Option(
            help="Labelled sequences as published, VSPW or VIPSeg: FOLDER, vspw:FOLDER or vipseg:FOLDER; may be "
            "repeated."
        ),
    ] = ()
    scene: Annotated[str, Option(help="Classes asked for in addition to a clip's foreground.")] = (
        "tree,grass,road,water,building,sky,person"
    )
    synonyms: Synonyms = False
    smooth: Annotated[float, Option(help="Strength of temporal smoothing that is compared with none.")] = 0.9
    keyframes: Annotated[
        str | None, Option(help="Key-frame intervals, comma-separated. Default: 1,2,3,4; with --data, 1.")
    ] = None
    model: Model = None
    precision: Precision = "fp32"
    threads: Threads = 2
    max_frames: Annotated[int | None, Option(min=2, help="Frames of each clip at most.")] = None
    picture: Annotated[
        Path | None, Option(help="Write an image of neighbouring frames without and with smoothing.")
    ] = None
    output: Output = None

    def __post_init__(self) -> None:
        if bool(self.data) == bool(self.clips or self.video):
            raise UsageError("expected --clips or --video, or else --data")
        if self.smooth == 0 or self.intervals[0] != 1:
            raise UsageError("expected a --smooth above 0 and --keyframes that begin with 1")

    @property
    def intervals(self) -> list[int]:
        """Key-frame intervals that are compared. Raises `UsageError`."""
        return positive(self.keyframes or ("1" if self.data else "1,2,3,4"), "--keyframes", "1,2,4")
