"""Follows regions from frame to frame by the overlap of their masks.

A region is expected where its last mask lies after it was moved on at its own speed. Then, class by class:

  1. Several regions expected in one component, side by side or one before the other: the component is divided among
     them, each pixel to the region that is expected there or is nearest. So two people who meet keep two ids.
  2. A component goes to the region whose expected mask it overlaps most (intersection over union), the best pair first.
  3. A component that lies within a region already found is a piece of it: legs that came apart from a body.
  4. What is left is joined to a lost region of about its size, no farther away than its own size allows.
  5. A component that is left over is a new region. It gets its id once three frames in a row leave no doubt of it: their
     mean confidence is 0.55 at least. One without an id is followed all the same: whoever passes it keeps his own.

A region that is not seen keeps its id for a second; without frames for longer than that, all are given up, unless the
camera is so slow (continuity.py). This is the association of SORT (Bewley et al. 2016) and ByteTrack
(Zhang et al. 2022) on masks instead of boxes; docs/guides/events.md has it beside those of the `trackers` package.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations, groupby
from math import hypot

import numpy as np
import numpy.typing as npt

from ..inference.prediction import Prediction
from .appearance import Codes, Colours, colour_codes, colours_of
from .components import Component, Grid, centre_of, common, components, foot_of, moved_by, union
from .continuity import KEPT, Continuity, FramePace
from .division import divide, fitted
from .followed import AFTER, Followed
from .track import Track

_BRIEF = 0.2  # seconds for one that was just seen first
_CERTAIN = 0.55  # mean confidence from which a region is one; once it is, any will do (ByteTrack's two thresholds)
HITS = 3  # frames in which a region must be seen before it gets an id
_OVERLAP = 0.15  # intersection over union from which a component is the region expected there
_TOUCHES = 0.3  # share of a region's expected cells within a component from which it may be in it
_INSIDE = 0.6  # share of a region's expected cells within a component from which it is in it
_PIECE = 0.7  # share of a component's cells within an expected region from which it is a piece of it
_MATURE = 0.4  # seconds that a region must have been on its own before a component is divided for its sake
_MERGED = 10.0  # seconds for which it is divided
_REMAINS = 0.25  # share of a region's usual area below which the part of a divided component is not it
_REACH = 1.2  # times the root of its area that a lost region may be from where it is expected
_ALIKE = 2.5  # times by which its area may differ
_LOOKS = 1.0  # weight of the colours beside the overlap
_NEAR = 4.0  # times the root of an area that they may be apart
_CLEARLY = 0.2  # by how much the colours must speak for an exchange
_STRANGER = 0.35  # likeness below which it is another one
_SAME = 0.65  # likeness from which one that was lost may be the same
_SPAN = 0.5  # seconds over which the speed is measured


class RegionTracker:
    """Gives regions their ids. One tracker for each stream of frames, called in their order."""

    def __init__(self) -> None:
        self._followed: list[Followed] = []
        self.grid: Grid | None = None  # of the last frame
        self.continuity = Continuity.CONTINUES  # of the last frame; with any other, all regions before it were given up
        self._last_id = 0
        self._pace = FramePace()
        self._interrupted = self._lost = False
        self._time: float | None = None
        self._shape = (0, 0)
        self._codes: Codes | None = None  # of the frame
        self._confidence: npt.NDArray[np.float32] = np.zeros((0, 0), np.float32)  # (h, w), of the frame

    @property
    def alive(self) -> frozenset[int]:
        """Ids of all regions that are not given up, also of those that are not seen just now."""
        return frozenset(one.id for one in self._followed if one.id)

    def interrupt(self) -> None:
        """The next frame does not continue the last one, whatever its time and size: there is a gap."""
        self._interrupted = True

    def lose(self) -> None:
        """Since the last frame the source has been lost: if the next one is not there within a second, there is a gap."""
        self._lost = True

    def update(self, seconds: float, prediction: Prediction, image: npt.NDArray[np.uint8] | None = None) -> Prediction:
        """`prediction` with its `tracks`; `seconds` is the frame's time.

        `image` (H, W, 3) BGR is the frame: by their colours, regions that meet are told apart afterwards.

        Time that goes back, as when a recording starts again, a gap in the frames or a frame of another size starts
        afresh; ids go on.
        """
        grid = self.grid = Grid.of(prediction)
        self.continuity = self._pace.step(seconds, lost=self._lost)
        broken = self._time is not None and (self._interrupted or grid.labels.shape != self._shape)
        if self.continuity is Continuity.CONTINUES and broken:
            self.continuity = Continuity.GAP
        self._interrupted = self._lost = False
        if self.continuity is not Continuity.CONTINUES:
            self._followed = []
        passed = 0.0 if self._time is None else max(0.0, seconds - self._time)
        self._time, self._shape = seconds, grid.labels.shape
        self._followed = [
            one
            for one in self._followed
            if seconds - one.seen <= max(passed + 0.001, KEPT if one.alone >= _MATURE else _BRIEF)
        ]
        found = components(prediction, grid)
        self._confidence = prediction.confidence[:: grid.step, :: grid.step]
        self._codes = None if image is None else colour_codes(image, grid.step)
        by_class = {index: list(group) for index, group in groupby(found, key=lambda one: one.index)}
        shown: list[Followed] = []
        for index, label in enumerate(prediction.classes):
            known = [one for one in self._followed if one.label == label]
            mine = by_class.get(index, [])
            if known or mine:
                shown += self._associate(label, known, mine, seconds, passed)
        height, width = prediction.labels.shape
        for one in shown:
            x, y = one.centre
            across, down = foot_of(one.shape)
            centre = min(1.0, x * grid.step / width), min(1.0, y * grid.step / height)
            one.trail.append(
                (seconds, centre, (min(1.0, across * grid.step / width), min(1.0, down * grid.step / height)))
            )
        shown = [one for one in shown if self._confirmed(one)]
        return replace(prediction, tracks=tuple(self._track(one, prediction, grid) for one in shown))

    def _confirmed(self, one: Followed) -> bool:
        """Whether it has an id, which it gets after some frames that leave no doubt."""
        if one.id:
            return True
        x0, y0, x1, y1 = one.component.box
        certain = float(self._confidence[y0:y1, x0:x1][one.component.mask].mean()) >= _CERTAIN
        one.certain = one.certain + 1 if certain else 0
        if one.certain == 1:
            one.first = one.seen
        if one.certain >= HITS:
            self._last_id += 1
            one.id = self._last_id
        return bool(one.id)

    # -- association -------------------------------------------------------------------------------------------------

    def _associate(
        self, label: str, known: list[Followed], found: list[Component], seconds: float, passed: float
    ) -> list[Followed]:
        """The regions of one class that are seen in this frame."""
        shared = _overlaps(known, found, seconds)
        areas = np.array([one.shape.area for one in known], np.float64)
        sizes = np.array([one.area for one in found], np.float64)
        seen: dict[int, list[Component]] = {}  # place in `known` -> its components
        free = set(range(len(found)))
        divided: dict[int, Component] = {}  # place -> its whole shape, in front of others or behind them
        nearest = shared.argmax(axis=1) if found else np.zeros(len(known), np.int64)
        for number in range(len(found)):
            inside = [
                place
                for place in np.flatnonzero(shared[:, number] >= _TOUCHES * areas).tolist()
                if nearest[place] == number and known[place].alone >= _MATURE and known[place].merged <= _MERGED
            ]
            if len(inside) < 2:
                continue
            shapes = fitted(
                [moved_by(known[place].shape, *known[place].expected(seconds)) for place in inside], found[number]
            )
            within = [
                (place, shape)
                for place, shape in zip(inside, shapes, strict=True)
                if common(shape, found[number]) >= _INSIDE * shape.area
            ]
            parts = divide(found[number], [shape for _, shape in within])
            kept = [
                (place, part, shape)
                for (place, shape), part in zip(within, parts, strict=True)
                if part is not None and part.area >= _REMAINS * known[place].area
            ]
            if len(kept) < 2:
                continue
            free.discard(number)
            for place, part, shape in kept:
                seen[place] = [part]
                divided[place] = shape
        looks = [None if self._codes is None else colours_of(one, self._codes) for one in found]
        either = areas[:, None] + sizes[None, :] - shared
        ratio = np.where(either > 0, shared / np.maximum(either, 1), 0)
        pairs = []
        for place, number in np.argwhere(ratio >= _OVERLAP).tolist():
            alike = known[place].likeness_to(looks[number])
            if alike < _STRANGER and not self._is_cut(known[place].shape):
                continue
            pairs.append((float(ratio[place, number]) + _LOOKS * alike, place, number))
        for _, place, number in sorted(pairs, key=lambda pair: -pair[0]):
            if place not in seen and number in free:
                seen[place] = [found[number]]
                free.discard(number)
        for number in sorted(free):
            owners = [place for place in seen if shared[place, number] >= _PIECE * sizes[number]]
            if owners:
                owner = max(owners, key=lambda place: float(shared[place, number]))
                seen[owner].append(found[number])
                free.discard(number)
        self._rejoin(known, found, looks, seen, free, seconds)
        self._exchange(known, seen, divided, seconds)
        seen_as = {id(one): colours for one, colours in zip(found, looks, strict=True)}
        for place, pieces in seen.items():
            whole = union(pieces)
            cut = self._is_cut(whole)
            known[place].move_on(whole, seconds, passed, divided.get(place), cut=cut)
            if self._codes is not None and place not in divided:
                colours = colours_of(whole, self._codes) if len(pieces) > 1 else seen_as.get(id(whole))
                colours = colours_of(whole, self._codes) if colours is None else colours
                known[place].see(colours, seconds, passed, cut=cut)
        new = []
        for number in sorted(free):
            one = found[number]
            new.append(Followed(one.index, label, seconds, seconds, one, one, centre_of(one), float(one.area)))
            new[-1].colours = looks[number]
            self._followed.append(new[-1])
        return [known[place] for place in sorted(seen)] + new

    def _is_cut(self, one: Component) -> bool:
        x0, y0, x1, y1 = one.box
        return x0 == 0 or y0 == 0 or x1 == self._shape[1] or y1 == self._shape[0]

    def _exchange(
        self,
        known: list[Followed],
        seen: dict[int, list[Component]],
        divided: dict[int, Component],
        seconds: float,
    ) -> None:
        """Exchange two regions that met, where each looks like the other one did before."""
        met = [place for place in seen if place in divided or seconds - known[place].met <= AFTER]
        if self._codes is None or len(met) < 2:
            return
        wholes = {place: union(seen[place]) for place in met}
        looks = {place: colours_of(wholes[place], self._codes) for place in met}
        for one, other in combinations(met, 2):
            reach = _NEAR * float(np.sqrt(max(known[one].area, known[other].area)))
            (x0, y0), (x1, y1) = centre_of(wholes[one]), centre_of(wholes[other])
            small = any(wholes[place].area < 0.5 * known[place].area for place in (one, other))
            if small or abs(x0 - x1) + abs(y0 - y1) > reach:
                continue
            stay = known[one].likeness_to(looks[one]) + known[other].likeness_to(looks[other])
            change = known[one].likeness_to(looks[other]) + known[other].likeness_to(looks[one])
            if change > stay + _CLEARLY:
                seen[one], seen[other] = seen[other], seen[one]
                wholes[one], wholes[other] = wholes[other], wholes[one]
                looks[one], looks[other] = looks[other], looks[one]
                shapes = divided.pop(one, None), divided.pop(other, None)
                divided.update({place: shape for place, shape in zip((other, one), shapes, strict=True) if shape})
                known[one].velocity, known[other].velocity = known[other].velocity, known[one].velocity

    def _rejoin(
        self,
        known: list[Followed],
        found: list[Component],
        looks: list[Colours | None],
        seen: dict[int, list[Component]],
        free: set[int],
        seconds: float,
    ) -> None:
        """Join what is left of `found` to regions that are not seen yet, the nearest pair first."""
        pairs = []
        for place, one in enumerate(known):
            if place in seen:
                continue
            dx, dy = one.expected(seconds)
            for number in free:
                other = found[number]
                x, y = centre_of(other)
                away = float(np.hypot(x - one.centre[0] - dx, y - one.centre[1] - dy))
                fits = max(one.area, other.area) <= _ALIKE * min(one.area, other.area)
                alike = one.likeness_to(looks[number])
                if fits and alike >= _SAME and away <= _REACH * float(np.sqrt(one.area)):
                    pairs.append((away / float(np.sqrt(one.area)) - alike, place, number))
        for _, place, number in sorted(pairs):
            if place not in seen and number in free:
                seen[place] = [found[number]]
                free.discard(number)

    # -- what is told of a region ------------------------------------------------------------------------------------

    def _track(self, one: Followed, prediction: Prediction, grid: Grid) -> Track:
        x0, y0, x1, y1 = one.component.box
        height, width = prediction.labels.shape
        step = grid.step
        scores = self._confidence[y0:y1, x0:x1]
        centre, foot = one.trail[-1][1], one.trail[-1][2]
        early = one.trail[-1]
        for entry in reversed(one.trail):
            if one.seen - entry[0] > _SPAN:
                break
            early = entry
        passed = one.seen - early[0]
        moved = hypot((centre[0] - early[1][0]) * width / height, centre[1] - early[1][1])
        return Track(
            id=one.id,
            label=one.label,
            share=one.component.area / grid.labels.size,
            box=(x0 * step, y0 * step, min(width, x1 * step), min(height, y1 * step)),
            centre=centre,
            foot=foot,
            confidence=float(np.add.reduce(scores[one.component.mask])) / one.component.area,
            age=one.seen - one.first,
            speed=moved / passed if passed > 0 else 0.0,
            trail=tuple([entry[2] for entry in one.trail]),
            mask=one.component.mask,
            origin=(x0, y0),
            step=step,
        )


def _overlaps(known: list[Followed], found: list[Component], seconds: float) -> npt.NDArray[np.float64]:
    """Cells (len(known), len(found)) that each expected region has in common with each component."""
    shared = np.zeros((len(known), len(found)), np.float64)
    if not known or not found:
        return shared
    expected = [moved_by(one.shape, *one.expected(seconds)) for one in known]
    here, there = np.array([one.box for one in expected])[:, None], np.array([one.box for one in found])[None]
    meet = (here[..., :2] < there[..., 2:]) & (there[..., :2] < here[..., 2:])
    for place, number in np.argwhere(meet.all(axis=2)).tolist():
        shared[place, number] = common(expected[place], found[number])
    return shared
