"""Soak test: a looped clip with frequent class changes, while memory, threads and open files are counted.

It runs the defaults of `ovs-run`: temporal smoothing, a saved video and, if aiohttp is installed, the web page with one
client in this process. All names are new, so every change runs the text encoder.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import random
import re
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import numpy.typing as npt

from ...bundle.bundle import Bundle
from ...bundle.errors import SourceError, UsageError
from ...runtime.capture.live.clip import LoopedClip
from ...runtime.capture.live.live_source import LiveSource
from ...runtime.draw.overlay import Style
from ...runtime.engines.engine import EngineOptions
from ...runtime.engines.registry import open_session
from ...runtime.inference.smoothing import TemporalSmoother
from ...runtime.interaction import Interaction
from ...runtime.pipeline import run
from ...runtime.segmenter import Segmenter
from ...runtime.sinks.sink import Sink
from ...runtime.sinks.video_files.video_sink import VideoSink
from ...runtime.viewer.sink import WebOptions, WebSink
from ...runtime.vocabulary.live import LiveVocabulary
from ...runtime.vocabulary.text_encoder import TextEncoder

if TYPE_CHECKING:
    import numpy as np

    from ...runtime.frame import Frame
    from ...runtime.inference.prediction import Prediction
    from ...runtime.status import Status

EVERY = 10.0  # seconds between two samples
CHANGE = 5.0  # seconds between two changes of classes
SETTLED = 180.0  # seconds after which memory should be constant
_SPAN = 60.0  # seconds at the beginning and at the end whose frame ages are compared; at most half of the run
KINDS = ("striped", "wooden", "broken", "tiny", "golden", "painted", "rusty", "folded", "floating", "paper", "glass")
THINGS = ("kettle", "lantern", "violin", "anvil", "cactus", "canoe", "igloo", "marble", "windmill", "wagon", "quilt")


@dataclass(frozen=True)
class ProcessSample:
    """State of the process at one moment."""

    seconds: float  # since the first frame
    memory_mib: float  # resident
    threads: int
    descriptors: int  # open files and sockets
    frames: int  # processed so far
    age_ms: float  # frame age since the last sample, median
    model_ms: float  # time in the network since the last sample, median


@dataclass(frozen=True)
class SoakResult:
    """One run."""

    bundle: str
    source: str  # the clip's file name
    unpaced: bool  # frames came as fast as they decode, not at the clip's frame rate
    minutes: float
    frames: int
    changes: int  # class changes, each to five new names
    viewed: int | None  # pictures sent to the web client; None without aiohttp
    memory_growth: float  # from minute 3, or from a tenth of a shorter run, to the end, as a share
    threads_gained: int  # over the same time
    descriptors_gained: int
    model_ms: float  # median time in the network
    age_ms: float  # median frame age at the sinks
    age_first_ms: float  # median of the first tenth of the samples, and of the last
    age_last_ms: float
    age_first_minute: float  # median age over median time in the network, of the first minute's frames
    age_last_minute: float  # the same of the last minute's
    samples: tuple[ProcessSample, ...] = field(repr=False)


class _SoakSink:
    """A sink that changes the classes, takes samples, and ends the run after its duration."""

    wants_picture = False
    place: str | None = None

    def __init__(self, vocabulary: LiveVocabulary, minutes: float, tell: Callable[[ProcessSample], None]) -> None:
        self.samples: list[ProcessSample] = []
        self.changes = 0
        self.first: list[tuple[float, float]] = []  # age and time in the network of the first minute's frames
        self._last: deque[tuple[float, float, float]] = deque()  # time of arrival, age, time in the network
        self._names = 0
        self._span = min(_SPAN, minutes * 30)
        self._vocabulary = vocabulary
        self._seconds = minutes * 60
        self._tell = tell
        self._random = random.Random(0)
        self._start: float | None = None
        self._frames = 0
        self._since: list[tuple[float, float]] = []  # age and time in the network since the last sample

    @property
    def last(self) -> list[tuple[float, float]]:
        """As `first`, of the last minute."""
        return [(age, model) for _, age, model in self._last]

    def write(
        self, frame: Frame, prediction: Prediction, picture: npt.NDArray[np.uint8] | None, status: Status
    ) -> bool:
        """Count the frame; take a sample or change the classes if it is time."""
        now = time.monotonic()
        self._start = now if self._start is None else self._start
        self._frames += 1
        times = status.age_ms or 0.0, status.timings["model"]
        self._since.append(times)
        if now - self._start <= self._span:
            self.first.append(times)
        self._last.append((now, *times))
        while self._last[0][0] < now - self._span:
            self._last.popleft()
        return self._due()

    def idle(self, picture: npt.NDArray[np.uint8] | None, status: Status) -> bool:
        """Take a sample or change the classes if it is time."""
        return self._due()

    def finish(self) -> None:
        """There is nothing to complete."""

    def close(self) -> None:
        """There is nothing to free."""

    def _due(self) -> bool:
        if self._start is None:
            return True
        passed = time.monotonic() - self._start
        # Before a change at the same time, which briefly opens a cache file.
        if passed >= (len(self.samples) + 1) * EVERY and self._since:
            ages, models = zip(*self._since, strict=True)
            self.samples.append(process_sample(passed, self._frames, median(ages), median(models)))
            self._tell(self.samples[-1])
            self._since.clear()
        if passed >= (self.changes + 1) * CHANGE:
            self.changes += 1
            self._vocabulary.request([self._new_name() for _ in range(5)])
        return passed < self._seconds

    def _new_name(self) -> str:
        """The number makes it a name that no cache has."""
        self._names += 1
        return f"{self._random.choice(KINDS)} {self._random.choice(THINGS)} {self._names}"


class _Viewer:
    """A web client that receives pictures until the run ends, in its own thread."""

    def __init__(self, url: str) -> None:
        self.pictures = 0
        self.error: BaseException | None = None  # why it stopped before the end of the run
        self._url = url
        self._connected = threading.Event()
        self._thread = threading.Thread(target=self._run, name="viewer", daemon=True)
        self._thread.start()
        self._connected.wait()  # before the first sample, so that its sockets are not counted as leaked

    def close(self) -> None:
        """Wait for its thread, which ends with the run."""
        self._thread.join()

    def _run(self) -> None:
        try:
            asyncio.run(self._look())
        except Exception as error:  # noqa: BLE001 - any failure means that there was no client from then on
            self.error = error
            self._connected.set()

    async def _look(self) -> None:
        import aiohttp

        async with aiohttp.ClientSession(self._url) as session, session.ws_connect("/live") as live:
            self._connected.set()
            async for message in live:
                if message.type == aiohttp.WSMsgType.BINARY:
                    self.pictures += 1
                    await live.send_str("next")
                elif json.loads(message.data).get("ended"):
                    return
        raise SourceError("the page closed the connection")


def measure_soak(
    path: Path,
    clip: Path,
    minutes: float,
    *,
    unpaced: bool,
    threads: int,
    tell: Callable[[ProcessSample], None],
) -> SoakResult:
    """Run for `minutes` in this process, saving the video; `tell` is called with every sample."""
    if not Path("/proc/self/statm").is_file():
        raise UsageError("a soak test reads memory and open files from /proc; run it on Linux")
    bundle = Bundle.open(path)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        # Not the user's cache, which would fill with meaningless names.
        encoder = TextEncoder(bundle, threads, folder / "cache")
        session = open_session(bundle, EngineOptions("fp32", threads, "cpu"))
        segmenter = stack.enter_context(Segmenter(bundle.manifest, session, encoder))
        segmenter.set_classes("person,bike,car,dog,chair")
        segmenter.smoother = TemporalSmoother() if segmenter.task == "semantic" else None
        interaction = Interaction.of(segmenter, Style())
        stack.callback(interaction.close)
        source = LiveSource(clip.name, lambda: LoopedClip(clip, unpaced=unpaced))
        watch = _SoakSink(interaction.vocabulary, minutes, tell)
        sinks: list[Sink] = [VideoSink(folder / "out.mp4", source.fps, live=source.live), watch]
        viewer = None
        if importlib.util.find_spec("aiohttp") is not None:
            page = WebSink(WebOptions("127.0.0.1:0", recordings=folder / "recordings", title=clip.name), interaction)
            sinks.append(page)
            stack.callback((viewer := _Viewer(page.url)).close)
            stack.callback(page.close)
        summary = run(source, segmenter, sinks, lambda: interaction.controls.style)
    if viewer is not None and viewer.error is not None:
        raise SourceError(f"the web client stopped ({viewer.error}); run ovs-run --web by hand to see why")
    samples = watch.samples
    if len(samples) < 3:
        raise UsageError(f"the run of {minutes:g} minutes is too short for a comparison; give it at least 0.6")
    settled = min(SETTLED, minutes * 6)
    # Medians over several samples: a decoder that is reopened briefly has more threads and files.
    few = max(3, len(samples) // 20)
    begin, end = [sample for sample in samples if sample.seconds >= settled][:few], samples[-few:]
    tenth = max(1, len(samples) // 10)

    def gained(count: Callable[[ProcessSample], int]) -> int:
        return round(median(map(count, end)) - median(map(count, begin)))

    return SoakResult(
        bundle=bundle.manifest.name,
        source=clip.name,
        unpaced=unpaced,
        minutes=minutes,
        frames=summary.frames,
        changes=watch.changes,
        viewed=None if viewer is None else viewer.pictures,
        memory_growth=samples[-1].memory_mib / begin[0].memory_mib - 1,
        threads_gained=gained(lambda sample: sample.threads),
        descriptors_gained=gained(lambda sample: sample.descriptors),
        model_ms=summary.model_ms,
        age_ms=summary.age_ms or 0.0,
        age_first_ms=median(sample.age_ms for sample in samples[:tenth]),
        age_last_ms=median(sample.age_ms for sample in samples[-tenth:]),
        age_first_minute=_ratio(watch.first),
        age_last_minute=_ratio(watch.last),
        samples=tuple(samples),
    )


def _ratio(times: list[tuple[float, float]]) -> float:
    """Median age over median time in the network."""
    ages, models = zip(*times, strict=True)
    return float(median(ages) / median(models))


def process_sample(seconds: float, frames: int, age_ms: float, model_ms: float) -> ProcessSample:
    """The state of this process now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    threads = re.search(r"Threads:\s+(\d+)", Path("/proc/self/status").read_text())
    assert threads is not None
    return ProcessSample(
        seconds=round(seconds, 1),
        memory_mib=round(pages * os.sysconf("SC_PAGE_SIZE") / 2**20, 2),
        threads=int(threads[1]),
        descriptors=len(os.listdir("/proc/self/fd")),
        frames=frames,
        age_ms=round(age_ms, 1),
        model_ms=round(model_ms, 1),
    )
