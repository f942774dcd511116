"""Events to deliver."""

from __future__ import annotations

from ovs_edge.runtime.events.event import Event, EventKind


def event(
    number: int, kind: EventKind = EventKind.CROSSED, rule: str = "person crosses gate", **changes: object
) -> Event:
    """Event `number` of camera "front door"."""
    values: dict[str, object] = {
        "id": f"run-{number:08d}",
        "number": number,
        "time": 1_790_000_000.0 + number,
        "seconds": number / 25,
        "camera": "front door",
        "rule": rule,
        "kind": kind,
        "label": "person",
        "place": "gate",
        "region": number,
        **changes,
    }
    return Event(**values)  # type: ignore[arg-type]
