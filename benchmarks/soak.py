"""Hours in minutes: a looped clip and other classes every few seconds, with memory, threads and descriptors counted."""

from __future__ import annotations

import os
import random
import re
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from ovs_edge.bundle.errors import SourceError, UsageError
from ovs_edge.runtime.live import LiveSource
from ovs_edge.runtime.live_vocabulary import LiveVocabulary
from ovs_edge.runtime.opencv import cv2
from ovs_edge.runtime.overlay import Style
from ovs_edge.runtime.pipeline import run
from ovs_edge.runtime.segmenter import Segmenter
from ovs_edge.runtime.video_sink import VideoSink

if TYPE_CHECKING:
    import numpy as np

    from ovs_edge.runtime.frame import Frame
    from ovs_edge.runtime.prediction import Prediction
    from ovs_edge.runtime.status import Status

_EVERY = 10.0  # seconds between two samples
_CHANGE = 5.0  # seconds between two changes of classes
_SETTLED = 180.0  # seconds after which memory should no longer grow
_KINDS = ("striped", "wooden", "broken", "tiny", "golden", "painted", "rusty", "folded", "floating", "paper", "glass")
_THINGS = ("kettle", "lantern", "violin", "anvil", "cactus", "canoe", "igloo", "marble", "windmill", "wagon", "quilt")


@dataclass(frozen=True)
class Sample:
    """The process at one moment."""

    seconds: float  # since the first frame
    memory_mib: float  # resident
    threads: int
    descriptors: int  # open files and sockets
    frames: int  # so far
    age_ms: float  # of the frames since the last sample, median


@dataclass(frozen=True)
class SoakResult:
    """One run."""

    bundle: str
    source: str  # the clip's file name
    unpaced: bool  # frames came as fast as they could be decoded, and not at the clip's own rate
    minutes: float
    frames: int
    changes: int  # of classes
    memory_growth: float  # from minute 3, or a tenth of a shorter run, to the end, as a share
    threads_gained: int  # over the same time
    descriptors_gained: int
    model_ms: float  # median time in the network
    age_ms: float  # median of all frames' age at the sinks
    age_first_ms: float  # median of the first tenth of the samples, and of the last
    age_last_ms: float
    samples: tuple[Sample, ...] = field(repr=False)


class _Loop:
    """A `Capture` that plays a clip for ever."""

    def __init__(self, path: Path, unpaced: bool) -> None:
        self._path = path
        self._capture: Any = cv2.VideoCapture(str(path))
        self._period = 0.0 if unpaced else 1 / max(self._capture.get(cv2.CAP_PROP_FPS), 1.0)
        self._due = time.monotonic()
        if not self._capture.isOpened():
            raise SourceError(f"{path} does not decode as a video; give a clip such as .mp4 or .avi")

    def read(self) -> tuple[bool, Any]:
        """The clip's next frame at its time; the first follows the last."""
        time.sleep(max(0.0, self._due - time.monotonic()))
        self._due = max(self._due + self._period, time.monotonic())
        read, image = self._capture.read()
        if not read:
            self._capture.release()
            self._capture = cv2.VideoCapture(str(self._path))
            read, image = self._capture.read()
        return bool(read), image

    def get(self, prop: int) -> float:
        """See `cv2.VideoCapture`."""
        return float(self._capture.get(prop))

    def release(self) -> None:
        """Free the decoder."""
        self._capture.release()


class _Watch:
    """A sink that changes the classes, takes samples, and ends the run when its time is over."""

    wants_picture = False
    place: str | None = None

    def __init__(self, vocabulary: LiveVocabulary, minutes: float, tell: Callable[[Sample], None]) -> None:
        self.samples: list[Sample] = []
        self.changes = 0
        self._vocabulary = vocabulary
        self._seconds = minutes * 60
        self._tell = tell
        self._random = random.Random(0)
        self._start: float | None = None
        self._frames = 0
        self._ages: list[float] = []

    def write(
        self, frame: Frame, prediction: Prediction, picture: npt.NDArray[np.uint8] | None, status: Status
    ) -> bool:
        """Count the frame, and do what is due."""
        self._start = time.monotonic() if self._start is None else self._start
        self._frames += 1
        self._ages.append(status.age_ms or 0.0)
        return self._due()

    def idle(self, picture: npt.NDArray[np.uint8] | None, status: Status) -> bool:
        """Do what is due."""
        return self._due()

    def finish(self) -> None:
        """Nothing to complete."""

    def close(self) -> None:
        """Nothing to free."""

    def _due(self) -> bool:
        if self._start is None:
            return True
        passed = time.monotonic() - self._start
        if passed >= (self.changes + 1) * _CHANGE:
            self.changes += 1
            names = [f"{self._random.choice(_KINDS)} {self._random.choice(_THINGS)}" for _ in range(5)]
            self._vocabulary.request(",".join(dict.fromkeys(names)))
        if passed >= (len(self.samples) + 1) * _EVERY and self._ages:
            self.samples.append(_sample(passed, self._frames, median(self._ages)))
            self._tell(self.samples[-1])
            self._ages.clear()
        return passed < self._seconds


def measure_soak(
    path: Path, clip: Path, minutes: float, unpaced: bool, threads: int, tell: Callable[[Sample], None]
) -> SoakResult:
    """Run for `minutes` in this process, saving the video; `tell` hears of every sample."""
    if not Path("/proc/self/statm").is_file():
        raise UsageError("a soak counts memory and descriptors in /proc; run it on Linux")
    with tempfile.TemporaryDirectory() as folder, Segmenter.load(path, "fp32", threads, "cpu") as segmenter:
        segmenter.set_classes("person,bike,car,dog,chair")
        vocabulary = LiveVocabulary(segmenter)
        try:
            source = LiveSource(clip.name, lambda: _Loop(clip, unpaced))
            watch = _Watch(vocabulary, minutes, tell)
            summary = run(source, segmenter, [VideoSink(Path(folder) / "out.mp4", 25), watch], Style())
        finally:
            vocabulary.close()
        name = segmenter.manifest.name
    samples = watch.samples
    if len(samples) < 3:
        raise UsageError(f"the run of {minutes:g} minutes is too short for a comparison; give it at least 0.6")
    settled = min(_SETTLED, minutes * 6)
    # Medians of neighbours: a decoder that is opened anew just then has threads and descriptors for a moment.
    few = max(3, len(samples) // 20)
    begin, end = [sample for sample in samples if sample.seconds >= settled][:few], samples[-few:]
    tenth = max(1, len(samples) // 10)

    def gained(count: Callable[[Sample], int]) -> int:
        return round(median(map(count, end)) - median(map(count, begin)))

    return SoakResult(
        bundle=name,
        source=clip.name,
        unpaced=unpaced,
        minutes=minutes,
        frames=summary.frames,
        changes=watch.changes,
        memory_growth=samples[-1].memory_mib / begin[0].memory_mib - 1,
        threads_gained=gained(lambda sample: sample.threads),
        descriptors_gained=gained(lambda sample: sample.descriptors),
        model_ms=summary.model_ms,
        age_ms=summary.age_ms or 0.0,
        age_first_ms=median(sample.age_ms for sample in samples[:tenth]),
        age_last_ms=median(sample.age_ms for sample in samples[-tenth:]),
        samples=tuple(samples),
    )


def _sample(seconds: float, frames: int, age_ms: float) -> Sample:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    threads = re.search(r"Threads:\s+(\d+)", Path("/proc/self/status").read_text())
    assert threads is not None
    return Sample(
        seconds=round(seconds, 1),
        memory_mib=round(pages * os.sysconf("SC_PAGE_SIZE") / 2**20, 2),
        threads=int(threads[1]),
        descriptors=len(os.listdir("/proc/self/fd")),
        frames=frames,
        age_ms=round(age_ms, 1),
    )
