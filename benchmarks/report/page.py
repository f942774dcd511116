"""Results as one self-contained HTML file: the tables of the report, and plots of speed results."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt
from matplotlib.figure import Figure

from ...bundle.errors import SinkError
from ...bundle.files import refuse_other_file, replacing
from .plots import front, over_time, png, stage_bars
from .report import load, section

_STYLE = """
:root { color-scheme: light dark; --ink: #1d2733; --ground: #ffffff; --line: #d5dae0; --soft: #6b7a8f; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6eaef; --ground: #14191f; --line: #36404c; --soft: #93a1b2; }
}
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--ground); max-width: 68rem;
  margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } section { margin: 2.5rem 0; border-top: 1px solid var(--line); }
.table { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .25rem .8rem .25rem 0; border-bottom: 1px solid var(--line); }
img { max-width: 100%; background: #ffffff; border-radius: 6px; margin: .5rem 0; }
code, summary { color: var(--soft); font-size: .85rem; } pre { overflow-x: auto; font-size: .75rem; }
"""


_TITLE = "<title>ovs-edge: results</title>"


def write_page(folder: Path, target: Path) -> None:
    """Write the page of every result in `folder`. Raises `BundleError` for a file that is not a result, `SinkError`."""
    refuse_other_file(target, _TITLE.encode(), "--html")
    documents = load(folder)
    parts = [_section(name, document) for name, document in documents.items()]
    figure = front(*_kinds(list(documents.values())))
    if figure is not None:
        parts.insert(0, f"<section><h2>Accuracy against time of a frame</h2>{_image(figure, 'front')}</section>")
    text = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8">{_TITLE}'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>'
        f"<h1>ovs-edge: results</h1>{''.join(parts)}</body></html>\n"
    )
    try:
        with replacing(target) as work:
            work.write_text(text, encoding="utf-8")
    except OSError as error:
        raise SinkError(f"cannot write {target} ({error}); free some space or choose another place") from error


def write_plots(folder: Path, target: Path) -> list[Path]:
    """Write the plots as PNG files into the folder `target`; returns their paths."""
    documents = load(folder)
    figures: dict[str, Figure | None] = {"front": front(*_kinds(list(documents.values())))}
    for name, document in documents.items():
        if "speed" in document:
            rows = document["speed"]["rows"]
            figures |= {f"{name}_stages": stage_bars(rows), f"{name}_over_time": over_time(rows)}
    written = []
    try:
        target.mkdir(parents=True, exist_ok=True)
        for name, figure in figures.items():
            if figure is not None:
                written.append(target / f"{name}.png")
                with replacing(written[-1]) as work:
                    work.write_bytes(png(figure))
    except OSError as error:
        raise SinkError(f"cannot write into {target} ({error}); free some space or choose another place") from error
    return written


def _kinds(documents: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Results of speed, and results of accuracy."""
    speeds = [document for document in documents if "speed" in document]
    return speeds, [document for document in documents if "accuracy" in document or "line" in document]


def _section(name: str, document: dict[str, Any]) -> str:
    # Names come from files: HTML in the Markdown is disabled.
    tables = MarkdownIt("commonmark", {"html": False}).enable("table").render(section(document))
    tables = tables.replace("<table>", '<div class="table"><table>').replace("</table>", "</table></div>")
    pictures = ""
    if "speed" in document:
        rows = document["speed"]["rows"]
        pictures = _image(stage_bars(rows), "stages of a frame") + _image(over_time(rows), "time over the run")
    raw = escape(json.dumps(document["environment"], indent=1, ensure_ascii=False))
    machine = f"<details><summary>the machine</summary><pre>{raw}</pre></details>"
    return f'<section id="{escape(name)}">{tables}{pictures}{machine}</section>'


def _image(figure: Figure, what: str) -> str:
    return f'<p><img alt="{what}" src="data:image/png;base64,{base64.b64encode(png(figure)).decode()}"></p>'
