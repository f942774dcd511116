"""Files that are kept with a calibrated bundle: `calibration.json`, and its plot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

REPORT, PLOT = "calibration.json", "calibration.png"


def plot(report: dict[str, Any], path: Path) -> bool:
    """Draw damage against saving of each group; False if there is nothing to draw or matplotlib is not installed."""
    drawn = {name: entry["groups"] for name, entry in report["precisions"].items() if entry["groups"]}
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return False
    if not drawn:
        return False
    figure = Figure(figsize=(6 * len(drawn), 5), layout="constrained")
    for axes, (name, groups) in zip(figure.subplots(1, len(drawn), squeeze=False)[0], drawn.items(), strict=True):
        for kept, colour, label in ((True, "tab:blue", "INT8"), (False, "tab:red", "left out")):
            points = [group for group in groups if group["quantised"] is kept]
            axes.scatter([100 * p["saved"] for p in points], [100 * p["damage"] for p in points], c=colour, label=label)
        for group in groups:
            axes.annotate(group["name"], (100 * group["saved"], 100 * group["damage"]), fontsize=7)
        axes.set(
            title=name,
            xlabel="saved, % of FP32's time" if name == "int8-cpu" else "share of the multiply-adds, %",
            ylabel="labels that change by this group alone, %",
        )
        axes.legend()
    figure.savefig(path, dpi=100, metadata={"Software": None})
    return True
