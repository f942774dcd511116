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
from ..runtime.command_line import run_command

# Torch is imported once the options are known to be sound: --help must not wait for it.
if TYPE_CHECKING:
    from rich.console import Console

    from .parity import Parity

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


class MaskOrder(str, Enum):
    """Values of --masks."""

    exact = "exact"
    fast = "fast"


class Sampling(str, Enum):
    """Values of --msda."""

    gridsample = "gridsample"
    gather = "gather"


class WeightType(str, Enum):
    """Values of --weights."""

    fp32 = "fp32"
    fp16 = "fp16"


class Outcome(str, Enum):
    """Values of --task."""

    semantic = "semantic"
    panoptic = "panoptic"


class TextType(str, Enum):
    """Values of --text-precision."""

    fp32 = "fp32"
    int8 = "int8"


@app.command()
def export(
    checkpoint: Annotated[Path, typer.Argument(help="model.pt, as ovs-train writes it.", metavar="MODEL.pt")],
    size: Annotated[
        str | None,
        typer.Option(
            help="Input HEIGHTxWIDTH in pixels, multiples of 32, such as 384x512. "
            "Default: 384x384 for mini, else 512x512.",
        ),
    ] = None,
    decoder_layers: Annotated[
        int | None,
        typer.Option(help="Stop after so many decoder layers: faster, a little less accurate. Default: all."),
    ] = None,
    masks: Annotated[
        MaskOrder | None,
        typer.Option(
            help="exact: masks are upsampled, then classes summed, as published; fast: the other way round. "
            "Default: fast for mini, else exact."
        ),
    ] = None,
    msda: Annotated[
        Sampling, typer.Option(help="How deformable attention samples: by GridSample, or spelt out with Gather.")
    ] = Sampling.gridsample,
    max_classes: Annotated[
        int, typer.Option(help="Most classes at once; up to 256 labels are uint8, else int32.")
    ] = 512,
    weights: Annotated[
        WeightType,
        typer.Option(help="Type the segmenter's weights are stored in; fp16 halves those that lose nothing by it."),
    ] = WeightType.fp32,
    text_precision: Annotated[
        TextType, typer.Option(help="Type the text encoder's matrices are stored in; int8 is a quarter of the size.")
    ] = TextType.fp32,
    task: Annotated[
        Outcome,
        typer.Option(help="semantic: a class for every pixel; panoptic: also what it takes to tell instances apart."),
    ] = Outcome.semantic,
    images: Annotated[
        Path | None, typer.Option(help="Folder of photos to compare on. Default: scikit-image's packaged photos.")
    ] = None,
    clip_text: Annotated[
        str | None,
        typer.Option(
            help="Text tower of a checkpoint that has none: MODEL/WEIGHTS through open_clip, such as RN50/openai, or "
            "MODEL:FILE, weights on disk (RN50-quickgelu:FILE for those of OpenAI).",
        ),
    ] = None,
    trust_pickle: Annotated[
        bool,
        typer.Option(
            "--trust-pickle", help="Load a checkpoint that may run code. Only for files you know the origin of."
        ),
    ] = False,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Bundle folder. Default: the checkpoint's name with .ovs.")
    ] = None,
) -> None:
    """Write a bundle, then run it in ONNX Runtime beside torch; past the bar nothing is written."""
    from rich.console import Console

    from .options import parse_size

    if size is not None:
        parse_size(size)
    for module in ("torch", "onnx", "onnxscript"):
        require(module, "export")

    from ..segmenter.checkpoint import load_checkpoint
    from .bundle_writer import write_bundle
    from .options import resolve

    start = time.perf_counter()
    console = Console(soft_wrap=True, highlight=False)
    model, extras = load_checkpoint(checkpoint, trust_pickle)
    if clip_text is not None:
        from ..segmenter.text.clip_text_weights import give_text_tower

        give_text_tower(model, extras, clip_text, str(checkpoint))
    options = resolve(
        model.config,
        size,
        decoder_layers,
        masks.value if masks is not None else None,
        msda.value,
        max_classes,
        weights.value,
        text_precision.value,
        images,
        task.value,
    )
    target = Path(f"{checkpoint.stem}.ovs") if output is None else output
    with _status(console) as tell:
        manifest = write_bundle(
            target, checkpoint, model, extras, options, tell, lambda parity: show_parity(console, parity)
        )
    total = sum((target / name).stat().st_size for name in manifest.digests)
    height, width = options.size
    console.print(
        f"{target}: {model.config.name} at {height}x{width} (height x width), {options.decoder_layers} decoder layers, "
        f"{options.masks} masks, {options.msda}, {options.task}, {total / 1e6:.1f} MB, {time.perf_counter() - start:.0f} s"
    )


def show_parity(console: Console, parity: Parity) -> None:
    """The parity table and the single figures below it."""
    from rich.table import Table

    table = Table(title=f"ONNX Runtime against torch, {parity.photos} photos", title_justify="left")
    for name in ("vocabulary", "classes", "names each", "labels equal", "scores differ, 99 %", "most"):
        table.add_column(name, justify="left" if name == "vocabulary" else "right")
    for row in parity.segmenter:
        table.add_row(
            row.vocabulary,
            str(row.classes),
            str(row.names),
            f"{row.labels_equal:.4%}",
            f"{row.score_nearly_all:.1e}",
            f"{row.score_difference:.1e}",
        )
    console.print(table)
    if parity.raw is not None:
        console.print(
            f"queries' logits: masks differ by {parity.raw.mask_logits:.1e}, classes by {parity.raw.class_logits:.1e}"
        )
    text = parity.text
    console.print(
        f"gridsample against gather: {parity.formulations:.1e}\n"
        f"exact against fast masks: {parity.exact_fast:.2%} of labels agree\n"
        f"text encoder ({text.precision}), {text.names} names: vectors differ by {text.vector_difference:.1e}, "
        f"cosine {text.mean_cosine:.5f} mean, {text.least_cosine:.5f} least\n"
        f"tokenizer: {text.tokenizer_mismatches} of {text.strings} hard strings differ"
    )


@contextmanager
def _status(console: Console) -> Iterator[Callable[[str], None]]:
    """`tell(step)` shows what is going on: a spinner on a terminal, nothing where none would be seen."""
    if not console.is_terminal:
        yield lambda step: None
        return
    with console.status("") as status:
        yield lambda step: status.update(step)


def main() -> None:
    """Console command; an expected error is one line on stderr and its exit code."""
    run_command(app)
