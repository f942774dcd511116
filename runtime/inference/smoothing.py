"""Temporal smoothing: steadier labels from frame to frame, where the picture does not change.

The network labels each frame independently, and where two classes are about equally likely, its label flickers. So
each pixel keeps its label and the evidence for it: an exponential average of how often the network agreed. The label is
replaced when the evidence has fallen well below the value that a new label starts with (hysteresis). Where the picture
changed, only the newest frame counts, so moving things are not delayed.

It needs labels and confidence only, at the network's input size, so it works with every engine and any number of
classes, and takes about two milliseconds. Averaging all class scores at stride 4 was tried as
well: on four clips it steadied a little more, but took about ten times as long, and it needs a further output of the
graph. Carrying the labels along with optical flow was tried too: it helps where everything moves, but adds jitter where
nothing does.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ...bundle.errors import UsageError
from ...bundle.letterbox import Letterbox
from ..opencv import cv2
from .frame_processor import Inferred
from .motion import Floats, Grey, another_scene, changed, thumbnail, view

STRENGTH = 0.9  # default; see benchmarks/results/smoothing.json for what it does
_LEAST_WEIGHT = 0.02  # of a new frame at strength 1: a wrong label is replaced in the end
_GIVE_WAY = np.float32(0.4)  # evidence below which a label is replaced
_FIRST = np.float32(0.6)  # evidence for a label that was seen once; the difference of the two is the hysteresis


@dataclass(frozen=True)
class _State:
    """State after the previous frame. Maps (h, w) cover the frame's part of the network's output."""

    version: int  # of the active classes
    letterbox: Letterbox
    small: Grey  # its thumbnail
    labels: npt.NDArray[np.integer]
    evidence: Floats  # for the label, 0..1
    confidence: Floats  # of the label, 0..1


class TemporalSmoother:
    """Steadies one stream of frames. A change of classes or of the frame's size, or a cut, starts it anew.

    Set as `Segmenter.smoother`, or `Segmenter.stream(source, smooth=0.9)` makes one for that stream.
    """

    def __init__(self, strength: float = STRENGTH) -> None:
        """`strength` 0..1; 0 changes nothing at all, at 1 a label of an unmoving pixel stays for seconds.

        A pixel that stands still, and long had one label, takes a new one after log(0.4) / log(strength) frames that
        give it: 9 at 0.9. One that has just taken it gives it up after log(0.4 / 0.6) / log(strength): 4 at 0.9.
        Raises `UsageError` for a strength outside 0..1.
        """
        if not 0 <= strength <= 1:
            raise UsageError(f"the strength of smoothing is {strength:g}, expected 0 (off) to 1")
        self._weight = np.float32(max(1 - strength, _LEAST_WEIGHT))
        self._off = strength == 0
        self._state: _State | None = None

    def apply(self, inferred: Inferred) -> Inferred:
        """`inferred` with steadier labels and confidence. Frames must come in order.

        A panoptic frame comes back as it is: its segments are made from the queries, not from the labels.
        """
        if self._off or inferred.raw is not None:
            return inferred
        active, letterbox = inferred.active, inferred.prepared.letterbox
        height, width = letterbox.scaled_in(inferred.labels.shape[1:])
        # Which of the background classes wins makes no difference.
        unseen = min(active.shown, int(np.iinfo(inferred.labels.dtype).max))
        labels = np.minimum(inferred.labels[0, :height, :width], inferred.labels.dtype.type(unseen))
        confidence = inferred.confidence[0, :height, :width]
        small, old = thumbnail(view(inferred.prepared)), self._state
        if old is not None and (old.version, old.letterbox) == (active.version, letterbox):
            change = changed(old.small, small)
            if not another_scene(old.small, small, change):
                self._state = self._next(old, small, change, labels, confidence)
                return _replaced(inferred, self._state)
        self._state = _State(
            active.version, letterbox, small, labels, np.full_like(confidence, _FIRST), confidence.copy()
        )
        return inferred

    def _next(
        self, old: _State, small: Grey, change: Floats, labels: npt.NDArray[np.integer], confidence: Floats
    ) -> _State:
        # Written in OpenCV's weighted sums and in place where it can be: half the time of plain expressions.
        change = cv2.resize(change, labels.shape[::-1], interpolation=cv2.INTER_LINEAR)
        agrees = (labels == old.labels).astype(np.float32)
        evidence: Floats = cv2.addWeighted(old.evidence, 1 - self._weight, agrees, self._weight, 0)
        # Where the picture changed, earlier evidence does not count: the label is treated as new.
        evidence += change * cv2.addWeighted(agrees, _FIRST, evidence, -1, 0)
        # A label that the network contradicts keeps its last confidence.
        steadied: Floats = agrees * (confidence - old.confidence)
        steadied *= self._weight + change * (1 - self._weight)
        steadied += old.confidence
        yields = evidence < _GIVE_WAY
        np.copyto(evidence, _FIRST, where=yields)
        np.copyto(steadied, confidence, where=yields)
        return _State(old.version, old.letterbox, small, np.where(yields, labels, old.labels), evidence, steadied)


def _replaced(inferred: Inferred, state: _State) -> Inferred:
    """`inferred` with the labels and confidence of `state` in the frame's part."""
    height, width = state.labels.shape
    labels, confidence = inferred.labels.copy(), inferred.confidence.copy()
    labels[0, :height, :width] = state.labels
    confidence[0, :height, :width] = state.confidence
    return replace(inferred, labels=labels, confidence=confidence)
