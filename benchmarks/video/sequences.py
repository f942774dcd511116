"""Labelled sequences through the streaming runtime: accuracy, consistency, and video panoptic quality.

The network runs once on each frame; every mode continues from its outputs as `ovs-run` would. Frames are read one at a
time. A frame without a mask is processed, as in live use, and not counted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...bundle.errors import DatasetError
from ...bundle.metrics import confusion, intersection_over_union
from ...data.images import read_stored
from ...data.labelled import LabelledClip, Truth, VideoSet, load
from ...runtime.inference.keyframes import Keyframes
from ...runtime.inference.prediction import Prediction
from ...runtime.inference.smoothing import TemporalSmoother
from ...runtime.segmenter import Segmenter
from ..accuracy.class_list import ClassQuery
from ..accuracy.panoptic_quality import PanopticFrame, SegmentCounts, SegmentLinker, match_window
from .consistency import LENGTHS, Consistency, ConsistencyCounter
from .replay import Replay
from .video import Mode

VPQ_WINDOWS = (1, 2, 4, 6, 8)  # frames, as in VIPSeg's script; VPQ is the mean over them


@dataclass(frozen=True)
class NovelScore:
    """Mean IoU of a data set's base classes and of its novel (held-out) classes, all names competing."""

    base: float  # mean over the base classes that occur in the truth
    novel: float  # mean over the novel classes that occur; NaN without one
    harmonic: float  # 2 · base · novel / (base + novel)


@dataclass(frozen=True)
class VideoPanopticScore:
    """Video panoptic quality."""

    vpq: float  # mean over the windows
    by_window: dict[str, float]  # frames of a window -> PQ of its tubes
    things: float | None  # the mean over things alone, None without one
    stuff: float | None


@dataclass(frozen=True)
class SequenceRow:
    """A data set of sequences in one mode."""

    dataset: str
    smooth: float  # strength of temporal smoothing, 0 is off
    keyframes: int  # the network runs on every Nth frame
    clips: int
    frames: int  # labelled ones
    classes: int  # number of class names, all competing
    miou: float  # mean over the classes that occur in the truth
    pixel_accuracy: float  # of labelled pixels
    frequency_weighted: float  # IoU, classes weighted by their share of the truth
    per_class: dict[str, float | None]  # IoU, None where a class occurs in neither truth nor prediction
    consistency: dict[str, float | None]  # frames of a window -> VC as published; None without a window
    strict_consistency: dict[str, float | None]  # the strict variant
    novel: NovelScore | None  # of data sets with novel classes
    panoptic: VideoPanopticScore | None  # of a panoptic bundle on data with segments
    synonyms: bool  # whether classes were asked for by all their names instead of the plain one
    skipped: tuple[str, ...]  # what was left out, and why


class _Run:
    """Runs one mode on the clips of a data set and accumulates its figures."""

    def __init__(self, mode: Mode, replay: Replay, asked: ClassQuery, stuff: npt.NDArray[np.bool_] | None) -> None:
        self.mode, self._replay, self._asked, self._stuff = mode, replay, asked, stuff
        self.pixels = np.zeros((len(asked), len(asked) + 1), np.int64)
        self.consistency = {length: Consistency() for length in LENGTHS}
        self.tubes = {length: SegmentCounts.zero(len(asked)) for length in VPQ_WINDOWS}
        self.start()

    def start(self) -> None:
        """Start a clip."""
        self._steps, self._smoother = Keyframes(self._replay, self.mode.keyframes), TemporalSmoother(self.mode.smooth)
        self._counters = {length: ConsistencyCounter(length) for length in LENGTHS}
        self._window: deque[PanopticFrame] = deque(maxlen=max(VPQ_WINDOWS))
        self._linker = None if self._stuff is None else SegmentLinker(self._stuff)

    def see(self, image: npt.NDArray[np.uint8], truth: Truth | None) -> None:
        """Process the next frame."""
        inferred = self._steps.infer(self._steps.prepare(image))
        prediction = self._steps.finish(self._smoother.apply(inferred))
        if truth is None:
            return
        labels = self._asked.truth(truth)
        self.pixels += confusion(labels, prediction.labels, len(self._asked))
        for counter in self._counters.values():
            counter.add(labels, prediction.labels)
        self._match(truth, prediction)

    def _match(self, truth: Truth, prediction: Prediction) -> None:
        if self._linker is None or truth.ids is None or prediction.segment_map is None:
            return
        found, labels = self._linker.link(
            prediction.segment_map, {segment.id: segment.index for segment in prediction.segments}
        )
        self._window.append(PanopticFrame(truth.ids, self._asked.segments(truth), found, labels))
        for length in VPQ_WINDOWS:
            if len(self._window) >= length:
                self.tubes[length] += match_window(list(self._window)[-length:], len(self._asked))

    def end(self) -> None:
        """End a clip."""
        for length, counter in self._counters.items():
            self.consistency[length] += counter.sums


def without_smoothing(modes: Sequence[Mode]) -> list[Mode]:
    """Modes for a panoptic segmenter, which is not smoothed: each key-frame interval once, at strength 0."""
    return list(dict.fromkeys(Mode(0.0, mode.keyframes) for mode in modes))


def measure_sequences(
    segmenter: Segmenter,
    videos: VideoSet,
    modes: Sequence[Mode],
    *,
    synonyms: bool = False,
    most: int | None = None,
    on_frame: Callable[[], None] = lambda: None,
) -> list[SequenceRow]:
    """A row for each mode, over at most `most` frames of every clip.

    The segmenter must have no background classes and no confidence threshold: every pixel gets a class.
    Raises `UsageError`, `DatasetError`, `SourceError`.
    """
    asked = ClassQuery(segmenter, videos.classes, synonyms=synonyms)
    panoptic = segmenter.task == "panoptic" and videos.stuff is not None
    stuff = asked.of_labels(videos.stuff) if panoptic and videos.stuff is not None else None
    replay = Replay(segmenter)
    runs = [_Run(mode, replay, asked, stuff) for mode in modes]
    frames = 0
    for clip in videos.clips:
        for run in runs:
            run.start()
        frames += _play(segmenter, clip, videos, replay, runs, most, on_frame)
        for run in runs:
            run.end()
    return [_row(run, videos, asked, frames, synonyms=synonyms, stuff=stuff) for run in runs]


def _play(
    segmenter: Segmenter,
    clip: LabelledClip,
    videos: VideoSet,
    replay: Replay,
    runs: Sequence[_Run],
    most: int | None,
    on_frame: Callable[[], None],
) -> int:
    """Run all modes on one clip; returns how many of its frames are labelled."""
    labelled = 0
    size: tuple[int, ...] | None = None
    for file in clip.frames[:most]:
        if file.mask is None:
            image, truth = read_stored(file.image), None
        else:
            photo = load(file, videos.read)
            image, truth = photo.image, photo.truth
            labelled += 1
        size = size or image.shape
        if image.shape != size:
            raise DatasetError(
                f"the clip {clip.name} is {size[1]}x{size[0]}, and {image.shape[1]}x{image.shape[0]} from "
                f"{file.image.name} on; expected frames of one size"
            )
        replay.answer = segmenter.infer(segmenter.prepare(image))
        for run in runs:
            run.see(image, truth)
        on_frame()
    return labelled


def _row(
    run: _Run,
    videos: VideoSet,
    asked: ClassQuery,
    frames: int,
    *,
    synonyms: bool,
    stuff: npt.NDArray[np.bool_] | None,
) -> SequenceRow:
    result = intersection_over_union(run.pixels)
    per_class = {
        label: None if np.isnan(value) else round(float(value), 4)
        for label, value in zip(asked.labels, result.per_class, strict=True)
    }
    present = run.pixels.sum(1) > 0
    novel = None
    if videos.novel:
        hidden = asked.of_labels([index in videos.novel for index in range(len(videos.classes))])
        novel = _novel(result.per_class, present & ~hidden, present & hidden)
    return SequenceRow(
        dataset=videos.name,
        smooth=run.mode.smooth,
        keyframes=run.mode.keyframes,
        clips=len(videos.clips),
        frames=frames,
        classes=len(asked),
        miou=result.mean,
        pixel_accuracy=result.pixel_accuracy,
        frequency_weighted=result.frequency_weighted,
        per_class=per_class,
        consistency={str(length): sums.value for length, sums in run.consistency.items()},
        strict_consistency={str(length): sums.strict for length, sums in run.consistency.items()},
        novel=novel,
        panoptic=None if stuff is None else _panoptic(run.tubes, stuff),
        synonyms=synonyms,
        skipped=videos.skipped,
    )


def _novel(ious: npt.NDArray[np.float64], base: npt.NDArray[np.bool_], novel: npt.NDArray[np.bool_]) -> NovelScore:
    first, second = (float(ious[which].mean()) if which.any() else float("nan") for which in (base, novel))
    total = first + second
    return NovelScore(first, second, 2 * first * second / total if total else 0.0)


def _panoptic(tubes: dict[int, SegmentCounts], stuff: npt.NDArray[np.bool_]) -> VideoPanopticScore:
    def mean(which: npt.NDArray[np.bool_] | None) -> float | None:
        qualities = [counts.quality(which) for counts in tubes.values()]
        # A window longer than all clips has no tubes.
        values = [quality.pq for quality in qualities if quality.classes]
        return float(np.mean(values)) if values else None

    by_window = {str(length): counts.quality().pq for length, counts in tubes.items() if counts.quality().classes}
    everything = mean(None)
    return VideoPanopticScore(float("nan") if everything is None else everything, by_window, mean(~stuff), mean(stuff))
