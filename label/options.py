"""The options of `ovs-label`: one frozen dataclass, from which the command line is made."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Annotated

from typer import Argument, Option

from ..bundle.errors import UsageError
from ..runtime.engines.registry import providers
from ..runtime.options import (
    TASKS,
    ExactWords,
    Force,
    Model,
    PlanFolder,
    PrecisionName,
    SensitivityLevel,
    TaskName,
    Threads,
)
from ..runtime.vocabulary.sensitivity import Sensitivity
from .formats.registry import WRITERS
from .formats.shape import Shape
from .inputs.places import is_remote
from .inputs.sampling import Sampling
from .settings import Photos

_MOST_REVIEWED = 2000


class ReviewProject(str, Enum):
    """What `--review` writes besides the page."""

    NONE = "none"
    CVAT = "cvat"
    LABEL_STUDIO = "label-studio"


@dataclass(frozen=True)
class LabelOptions:
    """Options of `ovs-label`; each field is the option of its name. Raises `UsageError` for a value out of range."""

    sources: Annotated[
        tuple[str, ...],
        Argument(
            metavar="SOURCE...",
            help="Photos, folders, patterns, tar and zip archives of photos, videos; files of this machine, s3:// or gs://.",
        ),
    ]
    classes: Annotated[
        str,
        Option(
            help='Classes to look for: "person,bike|bicycle,cup:0.2" (| separates synonyms; :0.2 is a class\'s own '
            "confidence threshold), or @FILE as ovs-run reads it."
        ),
    ]
    output: Annotated[str, Option("--output", "-o", help="Folder to write, or to go on with; local, s3:// or gs://.")]
    format: Annotated[str, Option(help=f"What to write: {', '.join(WRITERS)}.")] = "coco"
    recursive: Annotated[bool, Option("--recursive", "-r", help="Read sub-folders too.")] = False
    every: Annotated[
        str, Option(help="Which frames of videos: 1s, 500ms, 2m, 10f (every tenth), or scene (the first of each).")
    ] = "1s"
    shape: Annotated[
        Shape,
        Option(help="How regions are written by coco, labelme and cvat: polygon, or mask (run lengths, bitmaps)."),
    ] = Shape.AUTO
    simplify: Annotated[
        float,
        Option(help="Leave points out of polygons that move the outline by less than this, in pixels; 0: exact."),
    ] = 0.0
    photos: Annotated[
        Photos,
        Option(
            help="Pictures beside the labels: link (hard links, else copies), copy, none; auto: link, for parquet none."
        ),
    ] = Photos.AUTO
    review: Annotated[
        int,
        Option(
            min=0,
            max=_MOST_REVIEWED,
            help="Write a page with this many pictures that a person should look at first, into OUTPUT/review.",
        ),
    ] = 0
    review_project: Annotated[
        ReviewProject, Option(help="With --review: the same pictures as a project to correct them in.")
    ] = ReviewProject.CVAT
    skip_errors: Annotated[
        bool, Option("--skip-errors", help="Exit with 0 although inputs were left out; without it, with 3.")
    ] = False
    shard_size: Annotated[int, Option(min=1, max=100_000, help="Pictures of a shard (a file of --format parquet).")] = (
        256
    )
    ray: Annotated[
        str | None,
        Option(
            metavar="auto|local|ADDRESS",
            help="Label on a Ray cluster: auto (the one this machine belongs to, else local), local (one on this "
            "machine), or its address.",
        ),
    ] = None
    concurrency: Annotated[
        int, Option(min=0, max=100_000, help="With --ray: workers, each with a bundle of its own; 0: as many as fit.")
    ] = 0
    num_cpus: Annotated[float, Option(min=0.1, max=4096, help="With --ray: CPUs of each worker.")] = 1
    num_gpus: Annotated[float, Option(min=0, max=64, help="With --ray: GPUs of each worker, such as 1 or 0.5.")] = 0
    model: Model = None
    background: Annotated[
        str,
        Option(
            help="Background classes, which compete with yours but are not labelled: auto (the names the model was "
            'trained with), none, or names such as "wall,floor".'
        ),
    ] = "auto"
    exact_words: ExactWords = False
    threshold: Annotated[
        float | None,
        Option(help="Confidence threshold, 0 to 1: pixels below it get no label. Default: the bundle's, else 0.3."),
    ] = None
    sensitivity: SensitivityLevel = Sensitivity.NORMAL
    task: TaskName = "auto"
    stuff: Annotated[str | None, Option(help='Panoptic: further classes without instances, such as "sky,road".')] = None
    refine_edges: Annotated[
        bool,
        Option("--refine-edges", help="Let labels follow the edges of the picture where the network is not sure."),
    ] = False
    min_region: Annotated[
        float, Option(help="Remove connected regions, and fill holes, below this share of the picture, such as 0.0005.")
    ] = 0.0
    precision: PrecisionName = "auto"
    force: Force = False
    provider: Annotated[str, Option(help=f"Execution provider: {', '.join(providers())}.")] = "auto"
    plan: PlanFolder = None
    threads: Threads = 0

    def __post_init__(self) -> None:
        if self.format not in WRITERS:
            raise UsageError(f"--format is {self.format!r}, expected one of: {', '.join(WRITERS)}")
        Sampling.parse(self.every)
        is_remote(self.output)
        if not self.output:
            raise UsageError("-o is empty, expected the folder to write")
        if self.provider not in providers():
            raise UsageError(f"the provider is {self.provider!r}, expected one of: {', '.join(providers())}")
        if self.task not in TASKS:
            raise UsageError(f"the task is {self.task!r}, expected one of: {', '.join(TASKS)}")
        for name, value in (("threshold", self.threshold), ("--min-region", self.min_region)):
            if value is not None and not 0 <= value <= 1:
                raise UsageError(f"the {name} is {value:g}, expected a number from 0 to 1")
        if not 0 <= self.simplify <= 100:
            raise UsageError(f"--simplify is {self.simplify:g}, expected pixels from 0 to 100")
        if self.ray is None and (self.concurrency or self.num_gpus or self.num_cpus != 1):
            raise UsageError(
                "--concurrency, --num-cpus and --num-gpus are for --ray; add --ray auto, or leave them out"
            )
