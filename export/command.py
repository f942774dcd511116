"""Options of `ovs-export`: one frozen dataclass, validated where it is made."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..bundle.errors import UsageError

# Their modules need torch: --help must not wait for it.
if TYPE_CHECKING:
    from .clip.options import ClipExportRequest
    from .options import ExportRequest

_MOST_BACKGROUND = 512  # classes


class MaskOrder(str, Enum):
    """Values of --masks."""

    exact = "exact"
    fast = "fast"


class SamplingFormulation(str, Enum):
    """Values of --msda."""

    gridsample = "gridsample"
    gather = "gather"


class WeightType(str, Enum):
    """Values of --weights."""

    fp32 = "fp32"
    fp16 = "fp16"


class ExportTask(str, Enum):
    """Values of --task."""

    semantic = "semantic"
    panoptic = "panoptic"


class TextType(str, Enum):
    """Values of --text-precision."""

    fp32 = "fp32"
    int8 = "int8"


class TokenSet(str, Enum):
    """Values of --text-vocabulary."""

    full = "full"
    ascii = "ascii"


class LastBlock(str, Enum):
    """Values of --dense."""

    naclip = "naclip"
    sc_clip = "sc-clip"


class WindowMode(str, Enum):
    """Values of --windows."""

    sliding = "sliding"
    none = "none"


class RefinementMode(str, Enum):
    """Values of --refine."""

    none = "none"
    pamr = "pamr"
    guided = "guided"


@dataclass(frozen=True)
class ExportCommandOptions:
    """What `ovs-export` was asked for; each field is the option of the same name. Raises `UsageError`."""

    checkpoint: Annotated[
        Path | None,
        typer.Argument(help="Checkpoint: model.pt of ovs-train, or a published file.", metavar="[MODEL.pt]"),
    ] = None
    clip: Annotated[
        str | None,
        typer.Option(
            help="Export a plain CLIP in place of a checkpoint, without training: MODEL/WEIGHTS of open_clip, such as "
            "ViT-B-16/openai, or MODEL:FILE, or FILE.",
        ),
    ] = None
    size: Annotated[
        str | None,
        typer.Option(
            help="Input size in pixels, WIDTHxHEIGHT, both multiples of 32 (with --clip: of the model's patch), such "
            "as 512x384. Default: 384x384 for edge models, 448x336 with --clip, else 512x512.",
        ),
    ] = None
    decoder_layers: Annotated[
        int | None,
        typer.Option(help="Number of decoder layers to keep: fewer are faster, a little less accurate. Default: all."),
    ] = None
    masks: Annotated[
        MaskOrder | None,
        typer.Option(
            help="exact: upsample every mask, then sum classes, as published; fast: sum classes, then upsample. "
            "Default: fast for edge models, else exact."
        ),
    ] = None
    msda: Annotated[
        SamplingFormulation,
        typer.Option(help="How deformable attention samples: GridSample operators, or their equivalent with Gather."),
    ] = SamplingFormulation.gridsample
    max_classes: Annotated[
        int, typer.Option(help="Largest number of classes at once; labels are uint8 up to 256, else int32.")
    ] = 512
    weights: Annotated[
        WeightType,
        typer.Option(help="Type of the stored segmenter weights; fp16 halves those that FP16 holds exactly."),
    ] = WeightType.fp32
    text_precision: Annotated[
        TextType, typer.Option(help="Type of the stored text encoder matrices; int8 is a quarter of the size.")
    ] = TextType.fp32
    text_vocabulary: Annotated[
        TokenSet,
        typer.Option(
            help="Tokens of the sentence encoder; ascii leaves out those of other scripts, whose words then become "
            "unknown, and saves 1 MB (INT8)."
        ),
    ] = TokenSet.full
    threshold: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Default confidence threshold of the bundle. [default: 0.3, with --clip 0.1]"),
    ] = None
    task: Annotated[
        ExportTask,
        typer.Option(help="semantic: a class for every pixel; panoptic: also masks and classes of single objects."),
    ] = ExportTask.semantic
    batch: Annotated[
        int,
        typer.Option(
            help="Images that the graph takes at once, each with its own classes: for several cameras on one GPU. Models "
            "without queries only."
        ),
    ] = 1
    images: Annotated[
        Path | None,
        typer.Option(help="Folder of photos for the parity check. Default: photos that come with scikit-image."),
    ] = None
    clip_text: Annotated[
        str | None,
        typer.Option(
            help="CLIP text encoder for a checkpoint without one: MODEL/WEIGHTS of open_clip, such as RN50/openai, or "
            "MODEL:FILE with weights on disk (RN50-quickgelu:FILE for those of OpenAI).",
        ),
    ] = None
    dense: Annotated[LastBlock, typer.Option(help="With --clip: the published recipe that its last block follows.")] = (
        LastBlock.sc_clip
    )
    windows: Annotated[
        WindowMode,
        typer.Option(help="With --clip: sliding windows of 224 pixels, as published, or none: one pass, faster."),
    ] = WindowMode.sliding
    refine: Annotated[
        RefinementMode,
        typer.Option(help="With --clip: outlines sharpened by the image; pamr as published, guided is cheaper."),
    ] = RefinementMode.none
    temperature: Annotated[
        float, typer.Option(help="With --clip: factor of the cosine before the softmax over all names.")
    ] = 40.0
    background: Annotated[
        str | None,
        typer.Option(
            help='With --clip: background names of the bundle, "sky|cloud,wall", @FILE or none. Default: 24 classes.'
        ),
    ] = None
    trust_pickle: Annotated[
        bool,
        typer.Option(
            "--trust-pickle", help="Load a pickle, which may run code. Only for files whose origin you know and trust."
        ),
    ] = False
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Bundle folder. Default: the checkpoint's or CLIP's name with .ovs."),
    ] = None

    def __post_init__(self) -> None:
        if (self.checkpoint is None) == (self.clip is None):
            raise UsageError(
                "expected a checkpoint, MODEL.pt, or --clip MODEL/WEIGHTS such as ViT-B-16/openai: one of both"
            )
        if self.clip is None:
            given = {
                "--dense": self.dense is not LastBlock.sc_clip,
                "--windows": self.windows is not WindowMode.sliding,
                "--refine": self.refine is not RefinementMode.none,
                "--temperature": self.temperature != 40.0,
                "--background": self.background is not None,
            }
            reason = "belongs to --clip; a checkpoint's model needs none"
        else:
            given = {
                "--decoder-layers": self.decoder_layers is not None,
                "--masks": self.masks is not None,
                "--msda": self.msda is not SamplingFormulation.gridsample,
                "--clip-text": self.clip_text is not None,
                "--text-vocabulary": self.text_vocabulary is not TokenSet.full,
                "--task panoptic": self.task is ExportTask.panoptic,
                "--batch": self.batch != 1,
                "--trust-pickle": self.trust_pickle,
            }
            reason = "has no meaning with --clip: a plain CLIP has no masks and brings its text encoder"
        if wrong := [name for name, is_given in given.items() if is_given]:
            raise UsageError(f"{wrong[0]} {reason}; leave it out")

    @property
    def target(self) -> Path:
        """The bundle folder."""
        if self.output is not None:
            return self.output
        if self.checkpoint is not None:
            return Path(f"{self.checkpoint.stem}.ovs")
        name, _, file = str(self.clip).partition(":")
        path = Path(file or name)
        stem = path.stem if path.suffix else name  # without a file name, MODEL/WEIGHTS
        return Path(re.sub(r"[^\w.-]+", "-", stem) + ".ovs")

    def request(self) -> ExportRequest:
        """The export of a checkpoint."""
        from .options import ExportRequest, parse_size

        return ExportRequest(
            size=None if self.size is None else parse_size(self.size),
            decoder_layers=self.decoder_layers,
            masks=None if self.masks is None else self.masks.value,
            msda=self.msda.value,
            max_classes=self.max_classes,
            weights=self.weights.value,
            text_precision=self.text_precision.value,
            text_vocabulary=self.text_vocabulary.value,
            threshold=self.threshold,
            images=self.images,
            task=self.task.value,
            batch=self.batch,
        )

    def clip_request(self) -> ClipExportRequest:
        """The export of a plain CLIP."""
        from ..segmenter.clip_dense.background import THRESHOLD
        from ..segmenter.clip_dense.config import DenseRecipe, ScoreRefinement
        from .clip.options import ClipExportRequest
        from .options import parse_size

        return ClipExportRequest(
            size=None if self.size is None else parse_size(self.size, multiple=1),
            recipe=DenseRecipe(self.dense.value),
            windows=self.windows is WindowMode.sliding,
            refinement=ScoreRefinement(self.refine.value),
            temperature=self.temperature,
            threshold=THRESHOLD if self.threshold is None else self.threshold,
            background=self._background(),
            max_classes=self.max_classes,
            weights=self.weights.value,
            text_precision=self.text_precision.value,
            images=self.images,
        )

    def _background(self) -> tuple[tuple[str, ...], ...]:
        """Names of each class of --background, or of the default; raises `UsageError`."""
        from ..bundle.vocabulary import parse_classes
        from ..segmenter.clip_dense.background import BACKGROUND_NAMES

        if self.background is None:
            return BACKGROUND_NAMES
        text = self.background.strip()
        if text == "none":
            return ()
        if not text.strip(" ,|"):
            raise UsageError('--background is empty, expected names such as "sky|cloud,wall", @FILE, or none')
        return tuple(entry.names for entry in parse_classes(text, _MOST_BACKGROUND))
