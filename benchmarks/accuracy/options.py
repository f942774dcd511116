"""The options of `ovs-bench accuracy` and `ovs-bench ask`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated

from typer import Option

from ...bundle.errors import UsageError
from ..options import Model, Output, Precision, Synonyms, Threads


class Protocol(str, Enum):
    """Values of --recipe."""

    published = "published"


class ClipRecipe(str, Enum):
    """Values of --dense."""

    naclip = "naclip"
    sc_clip = "sc-clip"


@dataclass(frozen=True)
class AccuracyOptions:
    """Options of `ovs-bench accuracy`; each field is the option of its name. Raises `UsageError`."""

    data: Annotated[
        tuple[str, ...],
        Option(
            help="Data set as published; may be repeated: FOLDER, or SET:FOLDER where a folder holds several. Sets: "
            "index-masks, coco-panoptic, coco-stuff, coco-object, ade20k-150, ade20k-847, voc-20, voc-21, context-59, "
            "context-60, context-459, cityscapes."
        ),
    ]
    model: Model = None
    precision: Precision = "fp32"
    stages: Annotated[
        str | None,
        Option(
            help="Compare the stages from checkpoint to device: 'all', or some of torch, the bundle's precisions and "
            "plan, comma-separated."
        ),
    ] = None
    checkpoint: Annotated[
        Path | None, Option(help="model.pt that the bundle was exported from, for the stage torch.")
    ] = None
    plan: Annotated[Path | None, Option(help="TensorRT plan of the bundle, for the stage plan.")] = None
    synonyms: Synonyms = False
    refine_edges: Annotated[bool, Option("--refine-edges", help="As for ovs-run.")] = False
    min_region: Annotated[float, Option(help="As for ovs-run.")] = 0.0
    jobs: Annotated[int, Option(min=1, help="Processes, each with the model and --threads.")] = 1
    threads: Threads = 0
    split: Annotated[
        Path | None, Option(help="Split file of ovs-train: report seen and unseen categories separately.")
    ] = None
    recipe: Annotated[
        Protocol | None,
        Option(
            help="published: evaluate a plain CLIP, named by --clip, in torch with the settings that its numbers were "
            "published with: size, temperature and thresholds of each data set."
        ),
    ] = None
    clip: Annotated[
        str | None, Option(help="With --recipe published: MODEL/WEIGHTS of open_clip, MODEL:FILE, or FILE.")
    ] = None
    dense: Annotated[ClipRecipe, Option(help="With --recipe published: the recipe of the last block.")] = (
        ClipRecipe.sc_clip
    )
    names: Annotated[
        Path | None,
        Option(
            help="With --recipe published: class names as published, one class a line, its names separated by commas. "
            "Default: the data set's own names."
        ),
    ] = None
    output: Output = None

    def __post_init__(self) -> None:
        if (self.recipe is None) != (self.clip is None):
            raise UsageError("--recipe published and --clip go together: give both, or neither")
        if self.recipe is not None and (self.model is not None or self.stages is not None or self.split is not None):
            raise UsageError("--recipe published evaluates --clip in torch; leave out --model, --stages and --split")
        if self.recipe is not None and (self.refine_edges or self.min_region):
            raise UsageError("--recipe published has refinements of its own; leave out --refine-edges and --min-region")
        if self.recipe is None and (self.names is not None or self.dense is not ClipRecipe.sc_clip):
            raise UsageError("--names and --dense are for --recipe published; leave them out")
        if self.names is not None and len(self.data) > 1:
            raise UsageError(f"--names is for one data set, {len(self.data)} were given; run once for each")
        if self.stages is None and (self.checkpoint is not None or self.plan is not None):
            raise UsageError("--checkpoint and --plan are for stages; add --stages all, or leave them out")


@dataclass(frozen=True)
class AskOptions:
    """Options of `ovs-bench ask`; each field is the option of its name."""

    data: Annotated[
        tuple[str, ...],
        Option(help="Labelled photos; may be repeated: FOLDER, or SET:FOLDER, as for ovs-bench accuracy."),
    ]
    model: Model = None
    precision: Precision = "fp32"
    threads: Threads = 0
    synonyms: Synonyms = False
    quick: Annotated[
        bool, Option("--quick", help="Only the default sensitivity and confidence threshold, without their curves.")
    ] = False
    photos: Annotated[int, Option(min=0, help="Use the first N photos of each data set; 0: all.")] = 0
    sheet: Annotated[
        str | None, Option(help="Write a contact sheet of the worst answers; {data} is replaced by the set's name.")
    ] = None
    output: Output = None
