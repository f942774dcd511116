"""What decides a training run beside its data: options of a recipe, and whether they make sense together."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

import torch

from ..bundle.errors import UsageError
from .choices import Device, NamesMode, Precision, Schedule
from .distillation.region_cache import RegionVectors
from .distributed import Ranks
from .losses.losses import LossOptions
from .photos.augment import AugmentOptions

RUN_FILE = "run.json"  # in a run's folder: the options that it was started with
AUTOCAST: dict[Precision, torch.dtype | None] = {
    Precision.FP32: None,
    Precision.BF16: torch.bfloat16,
    Precision.FP16: torch.float16,
}


@dataclass(frozen=True)
class TrainOptions:
    """A recipe. Everything that decides the weights is here, in the data and in the seed."""

    steps: int = 6000
    batch: int = 8  # images a step
    crop: int = 256  # pixels, both sides
    view: int = 384  # input side at deployment
    scale: tuple[float, float] = (0.6, 1.8)  # of the crops, times the deployed size; see `AugmentOptions`
    grey: float = 0.0  # share of crops without colour
    balance: float = 0.0  # share of crops that look for a class, rare ones more often than by chance
    paste: float = 0.0  # share of crops that get things from other photos
    mosaic: float = 0.0  # share of crops put together from four photos
    lr: float = 6e-4
    backbone_lr: float = 0.2  # times lr
    frozen_stages: int = 0  # of an EfficientNet: its stem and so many stages keep the weights they start with
    weight_decay: float = 0.05
    warmup: int = 200  # steps
    schedule: Schedule = Schedule.POLY
    power: float = 0.9  # poly: of the polynomial decay
    milestones: tuple[float, ...] = (0.8, 0.9)  # step: shares of the run from each of which the rate is a tenth
    clip: float = 0.01  # largest norm of the whole gradient, as Mask2Former
    average: float = 0.998  # decay of the averaged weights, which are what is saved
    names: NamesMode = NamesMode.RANDOM  # what a class is called in training
    rivals: bool = False  # names of the other datasets' categories compete, too, where they mean none of an image's own
    plain_share: float = 0.5  # random: share of steps in which a class has its plain name instead of a random synonym
    precision: Precision = Precision.FP32  # in which the network computes; weights and losses stay FP32
    seed: int = 0
    validate_every: int = 1000
    workers: int = 1

    @property
    def augment(self) -> AugmentOptions:
        """How crops are made."""
        return AugmentOptions(
            self.crop, self.view, self.scale, grey=self.grey, balance=self.balance, paste=self.paste, mosaic=self.mosaic
        )


@dataclass(frozen=True)
class TrainingRunOptions:
    """Where a run reads and writes, and on what it computes; nothing here decides the weights but the data."""

    data: list[tuple[Path, float]]  # folders, and how often each is drawn from
    folder: Path  # for model.pt, the log and the state
    threads: int = 0  # CPU threads; 0 leaves it to torch
    device: Device = Device.CPU
    resume: bool = False
    until: int | None = None  # step at which this call ends, the schedule being that of all steps
    pretrained: bool = True  # start the backbone from published weights
    start: Path | None = None  # a `model.pt` whose weights the whole model starts from
    clip_text: str = ""  # CLIP whose text tower and backbone a preset with CLIP's text uses; empty: the preset's own
    split: Path | None = None  # see `training.splits`
    region_cache: Path | None = None  # None: under the user's cache folder
    photos: list[tuple[Path, float]] = field(default_factory=list)  # folders of photos without masks; need `pseudo`
    pseudo: Path | None = None  # a `model.pt`, or clip-dense:SOURCE, that labels what the data leave unlabelled
    pseudo_share: float = 0.5  # see `PseudoOptions.share`
    photo_cache: Path | None = None  # folder for decoded photos; None: under the user's cache folder
    cache_gb: float = 8.0  # most gigabytes of decoded photos of one dataset; 0: none are kept
    tensorboard: bool = False
    dry_run: bool = False
    request: str = ""  # JSON of the options given, kept in the folder so that a run can be continued without them


def plain_values(options: Any) -> dict[str, Any]:
    """The fields of a dataclass of options with choices as plain text, as files keep them."""
    return {name: value.value if isinstance(value, Enum) else value for name, value in asdict(options).items()}


def check_options(
    options: TrainOptions,
    losses: LossOptions,
    ranks: Ranks,
    device: torch.device,
    regions: RegionVectors | None,
    dim: int,
) -> None:
    """Raise `UsageError` for options that contradict each other, the processes, the device or the teacher."""
    if options.batch % ranks.world:
        raise UsageError(f"{options.batch} photos a step cannot be shared by {ranks.world} processes; use a multiple")
    if options.precision == Precision.FP16 and device.type != "cuda":
        raise UsageError("FP16 training needs a CUDA device; use --precision bf16 or fp32")
    if (losses.drawn > 0) != (options.names == NamesMode.DRAW):
        raise UsageError(
            f"--names is {NamesMode(options.names).value!r} and --drawn is {losses.drawn}; --names draw needs --drawn "
            "above 0, and --drawn needs --names draw"
        )
    if (losses.region or losses.pairs) and regions is None:
        raise UsageError("distillation has a weight and no teacher; choose one with --teacher")
    if regions is not None and regions.dim != dim:
        raise UsageError(f"the teacher's vectors have {regions.dim} numbers, the text encoder's {dim}")
