"""Counters of all cameras in the text format of Prometheus.

https://prometheus.io/docs/instrumenting/exposition_formats/, version 0.0.4: names end in the base unit, counters in
`_total`; a label's value escapes backslashes, quotes and line feeds.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from ..events.delivery.lane import DeliveryState
from .camera import Camera
from .counts import CameraState

Value = float | int | None
Labels = Mapping[str, str]


def exposition(cameras: Iterable[Camera], deliveries: Iterable[DeliveryState], started: float) -> str:
    """All metrics; a value that is not known is left out. `started` is `time.time()` at the start of the program."""
    lines: list[str] = []

    def metric(name: str, kind: str, text: str, values: Iterable[tuple[Labels, Value]]) -> None:
        known = [(labels, value) for labels, value in values if value is not None]
        if known:
            lines.extend((f"# HELP {name} {text}", f"# TYPE {name} {kind}"))
            lines.extend(f"{name}{_braced(labels)} {value:.10g}" for labels, value in known)

    known = list(cameras)
    of = [({"camera": camera.name}, camera, camera.counts) for camera in known]
    states = [
        ({**label, "state": state.value}, camera.state[0] is state) for label, camera, _ in of for state in CameraState
    ]
    metric("ovs_camera_state", "gauge", "1 for the state that a camera is in.", states)
    metric(
        "ovs_camera_fps", "gauge", "Frames a second at the outputs.", [(label, counts.fps) for label, _, counts in of]
    )
    ages = [(label, _seconds(counts.age_ms)) for label, _, counts in of]
    metric("ovs_camera_frame_age_seconds", "gauge", "Median frame age at the outputs, of the last 30 frames.", ages)
    times = [(label, _seconds(counts.model_ms)) for label, _, counts in of]
    metric("ovs_camera_network_seconds", "gauge", "Median time in the network, of the last 30 frames.", times)
    frames = [(label, counts.frames) for label, _, counts in of]
    metric("ovs_camera_frames_total", "counter", "Frames labelled and given to the outputs.", frames)
    dropped = [(label, camera.dropped) for label, camera, _ in of]
    metric("ovs_camera_dropped_frames_total", "counter", "Stale frames that a newer one replaced.", dropped)
    busy = [(label, counts.model_seconds) for label, _, counts in of]
    metric("ovs_camera_network_seconds_total", "counter", "Time in the network.", busy)
    failures = [(label, counts.failures) for label, _, counts in of]
    metric("ovs_camera_failures_total", "counter", "Times a camera did not open, or an error ended it.", failures)
    outputs = [(label, counts.output_failures) for label, _, counts in of]
    metric("ovs_camera_output_failures_total", "counter", "Outputs that failed and were given up.", outputs)
    events = [(label, counts.events) for label, _, counts in of]
    metric("ovs_camera_events_total", "counter", "Events of the rules.", events)
    lost = [(label, counts.lost_events) for label, _, counts in of]
    metric("ovs_camera_lost_event_frames_total", "counter", "Frames whose events could not be handed on.", lost)
    ways = [({"receiver": way.name}, way) for way in deliveries]
    delivered = [(label, way.delivered) for label, way in ways]
    metric("ovs_events_delivered_total", "counter", "Events that have arrived.", delivered)
    metric("ovs_events_waiting", "gauge", "Events that wait.", [(label, way.waiting) for label, way in ways])
    dropped = [(label, way.dropped) for label, way in ways]
    metric("ovs_events_dropped_total", "counter", "Events without room, refused or unreadable.", dropped)
    for name, kind, text, value in _process(started):
        metric(name, kind, text, [({}, value)])
    return "\n".join(lines) + "\n"


def _process(started: float) -> list[tuple[str, str, str, Value]]:
    """What Prometheus' own libraries say of a process, under the same names."""
    usage = os.times()
    return [
        ("process_resident_memory_bytes", "gauge", "Resident memory.", _resident()),
        ("process_open_fds", "gauge", "Open files and sockets.", _count(Path("/proc/self/fd"))),
        ("process_threads", "gauge", "Threads.", _count(Path("/proc/self/task"))),
        ("process_cpu_seconds_total", "counter", "Processor time, user and system.", usage.user + usage.system),
        ("process_start_time_seconds", "gauge", "Start, since 1970.", started),
        ("process_uptime_seconds", "gauge", "Time since the start.", time.time() - started),
    ]


def _resident() -> int | None:
    try:
        found = re.search(r"VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text())
    except OSError:
        return None
    return int(found[1]) * 1024 if found else None


def _count(folder: Path) -> int | None:
    try:
        return len(os.listdir(folder))
    except OSError:
        return None


def _seconds(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1e3


def _braced(labels: Labels) -> str:
    escaped = {
        name: value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n") for name, value in labels.items()
    }
    return "{" + ",".join(f'{name}="{value}"' for name, value in escaped.items()) + "}" if labels else ""
