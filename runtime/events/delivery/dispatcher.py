"""Takes events from the pipeline and delivers them, each way in its own thread, at least once and in order."""

from __future__ import annotations

import json
import os
import random
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ....bundle.errors import note
from ...opencv import cv2
from ..event import Event
from ..rule_states import RuleStates
from ..rules import Rule
from .options import DeliveryConfig, SpoolOptions
from .receiver import Receiver, Refused, Undelivered
from .spool import Spool

_FIRST_WAIT, _LONGEST_WAIT = 0.5, 60.0  # seconds between two attempts; each is twice the one before, within these
_DRAIN = 3.0  # seconds that events on their way get when the run ends; what is left stays on disk
_QUALITY = 85  # of a snapshot's JPEG


@dataclass(frozen=True)
class DeliveryState:
    """One way of delivery at one moment."""

    name: str
    delivered: int  # since the start
    waiting: int  # on disk
    dropped: int  # that found no room on disk, or were refused
    error: str | None  # why the last attempt failed; None if it did not


class EventDispatcher:
    """All ways of delivery of a run; cameras may share one. `publish` may be called from any thread."""

    def __init__(
        self,
        config: DeliveryConfig,
        cameras: Mapping[str, Mapping[str, Rule]] | None = None,
        tell: Callable[[str], None] = note,
        states: RuleStates | None = None,
    ) -> None:
        """`cameras` are the rules of each camera by their names, for Home Assistant's discovery; `tell` takes notes.

        `states` are the states of the rules, which may outlive this dispatcher; None: its own.

        Raises `UsageError` for a way that cannot be, `SinkError` where events cannot be kept, `MissingExtraError`
        without paho-mqtt.
        """
        self.snapshots = config.snapshots  # whether events go with a picture
        self._rule_states = RuleStates() if states is None else states
        self._lines: list[_Lane] = []
        try:
            for receiver in _receivers(config, cameras or {}, tell, self._rule_states):
                self._lines.append(_Lane(receiver, config.spool, tell))
        except BaseException:
            self.close(drain=0)
            raise

    @property
    def states(self) -> tuple[DeliveryState, ...]:
        """How each way of delivery is."""
        return tuple(line.state for line in self._lines)

    def publish(self, events: Iterable[Event], picture: npt.NDArray[np.uint8] | None = None) -> None:
        """Deliver `events` in this order; returns once they are on disk.

        `picture` (H, W, 3) BGR goes along where snapshots are asked for. Raises `SinkError` where the disk is full.
        """
        snapshot: bytes | None = None
        for event in events:
            if self.snapshots and picture is not None and snapshot is None:
                snapshot = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1].tobytes()
            text = json.dumps(event.to_dict(), ensure_ascii=False)
            for line in self._lines:
                line.append(text, event.snapshot or snapshot)

    def set_states(self, camera: str, active: Mapping[str, bool]) -> None:
        """Tell receivers that show states (MQTT) which rules' states are on, of all rules of `camera`."""
        self._rule_states.set(camera, active)

    def reconfigure(self, cameras: Mapping[str, Mapping[str, Rule]]) -> None:
        """Tell receivers that list the rules (Home Assistant) of other ones."""
        for line in self._lines:
            line.reconfigure(cameras)

    def close(self, drain: float = _DRAIN) -> None:
        """Deliver what waits for up to `drain` seconds, then end the threads. May be called more than once."""
        deadline = time.monotonic() + drain
        for line in self._lines:
            line.stop(deadline)
        for line in self._lines:
            line.join()


class _Lane:
    """One receiver, its spool and its thread."""

    def __init__(self, receiver: Receiver, options: SpoolOptions, tell: Callable[[str], None]) -> None:
        self._receiver = receiver
        self._tell = tell
        self._spool = Spool(_folder(options), receiver.key, options.most_events, options.most_megabytes * 2**20)
        self._wake = threading.Event()
        self._deadline: float | None = None  # time.monotonic() from which nothing is attempted any more
        self._delivered = self._refused = 0
        self._error: str | None = None
        self._full = False
        self._thread = threading.Thread(target=self._run, name=f"events to {receiver.key}", daemon=True)
        self._thread.start()

    @property
    def state(self) -> DeliveryState:
        dropped = self._spool.dropped + self._refused
        return DeliveryState(self._receiver.name, self._delivered, len(self._spool), dropped, self._error)

    def append(self, text: str, snapshot: bytes | None) -> None:
        self._spool.append(text, snapshot)
        if self._spool.dropped and not self._full:
            self._full = True
            self._tell(f"{self._receiver.name}: too many events wait; the oldest are dropped")
        self._wake.set()

    def reconfigure(self, cameras: Mapping[str, Mapping[str, Rule]]) -> None:
        change = getattr(self._receiver, "reconfigure", None)
        if change is not None:
            change(cameras)

    def stop(self, deadline: float) -> None:
        self._deadline = deadline
        self._wake.set()

    def join(self) -> None:
        if self._thread.ident is not None:
            self._thread.join()

    def _stopped(self) -> bool:
        return self._deadline is not None and time.monotonic() >= self._deadline

    def _run(self) -> None:
        wait = _FIRST_WAIT
        try:
            while not self._stopped():
                event = self._spool.first()
                if event is None:
                    if self._deadline is not None:
                        break
                    self._wake.wait()
                    self._wake.clear()
                    continue
                try:
                    self._receiver.deliver(event, self._stopped)
                except Undelivered as error:
                    if self._error is None and not error.told:
                        self._tell(f"{self._receiver.name}: {error}; events wait on disk")
                    self._error = str(error)
                    if error.wait:
                        self._pause(wait * random.uniform(0.75, 1.25))
                        wait = min(_LONGEST_WAIT, 2 * wait)
                    continue
                except Refused as error:
                    self._refused += 1
                    self._tell(f"{self._receiver.name}: an event is dropped: {error}")
                else:
                    self._delivered += 1
                if self._error is not None:
                    self._tell(f"{self._receiver.name}: events arrive again; {len(self._spool) - 1} still wait")
                self._error, wait = None, _FIRST_WAIT
                self._spool.remove(event)
            if left := len(self._spool):
                self._tell(f"{self._receiver.name}: {left} events wait on disk; the next run delivers them")
        except Exception as error:  # noqa: BLE001 - one way fails, the run does not
            self._error = f"{type(error).__name__}: {error}"
            self._tell(f"{self._receiver.name} has stopped ({self._error})")
        finally:
            self._receiver.close()
            self._spool.close()

    def _pause(self, seconds: float) -> None:
        """Wait, though not past the end of the run."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0 and not self._stopped():
            if self._deadline is not None:
                left = min(left, self._deadline - time.monotonic())
                time.sleep(max(0.0, min(left, 0.05)))
            else:
                time.sleep(min(left, 0.05))


def _receivers(
    config: DeliveryConfig,
    cameras: Mapping[str, Mapping[str, Rule]],
    tell: Callable[[str], None],
    states: RuleStates,
) -> Iterable[Receiver]:
    if config.json_lines is not None:
        from .json_lines import JsonLinesReceiver

        yield JsonLinesReceiver(config.json_lines)
    if config.command is not None:
        from .command import CommandReceiver

        yield CommandReceiver(config.command)
    if config.webhook is not None:
        from .webhook import WebhookReceiver

        yield WebhookReceiver(config.webhook)
    if config.mqtt is not None:
        from .mqtt.announced import AnnouncedTopics
        from .mqtt.broker import address
        from .mqtt.receiver import MqttReceiver

        origin = config.origin or json.dumps(sorted(cameras))
        announced = AnnouncedTopics(_folder(config.spool), "{}:{}".format(*address(config.mqtt)), origin)
        yield MqttReceiver(config.mqtt, cameras, announced, states, tell)


def _folder(options: SpoolOptions) -> Path:
    if options.folder is not None:
        return Path(options.folder)
    base = os.environ.get("XDG_STATE_HOME", "")
    return (Path(base) if base.startswith("/") else Path.home() / ".local" / "state") / "ovs-edge" / "spool"
