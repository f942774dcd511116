"""Key frames: the network runs on every Nth frame only; in between, optical flow moves its labels.

Optical flow (DIS: Kroeger et al., Fast Optical Flow using Dense Inverse Search, ECCV 2016) between the last key frame
and the present one gives where each pixel came from. It takes a few milliseconds, the network tens. What comes
into view between two key frames gets the label next to it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ...bundle.errors import UsageError
from ..opencv import cv2
from .frame_processor import ActiveClasses, FrameProcessor, Inferred, Prepared
from .motion import Grey, another_scene, changed, thumbnail, view
from .prediction import Prediction

MOST = 30  # frames from one key frame to the next
_LEAST_SIDE = 16  # pixels of a view: on less, OpenCV's flow raises


@dataclass(frozen=True)
class _Key:
    """The last frame that the network saw."""

    inferred: Inferred
    seen: Grey  # its view


class Keyframes:
    """A `FrameProcessor` whose network runs on every Nth frame. `infer` must be called in the order of the frames.

    A frame after a cut, with other classes or of another size is a key frame, whenever it comes.
    """

    def __init__(self, segmenter: FrameProcessor, every: int) -> None:
        """`every` 1 is every frame. Raises `UsageError` for a number outside 1..30."""
        if not 1 <= every <= MOST:
            raise UsageError(f"--keyframes is {every}, expected a number from 1 to {MOST}")
        self._segmenter = segmenter
        self._every = every
        self._flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
        self._key: _Key | None = None
        self._before: Grey | None = None  # thumbnail of the last frame, key frame or not: cuts lie between neighbours
        self._since = 0  # frames since the key frame

    @property
    def active(self) -> ActiveClasses:
        """See `Segmenter.active`."""
        return self._segmenter.active

    @property
    def at_once(self) -> int:
        """See `Segmenter.at_once`; one, where a frame follows from the one before."""
        return self._segmenter.at_once if self._every == 1 else 1

    def prepare(self, image: npt.NDArray[np.uint8]) -> Prepared:
        """See `Segmenter.prepare`."""
        return self._segmenter.prepare(image)

    def infer(self, prepared: Prepared, active: ActiveClasses | None = None) -> Inferred:
        """See `Segmenter.infer`. Between key frames, `timings` has "flow" instead of "model"."""
        if self._every == 1:
            return self._segmenter.infer(prepared, active)
        active = self.active if active is None else active
        start = time.perf_counter()
        seen, key = view(prepared), self._key
        small = thumbnail(seen)
        self._since += 1
        if key is None or self._since >= self._every or self._renewed(key, prepared, active, small):
            inferred = self._segmenter.infer(prepared, active)
            if inferred.raw is not None:
                raise UsageError("key frames are for semantic segmentation; use --task semantic, or no --keyframes")
            self._key, self._since = _Key(inferred, seen), 0
        else:
            labels, confidence = self._carried(key, seen)
            timings = {**prepared.timings, "flow": (time.perf_counter() - start) * 1e3}
            inferred = replace(key.inferred, prepared=prepared, labels=labels, confidence=confidence, timings=timings)
        self._before = small
        return inferred

    def finish(self, inferred: Inferred) -> Prediction:
        """See `Segmenter.finish`."""
        return self._segmenter.finish(inferred)

    def _renewed(self, key: _Key, prepared: Prepared, active: ActiveClasses, small: Grey) -> bool:
        if key.inferred.active.version != active.version:
            return True
        if key.inferred.prepared.letterbox != prepared.letterbox or min(prepared.letterbox.scaled) < _LEAST_SIDE:
            return True
        assert self._before is not None
        return another_scene(self._before, small, changed(self._before, small))

    def _carried(self, key: _Key, seen: Grey) -> tuple[npt.NDArray[np.integer], npt.NDArray[np.float32]]:
        """Labels and confidence (1, h, w) of the key frame, each pixel from where it was then."""
        old = key.inferred
        height, width = old.prepared.letterbox.scaled_in(old.labels.shape[1:])
        flow = self._flow.calc(seen, key.seen, None)  # from the present frame to where it was: x, y
        scale = np.array([width / seen.shape[1], height / seen.shape[0]], np.float32)
        flow = cv2.resize(flow, (width, height), interpolation=cv2.INTER_LINEAR) * scale
        flow[..., 0] += np.arange(width, dtype=np.float32)
        flow[..., 1] += np.arange(height, dtype=np.float32)[:, None]
        labels, confidence = old.labels.copy(), old.confidence.copy()
        for carried, method in ((labels, cv2.INTER_NEAREST), (confidence, cv2.INTER_LINEAR)):
            part = carried[0, :height, :width]
            # OpenCV knows no 64-bit labels, and float32 holds any class number.
            moved = cv2.remap(part.astype(np.float32), flow, None, method, borderMode=cv2.BORDER_REPLICATE)
            carried[0, :height, :width] = moved
        return labels, confidence
