"""Tables of `ovs-bench live`, `pipeline` and `soak`."""

from __future__ import annotations

from typing import Any

from .table import table


def live_table(document: dict[str, Any]) -> str:
    """Markdown of a result with the key "live"."""
    row = document["live"]
    title = (
        f"Latency of a class change while `{row['bundle']}` runs on `{row['source']}`, from POST to the first frame "
        f"with the new classes, {row['changes']} changes to five names"
    )
    rows = [
        [what, _ms(*(row[key][name] for name in ("median", "p95", "max")))]
        for what, key in (("new names", "new_names"), ("known names", "known_names"))
    ]
    rows.append(["network latency and frame rate meanwhile", f"{row['model_ms']:.1f} ms, {row['fps']:.1f} FPS"])
    return table(title, ["what", "median / p95 / max"], rows)


def pipeline_table(document: dict[str, Any]) -> str:
    """Markdown of a result with the key "pipeline"."""
    result = document["pipeline"]
    height, width = result["frame_size"]
    together = result["together_share"]
    return "\n".join(
        [
            f"**Clip to saved video with `{result['bundle']}`, {width}x{height}**",
            "",
            "| what | rate | share of it that the pipeline reaches |",
            "| --- | --- | --- |",
            f"| whole pipeline, {result['at_once']} frames inferred at a time | {result['pipeline_fps']:.1f} FPS | |",
            f"| network alone, one frame at a time | {result['network_fps']:.1f} FPS | {result['share']:.0%} |",
            f"| network alone, {result['at_once']} at a time | {result['together_fps']:.1f} FPS | {together:.0%} |",
        ]
    )


def soak_table(document: dict[str, Any]) -> str:
    """Markdown of a result with the key "soak"."""
    result = document["soak"]
    pace = "as fast as it decodes" if result["unpaced"] else "at its frame rate"
    return "\n".join(
        [
            f"**{result['minutes']:g} minutes of a looped clip {pace}, a class change every 5 s**",
            "",
            (
                "| frames | changes | memory from minute 3 | threads | descriptors | frame age / inference "
                "| frame age, first / last tenth |"
            ),
            "| --- | --- | --- | --- | --- | --- | --- |",
            (
                f"| {result['frames']} | {result['changes']} | {result['memory_growth']:+.1%} "
                f"| {result['threads_gained']:+d} | {result['descriptors_gained']:+d} "
                f"| {result['age_ms'] / result['model_ms']:.1f} "
                f"| {result['age_first_ms']:.0f} / {result['age_last_ms']:.0f} ms |"
            ),
        ]
    )


def _ms(*values: float) -> str:
    return " / ".join(f"{value:.1f}" for value in values) + " ms"
