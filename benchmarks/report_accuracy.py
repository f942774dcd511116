"""Tables of accuracy results: by stage of the line, and of labelled sequences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ovs_edge.benchmarks.report_table import table

LINE_HEADER = ("data", "stage", "mIoU", "to the stage before", "to the first", "pixel accuracy", "boundary IoU")


def line_rows(results: Sequence[dict[str, Any]]) -> list[list[str]]:
    """A row for each data set and stage, with the difference of the mIoU to the stage before and to the first."""
    rows = []
    for dataset in dict.fromkeys(result["dataset"] for result in results):
        line = [result for result in results if result["dataset"] == dataset]
        for index, result in enumerate(line):
            steps = [result["miou"] - other["miou"] for other in (line[max(0, index - 1)], line[0])]
            rows.append(
                [
                    dataset,
                    result["stage"],
                    f"{result['miou']:.4f}",
                    *(f"{step:+.4f}" if index else "" for step in steps),
                    f"{result['pixel_accuracy']:.4f}",
                    f"{result['boundary_iou']:.4f}",
                ]
            )
    return rows


def line_table(document: dict[str, Any]) -> str:
    """Markdown of a result with the key "line"."""
    title = f"Accuracy of `{document['bundle']}` from the checkpoint to what is deployed, validation photos"
    return table(title, LINE_HEADER, line_rows(document["line"]))
