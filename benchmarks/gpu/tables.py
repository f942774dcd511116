"""Tables of `ovs-bench gpu`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..report.table import table


def gpu_tables(document: dict[str, Any]) -> str:
    """Markdown of a result with the key "gpu": what was found, then a table for every part, then what was left out."""
    result = document["gpu"]
    parts = result["parts"]
    texts = [_capabilities(result)]
    for name, part in parts.items():
        if "error" in part:
            texts.append(f"**{name}**: failed: {part['error']}")
            continue
        if set(part) - {"seconds", "left_out"}:
            texts.append(_TABLES[name](part))
        if part.get("left_out"):
            texts.append(f"Left out of {name}: {'; '.join(part['left_out'])}.")
    return "\n\n".join(text for text in texts if text)


def _capabilities(result: dict[str, Any]) -> str:
    found = result["capabilities"]
    rows = [
        ["GPU", found["gpu"] or "none"],
        ["driver, compute capability", f"{found['driver'] or 'unknown'}, {found['capability'] or 'unknown'}"],
        ["GPU memory", f"{found['memory_mib']} MiB" if found["memory_mib"] else "unknown"],
        ["ONNX Runtime's providers", ", ".join(found["providers"]) or "none"],
        ["ONNX Runtime on CUDA", found["cuda_obstacle"] or "usable"],
        ["packages", ", ".join(f"{name} {version}" for name, version in found["packages"].items())],
    ]
    dry = " (dry run on the CPU: tests the kit, the figures mean nothing)" if result["dry_run"] else ""
    return table(f"GPU kit{dry}", ["what", "found"], rows)


def _roofline(part: dict[str, Any]) -> str:
    rows = [
        [row["provider"], row["precision"], f"{row['tflops']:.3f}", f"{row['gb_per_s']:.1f}"] for row in part["peaks"]
    ]
    return table(
        "Measured peak of the device: a matrix product, and a copy",
        ["provider", "precision", "TFLOP/s", "GB/s"],
        rows,
    )


def _parity(part: dict[str, Any]) -> str:
    rows = [
        [
            *(row[key] for key in ("model", "precision", "backend", "classes", "names")),
            f"{row['labels_equal']:.3%}",
            f"{row['confidence_apart']:.1e}",
            "passed" if row["passed"] else f"FAILED, expected {row['least_equal']:.1%}",
        ]
        for row in part["rows"]
    ]
    header = ["model", "precision", "backend", "K", "S", "labels equal", "confidence apart", "parity"]
    return table("Parity with ONNX Runtime on the CPU, worst picture", header, rows)


def _speed(part: dict[str, Any]) -> str:
    rows = []
    for row in part["rows"]:
        stages = row["stages"]
        network = sum(stages[name]["p50"] for name in ("upload", "infer", "download") if name in stages)
        rows.append(
            [
                row["title"],
                f"{network:.2f}",
                _share(row["bound_ms"], network),
                f"{row['total']['p50'] - network:.2f}",
                f"{row['total']['p50']:.2f} / {row['total']['p99']:.2f}",
                f"{row['fps']:.1f}",
                "" if row["joules"] is None else f"{row['joules']:.3f}",
            ]
        )
    header = ["row", "network", "share of roofline", "other stages", "p50 / p99", "FPS", "J a frame"]
    text = table("Latency of a frame from JPEG to JPEG with its labels drawn, milliseconds", header, rows)
    starts = [
        [
            f"{start['model']} {start['precision']} {start['backend']}",
            f"{start['first_labels_ms']:.0f} ms",
            f"{start['new_names_ms']:.1f} / {start['known_names_ms']:.1f} ms",
            f"{start['peak_mib']:.0f} MiB",
            "" if start["gpu_mib"] is None else f"{start['gpu_mib']:.0f} MiB",
        ]
        for start in part["starts"]
    ]
    header = ["row", "first labels", "class change, new / known names", "memory", "GPU memory"]
    return f"{text}\n\n{table('Start-up in a new process, class changes to five names', header, starts)}"


def _presets(part: dict[str, Any]) -> str:
    rows = [
        [
            row["model"],
            f"{row['side']}x{row['side']}",
            row["classes"],
            row["engine"],
            f"{row['gflops']:.1f}",
            f"{row['milliseconds']:.2f}",
            _share(row["bound_ms"], row["milliseconds"]),
        ]
        for row in part["rows"]
    ]
    header = ["preset", "input", "K", "engine", "GFLOPs", "ms", "share of roofline"]
    return table("Network of presets with random weights, copies included", header, rows) if rows else ""


def _frames(part: dict[str, Any]) -> str:
    rows = [
        [
            row["model"],
            row["backend"],
            "x".join(map(str, row["frame_size"][::-1])),
            row["classes"],
            f"{row['labels_equal']:.3%}",
            "passed" if row["passed"] else f"FAILED, expected {row['least_equal']:.1%}",
            f"{row['device_ms'][0]:.2f} + {row['device_ms'][1]:.2f}",
            f"{row['cpu_ms'][0]:.2f} + {row['cpu_ms'][1]:.2f}",
        ]
        for row in part["rows"]
    ]
    header = ["model", "backend", "frame", "K", "labels equal", "parity", "resizes on the device, ms", "on the CPU, ms"]
    return table("Frames resized on the device: to the input, and labels back", header, rows)


def _pipeline(part: dict[str, Any]) -> str:
    rows = [
        [
            row["bundle"],
            row["provider"],
            f"{row['pipeline_fps']:.1f}",
            f"{row['network_fps']:.1f}",
            f"{row['together_fps']:.1f}",
            f"{row['share']:.0%}",
        ]
        for row in part["rows"]
    ]
    header = ["bundle", "provider", "pipeline FPS", "network FPS", "network FPS, frames in flight", "share"]
    return table("Clip to saved video", header, rows)


def _live(part: dict[str, Any]) -> str:
    rows = [
        [
            row["bundle"],
            *(f"{row[key]['median']:.1f} / {row[key]['p95']:.1f}" for key in ("new_names", "known_names")),
            f"{row['fps']:.1f}",
        ]
        for row in part["rows"]
    ]
    header = ["bundle", "new names, median / p95", "known names", "FPS"]
    return table("Latency of a class change over HTTP, milliseconds", header, rows)


def _share(bound: float | None, milliseconds: float) -> str:
    return "" if bound is None or not milliseconds else f"{bound / milliseconds:.0%}"


_TABLES: dict[str, Callable[[dict[str, Any]], str]] = {
    "roofline": _roofline,
    "parity": _parity,
    "frames": _frames,
    "speed": _speed,
    "presets": _presets,
    "pipeline": _pipeline,
    "live": _live,
}
