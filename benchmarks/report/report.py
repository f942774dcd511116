"""Result files as Markdown tables, and the marked sections of Markdown files that hold them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ...bundle.errors import BundleError, SinkError
from ..examples.tables import example_table
from ..gpu.tables import gpu_tables
from .ablation_tables import ablation_table
from .accuracy_tables import accuracy_table, limits_table, line_table, sequences_table
from .live_tables import (
    cameras_soak_table,
    cameras_table,
    clicks_table,
    live_table,
    pipeline_table,
    serving_table,
    soak_table,
)
from .query_tables import query_table
from .speed_tables import clip_table, depth_table, precisions_table, profile_table, speed_tables
from .video_tables import tracking_table, video_tables

# A section of a Markdown file: all results, or those named in the marker, by their file names without .json:
#     <!-- figures of mini_speed, peer_yoloe: made by `ovs-bench report`, do not edit -->
START, END = "<!-- figures: made by `ovs-bench report`, do not edit -->", "<!-- end of figures -->"
_SECTION = re.compile(
    r"(?P<start><!-- figures(?: of (?P<names>[\w, -]+?))?: made by `ovs-bench report`, do not edit -->)"
    r"(?P<body>.*?)" + re.escape(END),
    re.DOTALL,
)

# Key of a result document -> its tables. To show a new kind of result, add its line here.
RENDERERS: dict[str, Callable[[dict[str, Any]], str]] = {
    "accuracy": accuracy_table,
    "line": line_table,
    "limits": limits_table,
    "clip_exports": clip_table,
    "ask": query_table,
    "examples": example_table,
    "sequences": sequences_table,
    "speed": speed_tables,
    "profile": profile_table,
    "precisions": precisions_table,
    "live": live_table,
    "clicks": clicks_table,
    "pipeline": pipeline_table,
    "soak": soak_table,
    "serving": serving_table,
    "cameras": cameras_table,
    "cameras_soak": cameras_soak_table,
    "depth": depth_table,
    "gpu": gpu_tables,
    "ablation": ablation_table,
    "video": video_tables,
    "tracking": tracking_table,
}


def tables(folder: Path) -> str:
    """Markdown of every result file in `folder`, in the order of their names."""
    return "\n\n".join(section(document) for document in load(folder).values())


def load(folder: Path) -> dict[str, dict[str, Any]]:
    """Result documents by file name without .json. Raises `BundleError` for a file that is not a result."""
    documents = {}
    for path in sorted(folder.glob("*.json")):
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            section(document)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BundleError(f"{path} is not a result of ovs-bench ({error!r}); measure again") from error
        documents[path.stem] = document
    return documents


def update(target: Path, folder: Path) -> bool:
    """Write the tables of `folder` into the marked sections of the file `target`; returns whether it changed.

    Raises `SinkError` for a file without a marked section, or a marker that names a result that is not there.
    """
    text = target.read_text(encoding="utf-8")
    new = replaced(text, folder)
    if new != text:
        target.write_text(new, encoding="utf-8")
    return new != text


def replaced(text: str, folder: Path) -> str:
    """`text` with the tables of `folder` in its marked sections. Raises `SinkError`, see `update`."""
    documents = load(folder)
    if not _SECTION.search(text):
        raise SinkError(f"no section for the tables; put these two lines where they belong: {START} {END}")

    def filled(found: re.Match[str]) -> str:
        wanted = [name.strip() for name in found["names"].split(",")] if found["names"] else list(documents)
        if missing := [name for name in wanted if name not in documents]:
            raise SinkError(
                f"a section names the result {missing[0]!r}, and {folder} has {', '.join(documents) or 'none'}; "
                "correct the marker"
            )
        body = "\n\n".join(section(documents[name]) for name in wanted)
        return f"{found['start']}\n\n{body}\n\n{END}"

    return _SECTION.sub(filled, text)


def section(document: dict[str, Any]) -> str:
    """Tables of one result, and below them the command, date, machine and software."""
    environment = document["environment"]
    packages = environment["packages"]
    versions = ", ".join(f"{name} {packages[name]}" for name in ("onnxruntime", "torch") if name in packages)
    where = (
        f"`{document['command']}`, {environment['date']}, {environment['cores']} cores of {environment['processor']}, "
        f"Python {environment['python']}, {versions}"
    )
    bodies = [render(document) for key, render in RENDERERS.items() if key in document]
    if not bodies:
        raise KeyError(", ".join(RENDERERS))
    return "\n\n".join([*bodies, where])
