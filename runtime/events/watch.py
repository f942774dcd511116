"""A camera under watch during a run: the engine, where its events go, and what the page shows and changes of it."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ...bundle.errors import UsageError
from ..frame import Frame
from ..inference.prediction import Prediction
from ..threads.newest_task import Superseded
from .config import WatchConfig, places_table
from .engine import EventEngine
from .event import Event
from .grammar import rule_text
from .occupancy import ZoneState
from .places import Places, merge_places
from .saving.places_file import PlacesFile

_SHOWN = 20  # events that the page lists


@dataclass(frozen=True)
class WatchState:
    """What was seen up to the last frame."""

    zones: Mapping[str, ZoneState] = field(default_factory=dict)  # by name, `frame` among them
    active: Mapping[str, bool] = field(default_factory=dict)  # rule's name -> whether its state is on
    events: tuple[Event, ...] = ()  # the latest, newest first
    total: int = 0  # events so far


class Publisher(Protocol):
    """Takes events: an `EventDispatcher`, or what stands for one."""

    @property
    def snapshots(self) -> bool:
        """Whether events go with a picture."""
        ...

    def publish(self, events: Iterable[Event], picture: npt.NDArray[np.uint8] | None = None) -> None:
        """See `EventDispatcher.publish`."""
        ...

    def set_states(self, camera: str, active: Mapping[str, bool], *, playing: bool) -> None:
        """See `EventDispatcher.set_states`."""
        ...


class EventWatch:
    """Called by the pipeline with each frame in order: `observe`, then `deliver` with the picture if one was drawn."""

    def __init__(
        self,
        config: WatchConfig,
        camera: str,
        dispatcher: Publisher | None = None,
        places_file: Path | None = None,
    ) -> None:
        """`dispatcher` may be shared by cameras and is closed by whoever made it.

        `places_file` is the TOML file that zones and lines drawn on the page are saved to, and those of `config` came
        from.
        """
        self.engine = EventEngine(config, camera)
        self._dispatcher = dispatcher
        self._file = None if places_file is None else PlacesFile(places_file, config.places)
        self._waiting: tuple[Event, ...] = ()
        # The states that the dispatcher was told last, and whether they are those of frames that come.
        self._told: tuple[Mapping[str, bool], bool] = {}, False
        self._lost: float | None = None  # time.monotonic() at which the source was found lost, until it is back
        self._recent: deque[Event] = deque(maxlen=_SHOWN)
        self._lock = threading.Lock()
        self._over = False
        self.state = WatchState()

    @property
    def places(self) -> Places:
        """Zones and lines of the next frame."""
        return self.engine.config.places

    @property
    def wants_picture(self) -> bool:
        """Whether the events of the frame that was observed last go with a picture."""
        return bool(self._waiting) and self._dispatcher is not None and self._dispatcher.snapshots

    def observe(self, frame: Frame, prediction: Prediction) -> Prediction:
        """`prediction` with its tracks; its events wait for `deliver`."""
        if self._over:
            return prediction
        if self._lost is not None and frame.captured > self._lost:  # not one that was on its way
            self._lost = None
        taken = time.time() - (time.monotonic() - frame.captured)
        seen = self.engine.update(frame.time, prediction, taken, frame.image)
        self._take(seen.events, seen.zones, seen.active)
        return seen.prediction

    def deliver(self, picture: npt.NDArray[np.uint8] | None) -> None:
        """Send the states and the events of the last frame; `picture` (H, W, 3) BGR may go along."""
        if self._over:  # a thread that hung comes late
            return
        self._tell_states(playing=self._lost is None)
        self._publish(picture)

    def lose(self) -> None:
        """Say that no frames come, so that nobody knows whether the states are as before; until there is one again."""
        if not self._over:
            self._lost = time.monotonic() if self._lost is None else self._lost
            self.engine.lose()
            self._tell_states(playing=False)

    def _take(self, events: tuple[Event, ...], zones: Mapping[str, ZoneState], active: Mapping[str, bool]) -> None:
        """Show what was seen up to now; `events` wait to be published."""
        self._waiting = events
        self._recent.extendleft(events)
        self.state = WatchState(zones, active, tuple(self._recent), self.state.total + len(events))

    def _tell_states(self, *, playing: bool) -> None:
        told = self.state.active, playing
        if told != self._told and self._dispatcher is not None:
            self._told = told
            self._dispatcher.set_states(self.engine.camera, self.state.active, playing=playing)

    def _publish(self, picture: npt.NDArray[np.uint8] | None) -> None:
        events, self._waiting = self._waiting, ()
        if events and self._dispatcher is not None:
            self._dispatcher.publish(events, picture)

    def succeed(self, before: EventWatch) -> None:
        """Go on where `before`, whose frames have ended, has ended: its states last until they are judged again.

        Raises `BrokenPipeError` as `EventDispatcher.publish` does.
        """
        config, before._over = self.engine.config, True
        self.engine, self._recent, self._told = before.engine, before._recent, before._told
        ended = self.engine.reopen(config)
        self.state = before.state
        self._take(ended, {}, self.engine.active)
        self._tell_states(playing=self._told[1])
        self._publish(None)

    def close(self) -> None:
        """Its states end, for nobody watches any more, unless another one goes on; may be called more than once.

        Raises `BrokenPipeError` as `EventDispatcher.publish` does.
        """
        if self._over:
            return
        self._over = True
        self._take(self.engine.end(), {}, dict.fromkeys(self._told[0], False))
        self._tell_states(playing=False)
        self._publish(None)

    def set_places(self, places: Places, base: Places | None = None) -> bool:
        """Watch other zones and lines from the next frame on; from any thread. Returns whether they were saved.

        `base` is what `places` was made from, on a page that may be one of several: what others have changed since is
        kept, as is what was changed in the file. `self.places` is the result.
        Raises `Superseded` where a zone or line was changed elsewhere, too, and `UsageError` where a rule needs one that
        is gone, or the file cannot be written; then nothing has changed.
        """
        with self._lock:
            if base is not None:
                places, conflicts = merge_places(base, places, self.places)
                if conflicts:
                    names = ", ".join(map(repr, conflicts))
                    raise Superseded(f"{names} was changed on another page in the meantime; make your change again")
            config = replace(self.engine.config, places=places)
            if self._file is not None:
                draft = self._file.draft(places)
                try:
                    config = replace(config, places=draft.places)
                except UsageError as error:
                    raise UsageError(
                        f"{self._file.path.name} was changed in the meantime: {error}; start ovs-run again to use it"
                    ) from error
                self._file.write(draft)
            self.engine.reconfigure(config)
        return self._file is not None

    def take_over(self, before: WatchConfig, after: WatchConfig) -> None:
        """Watch for what `after` has otherwise than `before`, a file's earlier contents, from the next frame on.

        Zones and lines that both have alike stay as they are now, drawn on the page or not; what a rule needs is there.
        From any thread. Raises `UsageError` for more zones and lines than there may be; then nothing has changed.
        """
        with self._lock:
            self.engine.reconfigure(WatchConfig(_merged(self.places, before.places, after), after.rules))

    def message(self) -> dict[str, Any]:
        """For the page, as plain values."""
        state = self.state
        return {
            **places_table(self.places),
            "file": None if self._file is None else self._file.path.name,
            "rules": [
                {"name": name, "text": rule_text(rule), "active": state.active.get(name, False)}
                for name, rule in self.engine.config.rules.items()
            ],
            "inside": {
                name: {
                    "counts": dict(zone.counts),
                    "coverage": {label: round(share, 1) for label, share in zone.coverage.items() if share >= 0.05},
                    "entries": dict(zone.entries),
                    "exits": dict(zone.exits),
                }
                for name, zone in state.zones.items()
            },
            "events": [event.to_dict() for event in state.events],
            "total": state.total,
        }

    def changes(self) -> object:
        """A value that differs once the page has something new to show, coverage aside."""
        state = self.state
        counts = {name: (dict(zone.counts), dict(zone.entries)) for name, zone in state.zones.items()}
        return state.total, str(counts), self.places


def _merged(now: Places, before: Places, after: WatchConfig) -> Places:
    """`now` with the differences between `before` and `after`, and what the rules of `after` need."""
    merged, _ = merge_places(before, after.places, now)  # what is different in both is as in `after`
    found, new = merged.by_name, after.places.by_name
    for name in {rule.place for rule in after.rules.values()} & new.keys():
        if type(found.get(name)) is not type(new[name]):
            found[name] = new[name]
    return Places.of(found.values())
