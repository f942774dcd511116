"""The options of `ovs-bench gpu`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from typer import Option

from ...bundle.errors import UsageError
from ..options import Threads, words
from .plan import DEFAULT_PRESETS, PARTS, Scale


@dataclass(frozen=True)
class GpuOptions:
    """Options of `ovs-bench gpu`; each field is the option of its name. Raises `UsageError`."""

    results: Annotated[
        Path, Option("--results", "-o", help="Folder for gpu.json and page.html; an interrupted run continues in it.")
    ] = Path("gpu-results")
    model: Annotated[
        tuple[Path, ...], Option(help="Bundle folder NAME.ovs; may be repeated. Default: the embedded model.")
    ] = ()
    presets: Annotated[
        str,
        Option(
            help="Presets with random weights, exported here if torch and onnx are installed: comma-separated, or none; "
            "clip_b16 is CLIP ViT-B/16 in windows, clip_b16_whole in one pass."
        ),
    ] = ",".join(DEFAULT_PRESETS)
    sizes: Annotated[str, Option(help="Input sides of the presets in pixels, comma-separated multiples of 32.")] = (
        "384,512,640,1024"
    )
    parts: Annotated[str, Option(help=f"Parts to run, comma-separated: {', '.join(PARTS)}.")] = ",".join(PARTS)
    minutes: Annotated[float, Option(min=0.1, help="Time limit of each part, in minutes.")] = 8.0
    threads: Threads = 0
    dry_run_on_cpu: Annotated[
        bool,
        Option(
            "--dry-run-on-cpu",
            help="Run every part briefly with CPU providers, to test the kit itself where no GPU is.",
        ),
    ] = False

    def __post_init__(self) -> None:
        if unknown := sorted(set(self.chosen_parts) - set(PARTS)):
            raise UsageError(f"--parts names {unknown[0]!r}, expected some of: {', '.join(PARTS)}")
        sizes = words(self.sizes, "--sizes")
        if not all(size.isdigit() and int(size) > 0 and int(size) % 32 == 0 for size in sizes):
            raise UsageError(f"--sizes is {self.sizes!r}, expected multiples of 32 such as 384,512")

    @property
    def chosen_parts(self) -> tuple[str, ...]:
        """The parts to run, in their order."""
        named = words(self.parts, "--parts")
        return tuple(part for part in PARTS if part in named) + tuple(part for part in named if part not in PARTS)

    @property
    def scale(self) -> Scale:
        """Sizes and limits of the parts."""
        if self.dry_run_on_cpu:
            return Scale.dry_run()
        presets = () if self.presets == "none" else words(self.presets, "--presets")
        sides = tuple(int(size) for size in words(self.sizes, "--sizes"))
        return Scale(presets=presets, sides=sides, seconds=60 * self.minutes)
