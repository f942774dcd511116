"""What is known of a region that is followed from frame to frame."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np

from .appearance import Colours, likeness
from .components import Component, centre_of
from .continuity import KEPT
from .track import Point

AFTER = 1.5  # seconds after regions met in which their colours decide who is who
_STILL = 0.5  # likeness below which it is doubtful whether it is still the same
_DOUBTED = 0.4  # seconds of doubt after which it gets another id
_STILL_AFTER = 0.65  # the same two for one that met others just before: an id must not go over to somebody else
_DOUBTED_AFTER = 0.3
_GROWN = 1.5  # times its usual area from which a region is more than itself
_AREA = 0.15  # weight of a frame in the usual area
_SLOWLY = 0.1  # weight of a frame in how a region looks
_TRAIL = 32  # points of a trail
_STEADY = 0.6  # weight of the speed so far in the expected one
_STEADY_HIDDEN = 0.85  # likewise where it is divided: the division says little of how it moves


@dataclass
class Followed:
    """A region, from frame to frame. Places are in cells of the grid."""

    index: int
    label: str
    first: float  # time of the first frame
    seen: float  # time of the last one it was in
    component: Component  # what is seen of it
    shape: Component  # the same, or where another region hides part of it: what it last was alone, moved along
    centre: tuple[float, float]  # of the shape
    area: float  # usual area, cells
    id: int = 0  # 0: not confirmed yet
    hits: int = 1  # frames in which it was seen
    certain: int = 0  # of them, the last ones in a row that leave no doubt
    velocity: tuple[float, float] = (0.0, 0.0)  # cells a second
    alone: float = 0.0  # seconds it has been a component of its own
    merged: float = 0.0  # seconds since it was
    met: float = float("-inf")  # when it last was
    doubt: float = 0.0  # seconds for which it looks like another one
    colours: Colours | None = None  # as it looks when it is alone
    trail: deque[tuple[float, Point, Point]] = field(default_factory=lambda: deque(maxlen=_TRAIL))  # time, centre, foot

    def expected(self, time: float) -> tuple[int, int]:
        """Cells x, y by which its mask is expected to have moved on."""
        passed = min(time - self.seen, KEPT)
        return round(self.velocity[0] * passed), round(self.velocity[1] * passed)

    def see(self, colours: Colours, seconds: float, passed: float, *, cut: bool) -> None:
        """Note how it looks in a frame in which it is alone; one that looks different for long is somebody else.

        `cut`: it reaches beyond the frame, so it may look different in the next one.
        """
        usual = 1 / _GROWN <= self.component.area / self.area <= _GROWN
        after = 0 < seconds - self.met <= AFTER
        still, doubted = (_STILL_AFTER, _DOUBTED_AFTER) if after else (_STILL, _DOUBTED)
        if self.colours is None or (cut and seconds - self.met > AFTER):
            self.colours, self.doubt = colours, 0.0
        elif likeness(self.colours, colours) < still and usual:
            self.doubt += passed
            if self.doubt >= doubted - 1e-6:
                self.id = self.certain = 0
                self.colours, self.doubt = colours, 0.0
                self.met = float("-inf")  # a new one, that met nobody
        elif seconds - self.met > AFTER and usual:
            self.colours = self.colours + np.float32(_SLOWLY) * (colours - self.colours)
            self.doubt = 0.0

    def move_on(
        self, component: Component, seconds: float, passed: float, hidden: Component | None, *, cut: bool
    ) -> None:
        """Note that it is `component` in this frame, `passed` seconds after the frame before.

        `hidden` is its whole shape where the component was divided. `cut`: it reaches beyond the frame.
        """
        shape = component if hidden is None else hidden
        centre, since = centre_of(shape), seconds - self.seen
        if since > 0:
            kept = _STEADY_HIDDEN if hidden is not None else _STEADY if self.hits > 1 else 0.0
            self.velocity = (
                kept * self.velocity[0] + (1 - kept) * (centre[0] - self.centre[0]) / since,
                kept * self.velocity[1] + (1 - kept) * (centre[1] - self.centre[1]) / since,
            )
        if hidden is not None:
            self.merged += passed
            self.met = seconds
        else:
            self.alone, self.merged = self.alone + passed, 0.0
            if cut and seconds - self.met > AFTER:  # it comes in or goes out
                self.area = float(component.area)
            elif component.area > _GROWN * self.area:  # somebody else joined who is not known
                self.met = seconds
            self.area += _AREA * (component.area - self.area)
        self.component, self.shape, self.centre, self.seen = component, shape, centre, seconds
        self.hits += 1

    def likeness_to(self, looks: Colours | None) -> float:
        """How much it looks like `looks`, 0..1; 1 where that is not known."""
        return 1.0 if self.colours is None or looks is None else likeness(self.colours, looks)
