"""Tables of `ovs-bench speed` and `ovs-bench profile`."""

from __future__ import annotations

from typing import Any

from ovs_edge.benchmarks.compare import CONFIDENCE, relative
from ovs_edge.benchmarks.report_table import table

_ENGINES = {"cpu": "ONNX Runtime, CPU", "cuda": "ONNX Runtime, CUDA", "tensorrt": "TensorRT", "torch": "eager torch"}
_ENGINES |= {"ort-tensorrt": "ONNX Runtime, TensorRT", "ort-rtx": "ONNX Runtime, TensorRT-RTX", "peer": "peer"}
_SLOWEST = 12  # modules of a profile that are named


def speed_tables(document: dict[str, Any]) -> str:
    """Every contender's frame, what a new process costs, and what speaks against the figures."""
    result = document["speed"]
    threads = sorted({row["subject"]["threads"] for row in result["rows"] if row["subject"]["input_size"]})
    parts = [
        table(
            f"A frame from JPEG to JPEG with its labels drawn, {', '.join(str(count or 'all') for count in threads)} threads, "
            "milliseconds",
            ["model", "precision", "engine", "input", "layers", "K", "network", "all else", "p50 / p90 / p99", "FPS"],
            [_row(row) for row in result["rows"]],
        )
    ]
    if any(row["subject"]["backend"] == "peer" for row in result["rows"]):
        parts.append(_relative(result["rows"]))
    if result["starts"]:
        parts.append(
            table(
                "A new process",
                ["model", "first labels", "five new names, the first", "later", "known names", "memory"],
                [_start(start) for start in result["starts"]],
            )
        )
    return "\n\n".join(parts) + _care(speed_doubts(result))


def _care(doubts: list[str]) -> str:
    return f"\n\nTo be read with care: {'; '.join(doubts)}." if doubts else ""


def profile_table(document: dict[str, Any]) -> str:
    """The slowest modules, and all others as one row."""
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
    return table(title, ["module", "ms", "share"], rows) + _care(result["doubts"])


def _sum(layers: list[dict[str, Any]], key: str, form: str) -> str:
    return format(sum(layer[key] for layer in layers), form)


def speed_doubts(result: dict[str, Any]) -> list[str]:
    """Of the machine, then of each row."""
    own = [f"{row['title']}, {line}" for row in result["rows"] for line in row["doubts"]]
    return [*result["conditions"]["warnings"], *own]


def size_of(subject: dict[str, Any]) -> str:
    """`384x384`, or nothing for a peer whose input is unknown."""
    return "x".join(map(str, subject["input_size"] or ()))


def network_ms(row: dict[str, Any]) -> float | None:
    """Median of the network with its copies; None for a program that does not say."""
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
    """Beside peers, what counts is the ratio."""
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
