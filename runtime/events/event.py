"""What happened: one frozen value, the same for every way of delivery."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from enum import Enum
from typing import Any


class EventKind(str, Enum):
    """How an event came about."""

    STARTED = "started"  # the condition of a rule holds (for as long as its `for` asks)
    ENDED = "ended"  # it held, and no longer does, or nobody asks any more
    ENTERED = "entered"  # a region entered a zone
    LEFT = "left"  # a region left a zone, or vanished in it; `value` is its dwell time in seconds
    STAYED = "stayed"  # a region has been in a zone for the time that the rule asks; `value` is that time in seconds
    CROSSED = "crossed"  # a region crossed a line

    @property
    def lasting(self) -> bool:
        """Whether it switches a state on or off; else it is over at once."""
        return self in (EventKind.STARTED, EventKind.ENDED)


@dataclass(frozen=True)
class Event:
    """One event. `to_dict` is its form on every way: JSON lines, MQTT, webhook, a command's standard input."""

    id: str  # unique for all time; a receiver that gets an id twice drops the second (delivery is at least once)
    number: int  # 1, 2, 3, … within one run and camera: the order of events
    time: float  # when it happened, seconds since 1970 (UTC)
    seconds: float  # when it happened, seconds since the source's first frame: the position in a clip
    camera: str  # name of the camera
    rule: str  # name of the rule
    kind: EventKind
    label: str  # class
    place: str  # name of the zone or line; "frame" for the whole picture
    region: int | None = None  # `Track.id` of the region that did it; None for counts and coverages
    value: float | None = None  # count of regions, percent, or seconds, see `kind`; None of ENDED: nobody asks any more
    direction: str | None = None  # of a crossing: "left" or "right", seen from the line's first point to its last
    box: tuple[int, int, int, int] | None = None  # of that region, x0, y0, x1, y1 in pixels
    snapshot: bytes | None = None  # the annotated picture as JPEG, where snapshots are asked for

    def to_dict(self) -> dict[str, Any]:
        """Plain values without the snapshot; `time` in ISO 8601, UTC, to the millisecond. No field is left out."""
        values = asdict(self)
        del values["snapshot"]
        moment = datetime.fromtimestamp(self.time, timezone.utc)
        values["time"] = moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        values["seconds"] = round(self.seconds, 3)
        values["kind"] = self.kind.value
        values["value"] = None if self.value is None else round(self.value, 3)
        values["box"] = None if self.box is None else list(self.box)
        return {name: values[name] for name in _ORDER}


_ORDER = (
    "id",
    "number",
    "time",
    "seconds",
    "camera",
    "rule",
    "kind",
    "label",
    "place",
    "region",
    "value",
    "direction",
    "box",
)
