"""Tables of `ovs-bench speed`, `ovs-bench profile` and `scripts/clip-table`."""

from __future__ import annotations

from typing import Any

from ..speed.compare import CONFIDENCE, relative
from .table import table

_ENGINES = {"cpu": "ONNX Runtime, CPU", "cuda": "ONNX Runtime, CUDA", "tensorrt": "TensorRT", "torch": "eager torch"}
_ENGINES |= {"cuda-graphs": "ONNX Runtime, CUDA graphs"}
_ENGINES |= {"ort-tensorrt": "ONNX Runtime, TensorRT", "ort-rtx": "ONNX Runtime, TensorRT-RTX", "peer": "peer"}
_ENGINES |= {"peer-cpu": "peer, ONNX Runtime, CPU", "peer-cuda": "peer, ONNX Runtime, CUDA"}
_SLOWEST = 12  # modules of a profile that are listed


def speed_tables(document: dict[str, Any]) -> str:
    """Latency of a frame for every row, start-up in a new process, and warnings about the measurement."""
    result = document["speed"]
    threads = sorted({row["subject"]["threads"] for row in result["rows"] if row["subject"]["input_size"]})
    header = [
        "model",
        "precision",
        "engine",
        "input",
        "layers",
        "K",
        "network",
        "other stages",
        "p50 / p90 / p99",
        "FPS",
    ]
    further = {
        "age, live": [_rounded((row.get("live") or {}).get("age_ms"), ".0f") for row in result["rows"]],
        "J a frame": [_rounded(row.get("joules"), ".3f") for row in result["rows"]],
        # Of one thread: threads that wait for work use CPU time, too.
        "network, CPU time": [
            _rounded(row.get("network_cpu_ms"), ".1f") if row["subject"]["threads"] == 1 else ""
            for row in result["rows"]
        ],
    }
    live = "; live: frame age of a camera at 30 FPS, stale frames dropped" if any(further["age, live"]) else ""
    counts = ", ".join(str(count or "all") for count in threads)
    parts = [
        table(
            f"Latency of a frame from JPEG to JPEG with its labels drawn, {counts} threads, milliseconds{live}",
            *_widened(header, [_row(row) for row in result["rows"]], further),
        )
    ]
    if any(is_peer(row["subject"]["backend"]) for row in result["rows"]):
        parts.append(_relative(result["rows"]))
    if result["starts"]:
        header = ["model", "first labels", "first class change", "to new names", "to known names", "memory"]
        memory = {"GPU memory": [_rounded(start.get("gpu_mib"), ".0f", " MiB") for start in result["starts"]]}
        parts.append(
            table(
                "Start-up in a new process, class changes to five names",
                *_widened(header, [_start(start) for start in result["starts"]], memory),
            )
        )
    return "\n\n".join(parts) + _warnings(speed_doubts(result))


def is_peer(backend: str) -> bool:
    """Whether a row is another model, not one of our bundles."""
    return backend.partition("-")[0] == "peer"


def _widened(
    header: list[str], rows: list[list[Any]], further: dict[str, list[str]]
) -> tuple[list[str], list[list[Any]]]:
    """With the `further` columns that are not empty."""
    columns = {name: cells for name, cells in further.items() if any(cells)}
    cells = zip(*columns.values(), strict=True) if columns else [()] * len(rows)
    return [*header, *columns], [[*row, *more] for row, more in zip(rows, cells, strict=True)]


def _rounded(value: float | None, form: str, unit: str = "") -> str:
    return "" if value is None else f"{value:{form}}{unit}"


def _warnings(found: list[str]) -> str:
    return f"\n\nWarnings during the measurement: {'; '.join(found)}." if found else ""


def profile_table(document: dict[str, Any]) -> str:
    """The slowest modules, and the others as one row."""
    result = document["profile"]
    shown, others = result["layers"][:_SLOWEST], result["layers"][_SLOWEST:]
    rows = [[layer["module"], f"{layer['ms']:.2f}", f"{layer['share']:.1%}"] for layer in shown]
    rows.append(
        [f"{len(others)} others", *(_sum(others, key, form) for key, form in (("ms", ".2f"), ("share", ".1%")))]
    )
    title = (
        f"Slowest modules of `{result['bundle']}`, {result['precision']}, {size_of(result)}, K = {result['classes']}, "
        f"{result['threads']} threads: {result['network_ms']:.1f} ms a run, profiled"
    )
    return table(title, ["module", "ms", "share"], rows) + _warnings(result["doubts"])


def _sum(layers: list[dict[str, Any]], key: str, form: str) -> str:
    return format(sum(layer[key] for layer in layers), form)


def speed_doubts(result: dict[str, Any]) -> list[str]:
    """Warnings about the machine, then about each row."""
    own = [f"{row['title']}, {line}" for row in result["rows"] for line in row["doubts"]]
    return [*result["conditions"]["warnings"], *own]


def size_of(subject: dict[str, Any]) -> str:
    """`384x384`; empty for a peer whose input is unknown."""
    return "x".join(map(str, subject["input_size"] or ()))


def network_ms(row: dict[str, Any]) -> float | None:
    """Median of the network with its copies; None for a program that does not report it."""
    parts = [row["stages"][name]["p50"] for name in ("upload", "infer", "download") if name in row["stages"]]
    return sum(parts) if parts else None


def _row(row: dict[str, Any]) -> list[Any]:
    subject, total, network = row["subject"], row["total"], network_ms(row)
    return [
        subject["model"],
        subject["precision"] or "",
        _ENGINES.get(subject["backend"], subject["backend"]),
        size_of(subject),
        _or_nothing(subject["decoder_layers"]),
        _or_nothing(subject["classes"]),
        "" if network is None else f"{network:.1f}",
        "" if network is None else f"{total['p50'] - network:.1f}",
        " / ".join(f"{total[key]:.1f}" for key in ("p50", "p90", "p99")),
        f"{row['fps']:.1f}",
    ]


def _relative(rows: list[dict[str, Any]]) -> str:
    """Time of every row relative to the first row."""
    body = [
        [
            entry.title,
            f"{entry.ratio:.2f}",
            f"{entry.low:.2f} to {entry.high:.2f}" if entry.judged else "too few bursts",
        ]
        for entry in relative(rows)
    ]
    title = f"Times the time of {rows[0]['title']}, {CONFIDENCE:.0%} interval"
    return table(title, ["row", "ratio", "interval"], body)


def _start(start: dict[str, Any]) -> list[Any]:
    return [
        f"{start['model']} {start['precision']}, {_ENGINES[start['backend']]}, {size_of(start)}",
        *(f"{start[key]:.0f} ms" for key in ("first_labels_ms", "first_names_ms")),
        *(f"{start[key]:.1f} ms" for key in ("new_names_ms", "known_names_ms")),
        f"{start['peak_mib']:.0f} MiB",
    ]


def _or_nothing(value: int | None) -> str:
    return "" if value is None else str(value)


def precisions_table(document: dict[str, Any]) -> str:
    """Markdown of a result with the key "precisions"."""
    result = document["precisions"]
    height, width = result["input_size"]
    milliseconds = result["milliseconds"]
    rows = []
    for name, verdict in result["verdicts"].items():
        took, gain = milliseconds.get(name), ""
        if took is not None:
            gain = f"{took:.1f} / {milliseconds['fp32']:.1f} ms, {milliseconds['fp32'] / took:.2f}x"
        labelled = ", ".join(f"{row['dataset']} {row['found']:.3f} / {row['fp32']:.3f}" for row in verdict["labelled"])
        rows.append(
            [
                name,
                f"{verdict['agreement']:.2%}",
                f"{verdict['worst']:.2%}",
                labelled,
                gain,
                "passed" if verdict["passed"] else "failed",
            ]
        )
    title = (
        f"Precisions of `{result['bundle']}` beside FP32, {height}x{width}; network on a CPU with "
        f"K = {result['classes']}, {result['threads'] or 'all'} threads"
    )
    return table(title, ["precision", "labels equal", "worst photo", "mIoU / of FP32", "CPU / FP32", "verdict"], rows)


def depth_table(document: dict[str, Any]) -> str:
    """Markdown of a result with the key "depth"."""
    rows = [
        [
            row["model"], f"{row['parameters_m']:.1f} M", "x".join(map(str, row["input_size"])), row["decoder_layers"],
            f"{row['gflops']:.1f}", f"{row['onnx_ms']:.0f} ms", f"{row['torch_ms']:.0f} ms", f"{row['speedup']:.2f}x",
            f"{row['backbone_ms']:.0f} ms",
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
    return table("Decoder depth, FP32; GFLOPs by torch's FlopCounterMode, a multiply-add is 2", header, rows)


def clip_table(document: dict[str, Any]) -> str:
    """Exports of plain CLIP, random weights: latency beside torch and memory; agreement with torch, and in FP16."""
    rows = document["clip_exports"]
    speed = [
        (
            row["case"],
            f"{row['onnx_ms']} ms",
            f"{row['torch_ms']} ms",
            f"{row['ratio']:.2f}",
            f"{row['runtime_peak_gib']:.2f} GiB",
        )
        for row in rows
        if "onnx_ms" in row
    ]
    agreement = [
        (
            row["case"],
            _percent(min(case["labels_equal"] for case in row["parity"])) if "parity" in row else "",
            f"{max(case['confidence_most'] for case in row['parity']):.0e}" if "parity" in row else "",
            _percent(row.get("fp16_labels_mean")),
            _percent(row.get("fp16_labels_worst")),
            "" if "plan_seconds" not in row else f"{row['plan_seconds']:.0f} s, {row['plan_mib']:.0f} MiB",
        )
        for row in rows
    ]
    title = "Plain CLIP, FP32, 30 names, all cores"
    header = ("model, windows, height x width", "ONNX Runtime", "eager torch", "ratio", "peak memory")
    second = (
        "export",
        "labels as torch, worst",
        "confidence differs by",
        "FP16 labels equal",
        "worst photo",
        "FP16 plan, TensorRT-RTX",
    )
    return "\n\n".join((table(title, header, speed), table("Plain CLIP, agreement", second, agreement)))


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.2f}%"
