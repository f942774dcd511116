"""Foreground IoU, flicker and latency on clips, by strength of smoothing and key-frame interval.

The network runs once on each frame, through the segmenter that `ovs-run` uses; every mode continues from its outputs as
`ovs-run` would. Unmoving pixels are found independently of the smoother: by DIS optical flow at half resolution.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...data.clips import Clip
from ...runtime.inference.frame_processor import Prepared
from ...runtime.inference.keyframes import Keyframes
from ...runtime.inference.prediction import Prediction
from ...runtime.inference.smoothing import TemporalSmoother
from ...runtime.opencv import cv2
from ...runtime.segmenter import Segmenter
from .metrics import Flicker, mask_iou, unmoving
from .replay import Replay

STILL = 0.5  # pixels; where the flow from one frame to the next is shorter, a pixel counts as unmoving
_WARMUP = 2  # frames whose times are not counted

OnFrame = Callable[[npt.NDArray[np.uint8], dict["Mode", Prediction], dict["Mode", int]], None]


@dataclass(frozen=True)
class Mode:
    """Settings with which a clip is run."""

    smooth: float  # strength of temporal smoothing, 0 is off
    keyframes: int  # the network runs on every Nth frame


@dataclass(frozen=True)
class VideoRow:
    """One clip in one mode."""

    clip: str
    classes: tuple[str, ...]  # active classes, the foreground first; background classes are automatic
    smooth: float
    keyframes: int
    frames: int
    iou: float | None  # of the foreground, mean over the frames; None without masks
    unmoving: float  # share of pixels that are unmoving from one frame to the next
    unmoving_pixels: int  # their number, over all frames
    flicker_unmoving: float  # share of unmoving pixels whose label changes
    flicker: float  # share of all pixels whose label changes
    network_share: float  # share of frames on which the network ran
    smooth_ms: float  # median time of smoothing a frame
    frame_ms: float  # mean of all steps from a frame to its labels
    iou_step: float | None = None  # mean change of the foreground's IoU from one frame to the next
    ious: tuple[float, ...] = ()  # of the foreground, frame by frame


class _Run:
    """Runs one mode on a clip and accumulates its figures."""

    def __init__(self, mode: Mode, replay: Replay) -> None:
        self._steps, self._smoother = Keyframes(replay, mode.keyframes), TemporalSmoother(mode.smooth)
        self._before: npt.NDArray[np.int32] | None = None
        self.changed = 0  # unmoving pixels whose label changed in the last frame
        self.still, self.all = Flicker(), Flicker()
        self.network: list[bool] = []
        self.smooth_ms: list[float] = []
        self.frame_ms: list[float] = []
        self.ious: list[float] = []

    def see(
        self, prepared: Prepared, still: npt.NDArray[np.bool_] | None, truth: npt.NDArray[np.bool_] | None
    ) -> Prediction:
        """Process a frame; `still` (H, W) are its unmoving pixels, None for the first frame."""
        start = time.perf_counter()
        inferred = self._steps.infer(prepared)
        between = time.perf_counter()
        inferred = self._smoother.apply(inferred)
        self.smooth_ms.append((time.perf_counter() - between) * 1e3)
        prediction = self._steps.finish(inferred)
        own = (time.perf_counter() - start) * 1e3
        timings = inferred.timings
        self.network.append("model" in timings)
        self.frame_ms.append(own + timings["preprocess"] + timings.get("model", 0.0))
        if self._before is not None and still is not None:
            changed = self.still.changed
            self.still = self.still.add(self._before, prediction.labels, still)
            self.all = self.all.add(self._before, prediction.labels)
            self.changed = self.still.changed - changed
        self._before = prediction.labels
        if truth is not None:
            self.ious.append(mask_iou(prediction.labels == 0, truth))
        return prediction


def measure_clip(
    segmenter: Segmenter,
    clip: Clip,
    modes: Sequence[Mode],
    scene: Sequence[str] = (),
    most: int | None = None,
    on_frame: OnFrame | None = None,
) -> list[VideoRow]:
    """A row for each mode. The active classes are the clip's foreground and `scene`.

    `on_frame(image, predictions, changes)` is called with every frame: by mode, the prediction, and how many unmoving
    pixels changed their label.
    """
    asked = [name for name in (clip.foreground, *scene) if name]
    classes = tuple(dict.fromkeys(asked))
    segmenter.set_classes(classes)
    replay = Replay(segmenter)
    runs = {mode: _Run(mode, replay) for mode in modes}
    flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    before: npt.NDArray[np.uint8] | None = None
    for frame, truth in clip.read(most):
        prepared = segmenter.prepare(frame.image)
        replay.answer = segmenter.infer(prepared)
        height, width = frame.image.shape[:2]
        half = cv2.resize(frame.image, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
        grey = cv2.cvtColor(half, cv2.COLOR_BGR2GRAY)
        still = None
        if before is not None and before.shape == grey.shape:
            stands = unmoving(flow.calc(grey, before, None) * 2, STILL)
            still = cv2.resize(stands.view(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST) > 0
        before = grey
        found = {mode: run.see(prepared, still, truth) for mode, run in runs.items()}
        if on_frame is not None:
            on_frame(frame.image, found, {mode: run.changed for mode, run in runs.items()})
    return [_row(clip, classes, mode, run) for mode, run in runs.items()]


def _row(clip: Clip, classes: tuple[str, ...], mode: Mode, run: _Run) -> VideoRow:
    warm = _WARMUP if len(run.frame_ms) > _WARMUP else 0
    return VideoRow(
        clip=clip.name,
        classes=classes,
        smooth=mode.smooth,
        keyframes=mode.keyframes,
        frames=len(run.frame_ms),
        iou=float(np.mean(run.ious)) if run.ious else None,
        unmoving=run.still.counted / max(1, run.all.counted),
        unmoving_pixels=run.still.counted,
        flicker_unmoving=run.still.rate,
        flicker=run.all.rate,
        network_share=float(np.mean(run.network)),
        smooth_ms=float(np.median(run.smooth_ms[warm:])),
        frame_ms=float(np.mean(run.frame_ms[warm:])),
        iou_step=float(np.mean(np.abs(np.diff(run.ious)))) if len(run.ious) > 1 else None,
        ious=tuple(round(iou, 4) for iou in run.ious),
    )
