"""What `ovs-export` prints: the parity table, and one line about the bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from ..bundle.manifest import GraphSpec, Manifest

if TYPE_CHECKING:
    from .parity import Parity


def show_parity(console: Console, parity: Parity) -> None:
    """Print the parity table and the single figures below it."""
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
    if parity.formulations is not None:
        console.print(f"gridsample against gather: {parity.formulations:.1e}")
    if parity.exact_fast is not None:
        console.print(f"exact against fast masks: {parity.exact_fast:.2%} of labels agree")
    text = parity.text
    console.print(
        f"text encoder ({text.precision}), {text.names} names: vectors differ by {text.vector_difference:.1e}, "
        f"cosine {text.mean_cosine:.5f} mean, {text.least_cosine:.5f} least\n"
        f"tokenizer: {text.tokenizer_mismatches} of {text.strings} test strings differ"
    )


def show_bundle(console: Console, path: Path, manifest: Manifest, seconds: float) -> None:
    """Print what was written: size of the input, options, bytes, time taken."""
    graph = manifest.graph
    height, width = manifest.input_size
    total = sum((path / name).stat().st_size for name in manifest.digests)
    console.print(
        f"{path}: {manifest.provenance.get('preset')} at {width}x{height} (width x height), {_design(graph)}, "
        f"{graph.task}, {total / 1e6:.1f} MB, {seconds:.0f} s"
    )
    if width < height:
        console.print(
            f"note: {width}x{height} is an upright input, since --size is WIDTHxHEIGHT; for a camera that lies on its "
            f"side, as most do, export with --size {height}x{width}"
        )


def _design(graph: GraphSpec) -> str:
    clip = graph.clip_dense
    if clip is None:
        layers = f"{graph.decoder_layers} decoder layers, {graph.masks} masks, {graph.msda}"
        return layers if graph.decoder_layers else "without queries"
    windows = "sliding windows" if clip.windows else "one pass"
    refinement = "" if clip.refinement == "none" else f", {clip.refinement} refinement"
    return f"{clip.recipe}, {windows}{refinement}, temperature {clip.temperature:g}"
