"""Plot of n-shot segmentation: mean IoU by the number of examples, for each data set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

from ..picture_file import write_figure_file

_ARMS = {"examples": "#9aa5b1", "names + examples": "#3b7dd8", "weak shown": "#d1495b"}
_ROWS = (("strong", "classes that their names find"), ("weak", "classes that their names do not find"))


def plot(document: dict[str, Any], path: Path) -> None:
    """Draw the result of `ovs-bench examples` into a PNG; raises `SinkError` when it cannot be written."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    results = document["examples"]
    size = (3.2 * len(results) + 0.8, 5.2)
    figure, grid = pyplot.subplots(2, len(results), figsize=size, dpi=120, layout="constrained", squeeze=False)
    for column, result in enumerate(results):
        for row, (key, title) in enumerate(_ROWS):
            axes = grid[row][column]
            named = next(score for score in result["scores"] if not score["shots"])
            if named[key] is not None:
                axes.axhline(100 * named[key], color="#333333", linestyle="--", linewidth=1, label="names")
                for arm, colour in _ARMS.items():
                    scores = [score for score in result["scores"] if score["arm"] == arm]
                    axes.errorbar(
                        [score["shots"] for score in scores],
                        [100 * score[key] for score in scores],
                        yerr=[100 * score[f"{key}_sd"] for score in scores],
                        color=colour, label=arm, marker="o", markersize=4, capsize=2,
                    )  # fmt: skip
                axes.set_xscale("log")
                shots = sorted({score["shots"] for score in result["scores"]} - {0})
                axes.set_xticks(shots, [str(count) for count in shots])
                axes.minorticks_off()
            else:
                axes.text(0.5, 0.5, "none", ha="center", va="center", transform=axes.transAxes, color="#777777")
                axes.set_xticks([])
                axes.set_yticks([])
            axes.set_title(f"{result['dataset']}: {title}" if not column else result["dataset"], fontsize=9)
            axes.spines[["top", "right"]].set_visible(False)
            if row:
                axes.set_xlabel("examples of each class")
            if not column:
                axes.set_ylabel("mIoU, %")
    handles, labels = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, ncols=4 if len(results) > 1 else 2, loc="outside upper center")
    write_figure_file(path, figure)
