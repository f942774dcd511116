"""`ovs-export`: a trained checkpoint becomes a bundle that devices run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..bundle.errors import require
from ..runtime.command_line import run_command, unwinding_on_signals

# Torch is imported once the options have been checked: --help must not wait for it.
if TYPE_CHECKING:
    from rich.console import Console

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


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


@app.command()
def export(
    *,
    checkpoint: Annotated[
        Path, typer.Argument(help="Checkpoint: model.pt of ovs-train, or a published file.", metavar="MODEL.pt")
    ],
    size: Annotated[
        str | None,
        typer.Option(
            help="Input size in pixels, WIDTHxHEIGHT, both multiples of 32, such as 512x384. "
            "Default: 384x384 for edge models, else 512x512.",
        ),
    ] = None,
    decoder_layers: Annotated[
        int | None,
        typer.Option(help="Number of decoder layers to keep: fewer are faster, a little less accurate. Default: all."),
    ] = None,
    masks: Annotated[
        MaskOrder | None,
        typer.Option(
            help="exact: upsample every mask, then sum classes, as published; fast: sum classes, then upsample. "
            "Default: fast for edge models, else exact."
        ),
    ] = None,
    msda: Annotated[
        SamplingFormulation,
        typer.Option(help="How deformable attention samples: GridSample operators, or their equivalent with Gather."),
    ] = SamplingFormulation.gridsample,
    max_classes: Annotated[
        int, typer.Option(help="Largest number of classes at once; labels are uint8 up to 256, else int32.")
    ] = 512,
    weights: Annotated[
        WeightType,
        typer.Option(help="Type of the stored segmenter weights; fp16 halves those that FP16 holds exactly."),
    ] = WeightType.fp32,
    text_precision: Annotated[
        TextType, typer.Option(help="Type of the stored text encoder matrices; int8 is a quarter of the size.")
    ] = TextType.fp32,
    task: Annotated[
        ExportTask,
        typer.Option(help="semantic: a class for every pixel; panoptic: also masks and classes of single objects."),
    ] = ExportTask.semantic,
    images: Annotated[
        Path | None,
        typer.Option(help="Folder of photos for the parity check. Default: photos that come with scikit-image."),
    ] = None,
    clip_text: Annotated[
        str | None,
        typer.Option(
            help="CLIP text encoder for a checkpoint without one: MODEL/WEIGHTS of open_clip, such as RN50/openai, or "
            "MODEL:FILE with weights on disk (RN50-quickgelu:FILE for those of OpenAI).",
        ),
    ] = None,
    trust_pickle: Annotated[
        bool,
        typer.Option(
            "--trust-pickle", help="Load a pickle, which may run code. Only for files whose origin you know and trust."
        ),
    ] = False,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Bundle folder. Default: the checkpoint's name with .ovs.")
    ] = None,
) -> None:
    """Export a checkpoint as a bundle and compare it with torch; if it differs too much, nothing is written."""
    from rich.console import Console

    from .options import ExportRequest, parse_size

    request = ExportRequest(
        size=None if size is None else parse_size(size),
        decoder_layers=decoder_layers,
        masks=None if masks is None else masks.value,
        msda=msda.value,
        max_classes=max_classes,
        weights=weights.value,
        text_precision=text_precision.value,
        images=images,
        task=task.value,
    )
    for module in ("torch", "onnx", "onnxscript"):
        require(module, "export")

    from .export_bundle import export_bundle
    from .report import show_bundle, show_parity

    start = time.perf_counter()
    console = Console(soft_wrap=True, highlight=False)
    target = Path(f"{checkpoint.stem}.ovs") if output is None else output
    with unwinding_on_signals(), _status(console) as tell:
        manifest = export_bundle(
            checkpoint,
            target,
            request,
            clip_text=clip_text,
            trust_pickle=trust_pickle,
            tell=tell,
            on_parity=lambda parity: show_parity(console, parity),
        )
    show_bundle(console, target, manifest, time.perf_counter() - start)


@contextmanager
def _status(console: Console) -> Iterator[Callable[[str], None]]:
    """`tell(step)` shows the present step: a spinner on a terminal, nothing elsewhere."""
    if not console.is_terminal:
        yield lambda step: None
        return
    with console.status("") as status:
        yield lambda step: status.update(step)


def main() -> None:
    """Console command; an expected error is one line on stderr and its exit code."""
    run_command(app)


if __name__ == "__main__":
    main()
