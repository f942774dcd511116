"""Tables of `ovs-bench live`, `pipeline`, `soak`, `cameras` and `serving`."""

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


def clicks_table(document: dict[str, Any]) -> str:
    """Markdown of a result with the key "clicks"."""
    row = document["clicks"]
    title = (
        f"A class shown by a click while `{row['bundle']}` runs on `{row['source']}`: {row['clicks']} clicks, from POST to "
        "the first frame with the class, and to the answer"
    )
    rows = [
        [what, _ms(*(row[key][name] for name in ("median", "p95", "max")))]
        for what, key in (
            ("first frame with the class, median / p95 / max", "seen"),
            ("answer", "answered"),
            ("first frame, shown in a frozen frame whose region was proposed before", "seen_frozen"),
        )
    ]
    rows.append(["network latency and frame rate meanwhile", f"{row['model_ms']:.1f} ms, {row['fps']:.1f} FPS"])
    rows.append([f"of {row['frames']} frames", f"{row['lost']} lost, {row['mixed']} with classes of another moment"])
    rows.append(
        ["a frame while nothing is shown, beside one before examples could be read", f"{row['idle_cost']:+.1%}"]
    )
    return table(title, ["what", "figure"], rows)


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


def cameras_table(document: dict[str, Any]) -> str:
    """Markdown of a result with the key "cameras"."""
    result = document["cameras"]
    title = (
        f"{result['cameras']} synthetic cameras of {result['camera_fps']:g} FPS each on one network, `{result['bundle']}`, "
        f"beside one camera of as many frames ({result['single_fps']:.1f} FPS, network {result['single_model_ms']:.0f} ms, "
        f"processor {result['single_cpu_ms']:.0f} ms)"
    )
    rows = [
        [
            one["sharing"],
            f"{one['fps']:.1f} FPS ({one['share']:.0%})",
            f"{one['age_ms']:.0f} ms",
            f"{one['age_bound']:.2f}",
            f"{one['slowest']:.0%}",
            f"{one['cpu_ms']:.0f} ms",
        ]
        for one in result["sharings"]
    ]
    head = [
        "sharing",
        "all cameras (of one camera)",
        "frame age",
        "of cameras x inference time",
        "slowest / fastest",
        "processor time",
    ]
    faults = [
        [
            fault["fault"],
            "half of the throughput" if fault["limited"] else "all of it",
            f"{fault['others']:.1%} ({fault['lowest']:.1%} to {fault['highest']:.1%})",
        ]
        for fault in result["faults"]
    ]
    second = table("Rate of the others while one camera", ["does this", "cameras take", "median (range)"], faults)
    return f"{table(title, head, rows)}\n\n{second}"


def cameras_soak_table(document: dict[str, Any]) -> str:
    """Markdown of a result with the key "cameras_soak"."""
    result = document["cameras_soak"]
    title = (
        f"{result['minutes']:g} minutes of {result['cameras']} cameras, classes, zones and rules of all changed every 5 s, "
        f"{result['faults']} faults"
    )
    row = [
        str(result["frames"]),
        str(result["changes"]),
        str(result["events"]),
        f"{result['memory_growth']:+.1%}",
        f"{result['threads_gained']:+d}",
        f"{result['descriptors_gained']:+d}",
        f"{result['age_ms']:.0f} ms",
    ]
    head = ["frames", "changes", "events", "memory from minute 3", "threads", "descriptors", "frame age"]
    return table(title, head, [row])


def serving_table(document: dict[str, Any]) -> str:
    """Markdown of a result with the key "serving"."""
    result = document["serving"]
    title = (
        f"Load test of `ovs-serve`: {result['minutes']:g} minutes, {result['clients']} clients with {result['lists']} "
        f"lists of classes, {result['replicas']} replicas of `{result['bundle']}`, {result['queue']} places to wait"
    )
    wrong = result["leaks"] + result["unlike_the_first"]
    row = [
        f"{result['answers']} ({result['per_second']:.1f} per second)",
        f"{result['exact']} of {result['compared']}",
        f"{wrong}",
        f"{result['busy']}, {result['failures']}",
        f"{result['refused']} of {result['hostile']}",
        f"{result['median_ms'] / 1e3:.1f}, {result['p95_ms'] / 1e3:.1f} s",
        f"{result['memory_growth']:+.1%}",
    ]
    head = [
        "answers",
        "distinct ones equal to `predict` in every pixel",
        "of other classes, or unlike the first",
        "503, other errors",
        "malformed requests refused",
        "latency, median and p95",
        "memory after a quarter of the run",
    ]
    return table(title, head, [row])


def _ms(*values: float) -> str:
    return " / ".join(f"{value:.1f}" for value in values) + " ms"
