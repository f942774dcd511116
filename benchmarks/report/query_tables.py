"""Tables of what is found, missed and painted falsely when names are asked for alone or in short lists."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .table import table

_HEADER = (
    "data", "names asked for", "present", "found", "nothing painted", "mean IoU", "absent", "painted falsely",
    "found without person", "person, mean IoU",
)  # fmt: skip
_MOST_CLASSES = 12  # rows of the weakest classes


def query_rows(results: Sequence[dict[str, Any]]) -> list[list[str]]:
    """A row for each data set and kind of request, at the segmenter's own threshold."""
    return [[row["dataset"], row["request"], *_figures(row["score"])] for row in results]


def query_table(document: dict[str, Any]) -> str:
    """Markdown of a result with the key "ask": the figures, and the curves over sensitivity and threshold."""
    results = document["ask"]
    what = f"`{document['bundle']}`, {document['precision']}, validation photos"
    title = f"One name asked for at a time and lists of five, {what}"
    parts = [table(title, _HEADER, query_rows(results))]
    for row in results:
        scores = [*row["sensitivities"], *row["thresholds"]]  # none of a quick run
        if row["request"] != "alone" or not scores:
            continue
        curve = [
            [
                score["setting"]["sensitivity"],
                f"{score['setting']['threshold']:.2f}",
                *(_percent(score[key]) for key in ("found", "nothing", "false_alarms", "found_without_person")),
            ]
            for score in scores
        ]
        header = [
            "sensitivity", "confidence threshold", "found", "nothing painted", "painted falsely",
            "found without person",
        ]  # fmt: skip
        title = f"{row['dataset']}, one name at a time, by sensitivity and confidence threshold"
        parts.append(table(title, header, curve))
    return "\n\n".join(parts)


def weakest_classes(row: dict[str, Any]) -> str:
    """Markdown of the classes of one result that were found least often."""
    asked = [(name, score) for name, score in row["per_class"].items() if score["asked"]]
    asked.sort(key=lambda entry: (entry[1]["found"], entry[1]["mean_iou"], entry[0]))
    rows = [
        [name, score["asked"], _percent(score["found"]), _percent(score["nothing"]), _iou(score["mean_iou"])]
        for name, score in asked[:_MOST_CLASSES]
    ]
    header = ["class", "photos", "found", "nothing painted", "mean IoU"]
    return table(f"{row['dataset']}, {row['request']}: classes found least often", header, rows)


def _figures(score: dict[str, Any]) -> list[str]:
    return [
        str(score["asked"]),
        _percent(score["found"]),
        _percent(score["nothing"]),
        _iou(score["mean_iou"]),
        str(score["absent"]),
        _percent(score["false_alarms"]),
        _percent(score["found_without_person"]),
        _iou(score["person_mean_iou"]),
    ]


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.1%}"


def _iou(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
