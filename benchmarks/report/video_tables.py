"""Tables of `ovs-bench video` and of `scripts/tracker-table`."""

from __future__ import annotations

from typing import Any

from .table import table


def video_tables(document: dict[str, Any]) -> str:
    """Markdown of a result with the key "video"."""
    rows = document["video"]
    clips = list(dict.fromkeys(row["clip"] for row in rows))
    of = {(row["clip"], row["smooth"] > 0, row["keyframes"]): row for row in rows}
    strength = max(row["smooth"] for row in rows)
    before, after = ([of[clip, smooth, 1] for clip in clips] for smooth in (False, True))
    ratios = [
        new["flicker_unmoving"] / old["flicker_unmoving"] if old["flicker_unmoving"] else None
        for old, new in zip(before, after, strict=True)
    ]
    body = [
        [
            old["clip"], f"{old['unmoving']:.1%}",
            f"{old['flicker_unmoving']:.2%}", f"{new['flicker_unmoving']:.2%}",
            "" if ratio is None else f"{ratio - 1:+.0%}",
            *("" if row["iou"] is None else f"{row['iou']:.3f}" for row in (old, new)),
            f"{new['smooth_ms'] / new['frame_ms']:.1%}",
        ]
        for old, new, ratio in zip(before, after, ratios, strict=True)
    ]  # fmt: skip
    known = [ratio for ratio in ratios if ratio is not None]
    fall = f"{sum(known) / len(known) - 1:+.0%}" if known else ""
    smoothing = table(
        f"Temporal smoothing {strength:g}: labels that change from frame to frame on unmoving pixels, foreground IoU",
        ["clip", "unmoving", "off", "on", "change", "IoU off", "IoU on", "share of a frame's time"],
        [*body, ["mean", "", "", "", fall, _iou(before), _iou(after), ""]],
    )
    apart = sorted({row["keyframes"] for row in rows if row["smooth"] > 0})
    body = [_keyframes([of[clip, True, every] for clip in clips], every, after) for every in apart]
    title = f"Key frames, with temporal smoothing {strength:g}: the network runs on every Nth frame, all clips together"
    return f"{smoothing}\n\n{table(title, ['N', 'frames inferred', 'throughput', 'foreground IoU'], body)}"


def tracking_table(document: dict[str, Any]) -> str:
    """Markdown of a result with the key "tracking"."""
    result = document["tracking"]
    title = f"Trackers on the same regions, this one and those of `trackers` {result['trackers']}; milliseconds a frame"
    rows = [
        [
            row["clips"], row["tracker"], row["id_switches"], row["fragmentations"], f"{row['idf1']:.3f}",
            f"{row['recall']:.3f}", f"{row['gone_over']} of {row['tracks']}", f"{row['cpu_ms']:.1f}",
        ]
        for row in result["rows"]
    ]  # fmt: skip
    head = ["clips", "tracker", "id switches", "fragmentations", "IDF1", "recall", "tracks gone over", "ms"]
    return table(title, head, rows)


def _keyframes(rows: list[dict[str, Any]], every: int, full: list[dict[str, Any]]) -> list[Any]:
    frames = sum(row["frames"] for row in rows)
    seen = sum(row["network_share"] * row["frames"] for row in rows) / frames
    cost, whole = (sum(row["frame_ms"] * row["frames"] for row in side) / frames for side in (rows, full))
    return [every, f"{seen:.0%}", f"{whole / cost:.2f}x", _iou(rows)]


def _iou(rows: list[dict[str, Any]]) -> str:
    """Mean over the clips that have masks."""
    values = [row["iou"] for row in rows if row["iou"] is not None]
    return f"{sum(values) / len(values):.3f}" if values else ""
