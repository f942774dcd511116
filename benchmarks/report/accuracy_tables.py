"""Tables of accuracy results: by stage of the line, and of labelled sequences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .table import table

LINE_HEADER = ("data", "stage", "mIoU", "to the stage before", "to the first", "pixel accuracy", "boundary IoU")


def accuracy_table(document: dict[str, Any]) -> str:
    """Markdown of a result with the key "accuracy"; columns that no row has a figure for are left out."""
    refined = _refined(document)
    title = (
        f"Accuracy of `{document['bundle']}`, {document['precision']}{refined}, validation photos, all names competing"
    )
    header = ["data", "names", "photos", "mIoU", "pixel accuracy"]
    rows = [
        [row["dataset"], row["classes"], row["photos"], f"{row['miou']:.3f}", f"{row['pixel_accuracy']:.3f}"]
        for row in document["accuracy"]
    ]
    further = {
        "frequency-weighted IoU": [row.get("frequency_weighted") for row in document["accuracy"]],
        "boundary IoU": [row.get("boundary_iou") for row in document["accuracy"]],
        "PQ": [(row.get("panoptic") or {}).get("pq") for row in document["accuracy"]],
    }
    for name, values in further.items():
        if any(value is not None for value in values):
            header.append(name)
            rows = [[*row, _figure(value)] for row, value in zip(rows, values, strict=True)]
    return table(title, header, rows)


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
    refined = _refined(document)
    title = f"Accuracy of `{document['bundle']}` from the checkpoint to what is deployed{refined}, validation photos"
    return table(title, LINE_HEADER, line_rows(document["line"]))


def sequences_table(document: dict[str, Any]) -> str:
    """Markdown of a result with the key "sequences"."""
    lengths = list(dict.fromkeys(length for row in document["sequences"] for length in row["consistency"]))
    header = ["data", "smoothing", "key frames", "frames", "mIoU", "base / novel"]
    header += [f"VC{length} (strict)" for length in lengths]
    rows = []
    for row in document["sequences"]:
        novel = row["novel"]
        rows.append(
            [
                row["dataset"],
                f"{row['smooth']:g}",
                row["keyframes"],
                row["frames"],
                f"{row['miou']:.3f}",
                f"{novel['base']:.3f} / {novel['novel']:.3f}" if novel else "",
                *(f"{_figure(row['consistency'][n])} ({_figure(row['strict_consistency'][n])})" for n in lengths),
                *([_figure(row["panoptic"]["vpq"])] if row["panoptic"] else []),
            ]
        )
    if any(row["panoptic"] for row in document["sequences"]):
        header.append("VPQ")
        rows = [[*row, *[""] * (len(header) - len(row))] for row in rows]
    title = f"Labelled sequences with `{document['bundle']}`, {document['precision']}, all names competing"
    return table(title, header, rows)


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def limits_table(document: dict[str, Any]) -> str:
    """What limits a model: photos it was trained on, photos it was not, and the truth at its own resolution."""
    rows = [
        (
            row["data"],
            row["measured"],
            row["photos"],
            f"{row['miou']:.3f}",
            f"{row['boundary_iou']:.3f}",
            "" if row["person"] is None else f"{row['person']:.3f}",
        )
        for row in document["limits"]
    ]
    header = ("data", "measured on", "photos", "mIoU", "boundary IoU", "IoU of person")
    return table(f"What limits {document['bundle']}", header, rows)


def _refined(document: dict[str, Any]) -> str:
    """Of a title: how the labels were refined."""
    refinement = document.get("refinement", {})
    edges = ", `--refine-edges`" if refinement.get("edges") else ""
    least = refinement.get("least_region", 0)
    return edges + (f", `--min-region {least:g}`" if least else "")
