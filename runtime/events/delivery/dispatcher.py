"""Takes events from the pipeline and delivers them, each way in its own thread, at least once and in order."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping

import numpy as np
import numpy.typing as npt

from ....bundle.errors import note
from ...opencv import cv2
from ..event import Event
from ..rule_states import RuleStates
from ..rules import Rule
from .lane import DeliveryState, Lane
from .options import CommandOptions, DeliveryConfig, JsonLinesOptions, MqttOptions, WebhookOptions
from .receiver import Receiver

_DRAIN = 3.0  # seconds that events on their way get when the run ends; what is left stays on disk
_GRACE = 4.0  # seconds after these for a receiver to say goodbye
_QUALITY = 85  # of a snapshot's JPEG

Cameras = Mapping[str, Mapping[str, Rule]]  # the rules of each camera by their names
Way = JsonLinesOptions | CommandOptions | WebhookOptions | MqttOptions


class EventDispatcher:
    """All ways of delivery of a run; cameras may share one. `publish` may be called from any thread."""

    def __init__(
        self, config: DeliveryConfig, cameras: Cameras | None = None, tell: Callable[[str], None] = note
    ) -> None:
        """`cameras` are for Home Assistant's discovery; `tell` takes notes.

        Raises `UsageError` for a way that cannot be, `SinkError` where events cannot be kept, `MissingExtraError`
        without paho-mqtt.
        """
        self._config = config
        self._tell = tell
        self._rule_states = RuleStates()
        self._lanes: dict[type[Way], Lane] = {}  # replaced as a whole
        try:
            for way in _ways(config):
                self._lanes[type(way)] = self._opened(way, config, cameras or {})
        except BaseException:
            self.close(drain=0)
            raise

    @property
    def snapshots(self) -> bool:
        """Whether events go with a picture."""
        return self._config.snapshots

    @property
    def states(self) -> tuple[DeliveryState, ...]:
        """How each way of delivery is."""
        return tuple(lane.state for lane in self._lanes.values())

    def publish(self, events: Iterable[Event], picture: npt.NDArray[np.uint8] | None = None) -> None:
        """Deliver `events` in this order; returns once they are on disk, or in memory where the disk takes none.

        `picture` (H, W, 3) BGR goes along where snapshots are asked for. Raises `BrokenPipeError` where events go to
        standard output and its reader has left.
        """
        snapshot: bytes | None = None
        lanes = list(self._lanes.values())
        for event in events:
            if self.snapshots and picture is not None and snapshot is None:
                snapshot = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1].tobytes()
            text = json.dumps(event.to_dict(), ensure_ascii=False)
            for lane in lanes:
                lane.append(text, event.snapshot or snapshot)
        if any(lane.gone for lane in lanes):
            raise BrokenPipeError

    def set_states(self, camera: str, active: Mapping[str, bool], *, playing: bool = True) -> None:
        """Tell receivers that show states (MQTT) which rules' states are on, of all rules of `camera`.

        `playing`: whether its frames come, so that the states are those of now.
        """
        self._rule_states.set(camera, active, playing=playing)

    def reconfigure(self, cameras: Cameras) -> None:
        """Tell receivers that list the rules (Home Assistant) of other ones."""
        for lane in self._lanes.values():
            lane.reconfigure(cameras)

    def change(self, config: DeliveryConfig, cameras: Cameras) -> bool:
        """Take over other ways, or other rules; whether the ways are others. Those that are as before go on.

        `publish` does not wait meanwhile: events for a way that is replaced go to the new one. Not to be called by two
        threads at once. Raises `UsageError`, `SinkError`, `MissingExtraError`; then the ways are as before.
        """
        before, after = ({type(way): way for way in _ways(one)} for one in (self._config, config))
        moved = (config.spool, config.origin) != (self._config.spool, self._config.origin)
        kept = {kind: lane for kind, lane in self._lanes.items() if not moved and before[kind] == after.get(kind)}
        ended = {kind: lane for kind, lane in self._lanes.items() if kind not in kept}
        if not ended and set(kept) == set(after):
            self.reconfigure(cameras)
            return False
        _end(ended.values(), time.monotonic(), hold=True)
        lanes = dict(kept)
        try:
            for kind, way in after.items():
                if kind not in kept:
                    lanes[kind] = self._opened(way, config, cameras)
        except BaseException:
            _end([lane for kind, lane in lanes.items() if kind not in kept], time.monotonic())
            lanes, config = dict(kept), self._config
            for kind in ended:
                lanes[kind] = self._opened(before[kind], config, cameras)
            raise
        finally:
            # Before anybody publishes to the new lanes: events that were held go first, and later ones after them.
            for kind, lane in ended.items():
                lane.hand_over(lanes.get(kind))
            self._lanes = {kind: lanes[kind] for kind in (*after, *before) if kind in lanes}
            self._config = config
        for lane in kept.values():
            lane.reconfigure(cameras)
        return True

    def close(self, drain: float = _DRAIN) -> None:
        """Deliver what waits for up to `drain` seconds, then end the threads. May be called more than once."""
        _end(self._lanes.values(), time.monotonic() + drain)

    def _opened(self, way: Way, config: DeliveryConfig, cameras: Cameras) -> Lane:
        spool = config.spool
        receiver = self._receiver(way, cameras, config)
        limits = spool.most_events, spool.most_megabytes * 2**20
        try:
            folder = None if receiver.key is None else spool.place
            return Lane(receiver, folder, limits, self._tell, snapshots=getattr(way, "snapshots", False))
        except BaseException:
            receiver.close()
            raise

    def _receiver(self, way: Way, cameras: Cameras, config: DeliveryConfig) -> Receiver:
        """Modules are imported where they are needed."""
        if isinstance(way, JsonLinesOptions):
            from .json_lines import JsonLinesReceiver

            return JsonLinesReceiver(way)
        if isinstance(way, CommandOptions):
            from .command import CommandReceiver

            return CommandReceiver(way)
        if isinstance(way, WebhookOptions):
            from .webhook import WebhookReceiver

            return WebhookReceiver(way)
        from .mqtt.announced import AnnouncedTopics
        from .mqtt.broker import address
        from .mqtt.receiver import MqttReceiver

        name = config.origin or json.dumps(sorted(cameras))
        announced = AnnouncedTopics(config.spool.place, "{}:{}".format(*address(way)), name)
        return MqttReceiver(way, cameras, announced, self._rule_states, self._tell)


def _end(lanes: Iterable[Lane], deadline: float, *, hold: bool = False) -> None:
    """Stop all `lanes` at the same time, and wait for them, though not for ever."""
    lanes = list(lanes)
    for lane in lanes:
        lane.stop(deadline, hold=hold)
    for lane in lanes:
        lane.join(max(0.0, deadline + _GRACE - time.monotonic()))


def _ways(config: DeliveryConfig) -> list[Way]:
    return [way for way in (config.json_lines, config.command, config.webhook, config.mqtt) if way is not None]
