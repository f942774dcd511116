"""The options of `ovs-bench report`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from typer import Option


@dataclass(frozen=True)
class ReportOptions:
    """Options of `ovs-bench report`; each field is the option of its name."""

    results: Annotated[Path, Option(help="Folder of result files.")] = Path("benchmarks/results")
    readme: Annotated[
        tuple[Path, ...],
        Option(
            "--readme",
            "--update",
            help="Put the tables into this Markdown file, between its markers; may be repeated. A marker may name the "
            "results of its section.",
        ),
    ] = ()
    html: Annotated[Path | None, Option(help="Write tables and plots as one self-contained HTML page.")] = None
    plots: Annotated[Path | None, Option(help="Write the plots as PNG files into this folder.")] = None
