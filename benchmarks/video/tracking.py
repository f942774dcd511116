"""How well ids follow the objects of a clip: id switches, fragmentations, IDF1, and tracks that go over to another.

Definitions: CLEAR MOT (Bernardin and Stiefelhagen 2008, sections 2.1.3 and 2.2) for matches, switches and
fragmentations; Ristani et al. 2016, section 2, for IDF1.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ...bundle.errors import require

_SHORT_VISIT = 0.5  # seconds for which a track must be with another object to have gone over to it
_NEAR = 0.4  # times an object's height that the middle of a track's box may be from the object's own
_HEIGHT = 18.0, 0.26  # height in pixels of somebody whose middle is at y in pedestrian_paths.json: first + second * y

Place = tuple[float, float, float]  # x, y of its middle, its height; pixels


@dataclass(frozen=True)
class FrameMatches:
    """The objects and the tracks of one frame, and which could be which."""

    objects: tuple[str, ...]  # names of the true objects
    tracks: tuple[int, ...]  # ids
    closeness: npt.NDArray[np.float64]  # (objects, tracks), 0: cannot be the same; else the larger the likelier


@dataclass(frozen=True)
class TrackingScore:
    """What is told of a clip, or of several together (`+`)."""

    objects: int  # true objects
    present: int  # frames of all objects
    matched: int  # of them, those in which a track was on the object
    placed: int  # frames of all tracks
    switches: int  # times an object had another id than in its match before
    fragmentations: int  # times an object was without a track for a while
    agreed: int  # frames in which an object has the one id given to it for the whole clip
    tracks: int  # tracks of `least_seconds` or more
    gone_over: int  # of them, those that were with two objects or more, half a second with each at least

    def __add__(self, other: TrackingScore) -> TrackingScore:
        return TrackingScore(*(getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__))

    @property
    def recall(self) -> float:
        """Share of the objects' frames in which a track is on them, 0..1."""
        return self.matched / self.present if self.present else 0.0

    @property
    def idf1(self) -> float:
        """Share of object and track frames that agree under the best one-to-one choice of ids, 0..1."""
        frames = self.present + self.placed
        return 2 * self.agreed / frames if frames else 0.0


def score_tracks(frames: Sequence[FrameMatches], rate: float, least_seconds: float = 2.0) -> TrackingScore:
    """The score of one clip of `rate` frames a second."""
    matches: dict[str, int] = {}  # object -> the id it last had
    followed: set[str] = set()  # objects that had a track in the frame before, or were not there
    switches = fragmentations = matched = 0
    possible: Counter[tuple[str, int]] = Counter()
    present: Counter[str] = Counter()
    placed: Counter[int] = Counter()
    owners: dict[int, list[str]] = defaultdict(list)
    for frame in frames:
        present.update(frame.objects)
        placed.update(frame.tracks)
        for row, column in np.argwhere(frame.closeness > 0).tolist():
            possible[frame.objects[row], frame.tracks[column]] += 1
        pairs = _pairs(frame, matches)
        matched += len(pairs)
        for name, track in pairs.items():
            switches += name in matches and matches[name] != track
            fragmentations += name in matches and name not in followed
            owners[track].append(name)
        matches.update(pairs)
        followed = set(pairs)
    long = [track for track, count in placed.items() if count >= least_seconds * rate]
    return TrackingScore(
        objects=len(present),
        present=present.total(),
        matched=matched,
        placed=placed.total(),
        switches=switches,
        fragmentations=fragmentations,
        agreed=_agreed(possible, present, placed),
        tracks=len(long),
        gone_over=sum(
            sum(count >= _SHORT_VISIT * rate for count in Counter(owners[track]).values()) > 1 for track in long
        ),
    )


def _pairs(frame: FrameMatches, matches: dict[str, int]) -> dict[str, int]:
    """Which object has which track: as in the frame before where that still can be, then the closest pair first."""
    pairs: dict[str, int] = {}
    for row, name in enumerate(frame.objects):
        track = matches.get(name)
        if (
            track in frame.tracks
            and frame.closeness[row, frame.tracks.index(track)] > 0
            and track not in pairs.values()
        ):
            pairs[name] = track
    order = np.argsort(-frame.closeness, axis=None, kind="stable")
    for row, column in zip(*np.unravel_index(order, frame.closeness.shape), strict=True):
        name, track = frame.objects[row], frame.tracks[column]
        if frame.closeness[row, column] > 0 and name not in pairs and track not in pairs.values():
            pairs[name] = track
    return pairs


def _agreed(possible: Counter[tuple[str, int]], present: Counter[str], placed: Counter[int]) -> int:
    """Frames on which objects and tracks agree under the best one-to-one choice."""
    objects, tracks = list(present), list(placed)
    if not possible:
        return 0
    counts = np.array([[possible[name, track] for track in tracks] for name in objects], np.int64)
    rows, columns = require("scipy.optimize", "train").linear_sum_assignment(counts, maximize=True)
    return int(counts[rows, columns].sum())


def read_paths(path: Path) -> dict[int, dict[str, Place]]:
    """Where everybody is in each frame, by name, from the points that were marked by hand, straight between two."""
    places: dict[int, dict[str, Place]] = defaultdict(dict)
    for name, points in json.loads(path.read_text(encoding="utf-8"))["people"].items():
        frames = np.arange(points[0][0], points[-1][0] + 1)
        marked = np.array(points, np.float64)
        xs, ys = (np.interp(frames, marked[:, 0], marked[:, axis]) for axis in (1, 2))
        for frame, x, y in zip(frames.tolist(), xs.tolist(), ys.tolist(), strict=True):
            places[frame][name] = x, y, _HEIGHT[0] + _HEIGHT[1] * y
    return places


def match_boxes(objects: dict[str, Place], tracks: dict[int, tuple[int, int, int, int]]) -> FrameMatches:
    """Objects and tracks of a frame, close where the middle of the box x0, y0, x1, y1 is near the object's.

    Distances down count less than those across: a box ends where legs are hidden.
    """
    close = np.zeros((len(objects), len(tracks)))
    for row, (x, y, height) in enumerate(objects.values()):
        for column, (x0, y0, x1, y1) in enumerate(tracks.values()):
            away = np.hypot((x0 + x1) / 2 - x, 0.6 * ((y0 + y1) / 2 - y))
            close[row, column] = max(0.0, 1 - away / (_NEAR * height))
    return FrameMatches(tuple(objects), tuple(tracks), close)
