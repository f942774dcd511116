"""Tables of classes that are shown by example, beside the same classes by name."""

from __future__ import annotations

from typing import Any

from ..report.table import table

_HEADER = (
    "data", "classes asked for by", "examples of each", "all", "found by name", "not found by name",
)  # fmt: skip


def example_table(document: dict[str, Any]) -> str:
    """Markdown of a result with the key "examples"."""
    rows = []
    for result in document["examples"]:
        for score in result["scores"]:
            figures = [_figure(score, key) for key in ("all", "strong", "weak")]
            rows.append([result["dataset"], score["arm"], str(score["shots"] or "–"), *figures])
    title = (
        f"Mean IoU of classes by name and by example, `{document['bundle']}`, {document['precision']}: all classes of a "
        f"data set compete, mean ± standard deviation over {document['draws']} draws of examples. Not found by name: IoU "
        f"below {document['weak_below']:g}. " + " ".join(map(_about, document["examples"]))
    )
    return table(title, _HEADER, rows)


def _about(result: dict[str, Any]) -> str:
    without = f", {len(result['without'])} without an example" if result["without"] else ""
    return (
        f"{result['dataset']}: {result['photos']} validation photos, examples from {result['train_photos']}, "
        f"{result['classes']} classes, {len(result['weak'])} of them not found by name{without}."
    )


def _figure(score: dict[str, Any], key: str) -> str:
    if score[key] is None:
        return "–"
    spread = f" ± {100 * score[f'{key}_sd']:.1f}" if score["shots"] else ""
    return f"{100 * score[key]:.1f}{spread}"
