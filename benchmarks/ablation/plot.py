"""Plot of an ablation: bars of the arms' means with their standard deviations, every run as a point."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

from ..picture_file import write_figure_file

_GROUPS = {
    "seen": "seen",
    "unseen": "unseen",
    "read_unseen": "unseen, read",
    "renamed_seen": "seen, by synonyms",
    "read_renamed_seen": "seen, by synonyms, read",
}
_COLOURS = ("#9aa5b1", "#4c9f70", "#3b7dd8", "#d1495b")


def plot(document: dict[str, Any], path: Path) -> None:
    """Draw the result of `run_ablation` into a PNG; raises `SinkError` when it cannot be written."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    arms = document["ablation"]
    figure, axes = pyplot.subplots(figsize=(8, 3.6), dpi=120, layout="constrained")
    width = 0.8 / len(arms)
    for number, ((arm, figures), colour) in enumerate(zip(arms.items(), _COLOURS, strict=False)):
        places = [group + (number - (len(arms) - 1) / 2) * width for group in range(len(_GROUPS))]
        means = [100 * figures[name]["mean"] for name in _GROUPS]
        spreads = [100 * (figures[name]["sd"] or 0) for name in _GROUPS]
        axes.bar(places, means, 0.92 * width, yerr=spreads, color=colour, label=arm, capsize=2, ecolor="#333333")
        for place, name in zip(places, _GROUPS, strict=True):
            values = [100 * run[name] for run in document["runs"] if run["arm"] == arm]
            axes.plot([place] * len(values), values, ".", color="black", markersize=3, alpha=0.6)
    axes.set_xticks(range(len(_GROUPS)), list(_GROUPS.values()))
    axes.set_ylabel("mIoU, %")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, ncols=len(arms), loc="upper center", bbox_to_anchor=(0.5, 1.14))
    write_figure_file(path, figure)
