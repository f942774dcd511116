"""Plots of results: time of each stage of a frame, time over the run, and accuracy against time.

Each function takes result documents as `ovs-bench` writes them, and gives a matplotlib figure.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ..speed.runners import STAGES
from .speed_tables import size_of

_COLOURS = {
    "decode": "#9aa5b1", "preprocess": "#5b8def", "upload": "#7a5bd3", "infer": "#23395b", "download": "#b08be0",
    "postprocess": "#4c9f70", "overlay": "#e0a030", "encode": "#d1495b",
}  # fmt: skip
_UNKNOWN = "#d5dae0"  # time of a peer that does not report its stages
_LINES = ("#3b7dd8", "#d1495b", "#4c9f70", "#e0a030", "#7a5bd3", "#23395b", "#c06c84", "#6b7a8f", "#2a9d8f", "#b5651d")
_MOST_LINES = 10  # in one plot; more cannot be distinguished
_USUAL_CLASSES = 20  # K of the plot of accuracy against time


def stage_bars(rows: Sequence[dict[str, Any]]) -> Figure:
    """A bar for each row of a speed result, divided into the medians of its stages."""
    figure = Figure(figsize=(9, 1.3 + 0.36 * len(rows)), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    names = [name for name in STAGES if any(name in row["stages"] for row in rows)]
    places = np.arange(len(rows))[::-1]
    left = np.zeros(len(rows))
    for name in names:
        widths = np.array([row["stages"].get(name, {"p50": 0.0})["p50"] for row in rows])
        axes.barh(places, widths, 0.68, left=left, color=_COLOURS[name], label=name)
        left += widths
    totals = np.array([row["total"]["p50"] for row in rows])
    rest = np.maximum(totals - left, 0)
    if any(not row["stages"] for row in rows):
        rest = np.where([not row["stages"] for row in rows], rest, 0)
        axes.barh(places, rest, 0.68, left=left, color=_UNKNOWN, label="stages unknown")
    for place, row in zip(places, rows, strict=True):
        axes.annotate(
            f" {row['total']['p50']:.1f}", (row["total"]["p50"], place), va="center", fontsize=8, color="#333333"
        )
    axes.set_yticks(places, [row["title"] for row in rows], fontsize=8)
    axes.set_xlabel("milliseconds a frame, medians")
    axes.margins(x=0.08)
    _plain(axes)
    axes.legend(frameon=False, ncols=len(names) + 1, loc="lower left", bbox_to_anchor=(0, 1), fontsize=8)
    return figure


def over_time(rows: Sequence[dict[str, Any]]) -> Figure:
    """Median of each burst over time, relative to the row's median: drift of the machine shows in all rows."""
    figure = Figure(figsize=(9, 3.4), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    for row, colour in zip(rows[:_MOST_LINES], _LINES, strict=False):
        bursts = [float(np.median(burst)) for burst in row["rounds"]["total"]]
        relative = np.array(bursts) / row["total"]["p50"]
        axes.plot(np.arange(1, len(bursts) + 1), relative, color=colour, lw=1.2, label=row["title"])
    axes.axhspan(0.95, 1.05, color="#000000", alpha=0.06, lw=0)
    axes.set_xlabel("round")
    axes.set_ylabel("time over its median")
    _plain(axes)
    axes.legend(frameon=False, fontsize=7, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def front(speeds: Sequence[dict[str, Any]], accuracies: Sequence[dict[str, Any]]) -> Figure | None:
    """Time of a frame against mIoU, one line of points for each data set; None where no bundle has both.

    Rows are matched by the bundle's digest and the precision, at the number of classes nearest to 20.
    """
    points: dict[str, list[tuple[float, float, str]]] = {}
    scores = [
        (document["bundle_digest"], score.get("stage", document.get("precision", "fp32")), score)
        for document in accuracies
        if "refinement" not in document  # it takes time that the rows of speed lack
        for score in document.get("accuracy", document.get("line", ()))
    ]
    for row in _at_usual_classes(speeds):
        subject = row["subject"]
        for digest, precision, score in scores:
            if digest == row["bundle_digest"] and precision == subject["precision"] and subject["backend"] != "torch":
                name = f"{subject['precision']} {size_of(subject)}"
                points.setdefault(score["dataset"], []).append((row["total"]["p50"], score["miou"], name))
    if not points:
        return None
    figure = Figure(figsize=(7, 4), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    for (dataset, found), colour in zip(points.items(), _LINES * 9, strict=False):
        found.sort()
        axes.plot(*zip(*((ms, miou) for ms, miou, _ in found), strict=True), "o-", color=colour, label=dataset, ms=5)
        for ms, miou, name in found:
            axes.annotate(name, (ms, miou), xytext=(4, 5), textcoords="offset points", fontsize=7)
    axes.set_xlabel("milliseconds a frame, median")
    axes.set_ylabel("mIoU")
    axes.margins(x=0.12, y=0.12)
    _plain(axes)
    axes.legend(frameon=False, fontsize=8)
    return figure


def png(figure: Figure) -> bytes:
    """The figure as a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _at_usual_classes(speeds: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of each bundle, precision and backend, the row whose K is nearest to `_USUAL_CLASSES`."""
    chosen: dict[tuple[Any, ...], dict[str, Any]] = {}
    for document in speeds:
        for row in document["speed"]["rows"]:
            subject = row["subject"]
            if subject["classes"] is None:
                continue
            key = (row["bundle_digest"], subject["precision"], subject["backend"], subject["threads"])
            known = chosen.get(key)
            distance = abs(subject["classes"] - _USUAL_CLASSES)
            if known is None or distance < abs(known["subject"]["classes"] - _USUAL_CLASSES):
                chosen[key] = row
    return list(chosen.values())


def _plain(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
