"""Watches one camera: regions get ids, zones and lines their entries and crossings, rules their events."""

from __future__ import annotations

import threading
import time as clock
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ..inference.prediction import Prediction
from ..regions.continuity import Continuity
from ..regions.tracker import RegionTracker
from .config import WatchConfig
from .event import Event
from .evidence import Evidence
from .occupancy import Occupancy, ZoneState
from .place_masks import PlaceMasks
from .rule_state import Facts, Occurrence, RuleState


@dataclass(frozen=True)
class Observation:
    """What the engine makes of one frame."""

    prediction: Prediction  # the frame's own, with `tracks`
    events: tuple[Event, ...]  # in the order in which they are to be delivered
    zones: Mapping[str, ZoneState] = field(default_factory=dict)  # by name, `frame` among them
    active: Mapping[str, bool] = field(default_factory=dict)  # rule's name -> whether its state is on


class EventEngine:
    """One camera's tracker, zones, lines and rules. `update` is called with its frames in their order, by one thread.

    >>> engine = EventEngine(parse_watch(read_toml(Path("zones.toml")), "zones.toml"), camera="front")
    >>> for frame in source:
    ...     seen = engine.update(frame.time, segmenter.predict(frame.image))
    ...     for event in seen.events:
    ...         print(event.to_dict())
    """

    def __init__(self, config: WatchConfig, camera: str = "camera") -> None:
        self.camera = camera
        self._tracker = RegionTracker()
        self._run = uuid.uuid4().hex[:12]
        self._number = 0
        self._seconds = 0.0  # time of the last frame
        self._now = 0.0  # its time of day
        self._lock = threading.Lock()
        self._config = config
        self._next: WatchConfig | None = None
        self._masks = PlaceMasks(config.places)
        self._occupancy = Occupancy(config.places)
        self._evidence = Evidence()
        self._rules = {name: RuleState(name, rule) for name, rule in config.rules.items()}

    @property
    def config(self) -> WatchConfig:
        """Zones, lines and rules that the next frame is judged by."""
        with self._lock:
            return self._config if self._next is None else self._next

    def reconfigure(self, config: WatchConfig) -> None:
        """Watch for something else from the next frame on; from any thread.

        Ids go on. A zone, a line and a rule that are the same as before keep their state; that of any other rule ends.
        """
        with self._lock:
            self._next = config

    def update(
        self,
        seconds: float,
        prediction: Prediction,
        now: float | None = None,
        image: npt.NDArray[np.uint8] | None = None,
    ) -> Observation:
        """Judge the next frame.

        `seconds` is its time since the source's first frame, `now` the time of day at which it was taken (seconds since
        1970; None: this moment). `image` (H, W, 3) BGR is the frame itself; without it regions are followed by their
        masks alone.
        """
        now = clock.time() if now is None else now
        self._now = now
        tracked = self._tracker.update(seconds, prediction, image)
        if self._tracker.continuity is not Continuity.CONTINUES:
            self._begin_again(seconds)
        self._seconds = seconds
        events = self._adopt()
        self._evidence.update(seconds, prediction.classes, self._config.places)
        located = self._masks.locate(tracked, self._tracker.grid)
        happened = self._occupancy.update(seconds, tracked.tracks, located, self._tracker.alive)
        facts = Facts(seconds, located.coverage, self._occupancy, tuple(happened), self._evidence)
        for state in self._rules.values():
            events += [self._event(state, occurrence) for occurrence in state.update(facts)]
        return Observation(tracked, tuple(events), self._occupancy.states(located.coverage), self.active)

    def lose(self) -> None:
        """Say that the source has been lost since the last frame; not while `update` runs."""
        self._tracker.lose()

    def reopen(self, config: WatchConfig) -> tuple[Event, ...]:
        """Go on with `config` and another source, whose frames do not continue the last one; not while `update` runs.

        States go on until they are judged again. Returns the ends of those that `config` has no more.
        """
        self._tracker.interrupt()
        self.reconfigure(config)
        return tuple(self._adopt())

    def end(self) -> tuple[Event, ...]:
        """The ends of all states, of the time of the last frame: nobody watches any more; not while `update` runs."""
        return tuple(self._ends(self._rules.values()))

    @property
    def active(self) -> dict[str, bool]:
        """Rule's name -> whether its state is on, as of the last frame."""
        return {name: state.active for name, state in self._rules.items()}

    def _event(self, state: RuleState, occurrence: Occurrence) -> Event:
        self._number += 1
        return Event(
            id=f"{self._run}-{self._number:08d}",
            number=self._number,
            time=self._now + occurrence.seconds - self._seconds,
            seconds=occurrence.seconds,
            camera=self.camera,
            rule=state.name,
            kind=occurrence.kind,
            label=state.rule.label,
            place=state.rule.place,
            region=occurrence.region,
            value=occurrence.value,
            direction=occurrence.direction,
            box=occurrence.box,
        )

    def _ends(self, states: Iterable[RuleState]) -> list[Event]:
        return [self._event(state, occurrence) for state in states for occurrence in state.stop(self._seconds)]

    def _begin_again(self, seconds: float) -> None:
        """The frame of the time `seconds` does not continue the one before."""
        self._evidence.begin_again()
        if self._tracker.continuity is Continuity.RESTART:  # what was before is over
            self._occupancy = Occupancy(self._config.places)
        for state in self._rules.values():
            if self._tracker.continuity is Continuity.RESTART:
                state.restart()
            else:
                state.skip(self._seconds, seconds)

    def _adopt(self) -> list[Event]:
        """Take over the other configuration, if there is one; the ends of states of rules that it has no more."""
        with self._lock:
            if self._next is None:
                return []
            config, self._next = self._next, None
            self._config = config
        if config.places != self._masks.places:
            self._masks = PlaceMasks(config.places)
            self._occupancy.reconfigure(config.places)
        before = self._rules
        kept = {
            name: before[name] for name, rule in config.rules.items() if name in before and before[name].rule == rule
        }
        self._rules = {name: kept.get(name) or RuleState(name, rule) for name, rule in config.rules.items()}
        return self._ends(state for name, state in before.items() if name not in kept)
