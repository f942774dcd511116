"""Result files as Markdown tables: the figures of the README are made from them, never typed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ...bundle.errors import BundleError, SinkError
from ..speed.precisions import precisions_table
from .accuracy_tables import accuracy_table, line_table, sequences_table
from .query_tables import query_table
from .speed_tables import profile_table, speed_tables
from .table import table

START, END = "<!-- figures: made by `ovs-bench report`, do not edit -->", "<!-- end of figures -->"


def tables(folder: Path) -> str:
    """Markdown of every result file in `folder`, in the order of their names."""
    return "\n\n".join(section(document) for document in load(folder).values())


def load(folder: Path) -> dict[str, dict[str, Any]]:
    """Result files by their names without .json. Raises `BundleError` for one that no table can be made of."""
    documents = {}
    for path in sorted(folder.glob("*.json")):
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            section(document)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BundleError(f"{path} is not a result of ovs-bench ({error!r}); measure again") from error
        documents[path.stem] = document
    return documents


def update(readme: Path, folder: Path) -> bool:
    """Put the tables between the markers of `readme`; tells whether anything changed."""
    text = readme.read_text(encoding="utf-8")
    new = replaced(text, folder)
    if new != text:
        readme.write_text(new, encoding="utf-8")
    return new != text


def replaced(text: str, folder: Path) -> str:
    """`text` with the tables of `folder` between its markers."""
    head, start, rest = text.partition(START)
    _, end, tail = rest.partition(END)
    if not start or not end:
        raise SinkError(f"no place for the figures; put these two lines where they belong: {START} {END}")
    return f"{head}{START}\n\n{tables(folder)}\n\n{END}{tail}"


def section(document: dict[str, Any]) -> str:
    """Tables of one result, and under them how and where it was measured."""
    environment = document["environment"]
    packages = environment["packages"]
    versions = ", ".join(f"{name} {packages[name]}" for name in ("onnxruntime", "torch") if name in packages)
    where = (
        f"`{document['command']}`, {environment['date']}, {environment['cores']} cores of {environment['processor']}, "
        f"Python {environment['python']}, {versions}"
    )
    renderers = {
        "accuracy": accuracy_table,
        "line": line_table,
        "ask": query_table,
        "sequences": sequences_table,
        "speed": speed_tables,
        "profile": profile_table,
        "precisions": precisions_table,
        "live": _live,
        "pipeline": _pipeline,
        "soak": _soak,
        "depth": _depth,
        "ablation": _ablation,
        "video": _video,
    }
    bodies = [render(document) for key, render in renderers.items() if key in document]
    if not bodies:
        raise KeyError(", ".join(renderers))
    return "\n\n".join([*bodies, where])


def _live(document: dict[str, Any]) -> str:
    row = document["live"]
    title = (
        f"Change of classes while `{row['bundle']}` is at work on `{row['source']}`, POST to the first frame with them, "
        f"{row['changes']} changes to five names"
    )
    rows = [
        [what, _ms(*(row[key][name] for name in ("median", "p95", "max")))]
        for what, key in (("names never seen before", "new_names"), ("known names", "known_names"))
    ]
    rows.append(["network and rate meanwhile", f"{row['model_ms']:.1f} ms, {row['fps']:.1f} FPS"])
    return table(title, ["what", "median / p95 / max"], rows)


def _pipeline(document: dict[str, Any]) -> str:
    result = document["pipeline"]
    height, width = result["frame_size"]
    together = result["together_share"]
    return "\n".join(
        [
            f"**Clip to saved video with `{result['bundle']}`, {width}x{height}**",
            "",
            "| what | rate | whole pipeline's share |",
            "| --- | --- | --- |",
            f"| whole pipeline, {result['at_once']} frames inferred at a time | {result['pipeline_fps']:.1f} FPS | |",
            f"| network alone, one frame after the other | {result['network_fps']:.1f} FPS | {result['share']:.0%} |",
            f"| network alone, {result['at_once']} at a time | {result['together_fps']:.1f} FPS | {together:.0%} |",
        ]
    )


def _soak(document: dict[str, Any]) -> str:
    result = document["soak"]
    pace = "as fast as it decodes" if result["unpaced"] else "at its own pace"
    return "\n".join(
        [
            f"**{result['minutes']:g} minutes of a looped clip {pace}, other classes every 5 s**",
            "",
            "| frames | changes | memory from minute 3 | threads | descriptors | age / inference | age, first / last |",
            "| --- | --- | --- | --- | --- | --- | --- |",
            (
                f"| {result['frames']} | {result['changes']} | {result['memory_growth']:+.1%} "
                f"| {result['threads_gained']:+d} | {result['descriptors_gained']:+d} "
                f"| {result['age_ms'] / result['model_ms']:.1f} "
                f"| {result['age_first_ms']:.0f} / {result['age_last_ms']:.0f} ms |"
            ),
        ]
    )


def _depth(document: dict[str, Any]) -> str:
    rows = [
        [
            row["model"], f"{row['parameters_m']:.1f} M", "x".join(map(str, row["input_size"])), row["decoder_layers"],
            f"{row['gflops']:.1f}", f"{row['onnx_ms']:.0f} ms", f"{row['torch_ms']:.0f} ms", f"{row['speedup']:.2f}x", f"{row['backbone_ms']:.0f} ms",
        ]
        for row in document["depth"]
    ]  # fmt: skip
    header = [
        "preset",
        "parameters",
        "input",
        "decoder layers",
        "GFLOPs",
        "ONNX Runtime FP32",
        "eager torch",
        "speed-up",
        "backbone alone",
    ]
    return table("Decoder depth, FP32; GFLOPs by torch's FlopCounterMode, multiply and add count two", header, rows)


def _ablation(document: dict[str, Any]) -> str:
    recipe, arms = document["recipe"], document["ablation"]
    seeds = len({run["seed"] for run in document["runs"]})
    trained, tested = (sum(document[key].values()) for key in ("train_photos", "test_photos"))
    title = (
        f"Ablation of the training, {recipe['steps']} steps on {trained} photos, mIoU in % over {tested} others, all "
        f"names competing, mean ± standard deviation of {seeds} seeds; never trained on: {', '.join(document['unseen'])}"
    )
    columns = ["seen", "unseen", "harmonic", "renamed_seen", "drop"]
    rows = [
        [arm, words, *(_percent(figures[prefix + name]) for name in columns)]
        for words, prefix in (("exact", ""), ("read", "read_"))
        for arm, figures in arms.items()
    ]
    header = ["training", "new words", "seen", "unseen", "harmonic", "seen, by synonyms", "drop by that"]
    return table(title, header, rows)


def _video(document: dict[str, Any]) -> str:
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
        f"Smoothing {strength:g}: labels that change from frame to frame on unmoving pixels, and foreground IoU",
        ["clip", "unmoving", "off", "on", "change", "IoU off", "IoU on", "part of a frame's time"],
        [*body, ["mean", "", "", "", fall, _iou(before), _iou(after), ""]],
    )
    apart = sorted({row["keyframes"] for row in rows if row["smooth"] > 0})
    body = [_keyframes([of[clip, True, every] for clip in clips], every, after) for every in apart]
    title = f"Key frames, with smoothing {strength:g}: the network sees every Nth frame, all clips together"
    return f"{smoothing}\n\n{table(title, ['N', 'seen', 'rate', 'foreground IoU'], body)}"


def _keyframes(rows: list[dict[str, Any]], every: int, full: list[dict[str, Any]]) -> list[Any]:
    frames = sum(row["frames"] for row in rows)
    seen = sum(row["network_share"] * row["frames"] for row in rows) / frames
    cost, whole = (sum(row["frame_ms"] * row["frames"] for row in side) / frames for side in (rows, full))
    return [every, f"{seen:.0%}", f"{whole / cost:.2f}x", _iou(rows)]


def _iou(rows: list[dict[str, Any]]) -> str:
    """Mean over the clips that have masks."""
    values = [row["iou"] for row in rows if row["iou"] is not None]
    return f"{sum(values) / len(values):.3f}" if values else ""


def _percent(figure: dict[str, float | None]) -> str:
    spread = figure["sd"]
    return f"{100 * (figure['mean'] or 0):.1f}" + (f" ± {100 * spread:.1f}" if spread is not None else "")


def _ms(*values: float) -> str:
    return " / ".join(f"{value:.1f}" for value in values) + " ms"
