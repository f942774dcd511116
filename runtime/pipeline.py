"""The pipeline: source -> segmenter -> picture -> sinks, each step in its own thread, frames in order.

    capture ──► prepare ──► infer ──► draw ──► sinks (the caller's thread: GUIs and signals need the main thread)

Short channels connect the threads, so the network never waits for drawing, and no queue grows. All frames of a
recording are delivered; if the engine takes several frames at once, as many threads infer, and the frames are put in
order again. Frames of a live source go through slots that keep the newest frame only: stale frames are dropped, so what
is shown stays current however fast the camera and however slow a sink.
"""

from __future__ import annotations

import itertools
import signal
import statistics
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from types import FrameType

import numpy as np
import numpy.typing as npt

from ..bundle.errors import SourceError
from .capture.source import Source
from .draw.overlay import Style, banner, draw
from .events.watch import EventWatch
from .frame import Frame
from .inference.frame_processor import ActiveClasses, FrameProcessor, Inferred, Prepared
from .inference.prediction import Prediction
from .sinks.sink import Holding, Sink
from .status import Status
from .threads.channel import Channel, Ended

_RECENT = 30  # frames over which the displayed frame rate is averaged
_MEASURED = 10_000  # frames over which the summary's medians are taken; a run may last for days
# Seconds after which `idle` of the sinks is called while no frame comes, and signals are checked. OpenCV's windows keep
# only the last key between two calls: keys that are typed must not get lost when the network is slow.
_TICK = 0.02
_PATIENCE = 5.0  # seconds that a thread gets to end; one that hangs in a driver or an engine is left behind
_FRESH = 0.25  # of an inference time: a prepared frame older than that is replaced while the network is busy

Image = npt.NDArray[np.uint8]  # (H, W, 3) BGR


@dataclass(frozen=True)
class Summary:
    """Result of a run."""

    frames: int
    seconds: float  # from the first frame asked of the source until the last sink has finished
    model_ms: float  # median time in the network
    places: tuple[str, ...]  # where the results are
    stopped: bool  # ended by a signal
    age_ms: float | None = None  # median age of a live source's frames at the sinks
    dropped: int = 0  # stale frames of a live source that were dropped
    at_once: int = 1  # frames inferred at the same time
    signal: int = 0  # number of the signal that ended it; 0: none

    @property
    def fps(self) -> float:
        """Mean end-to-end rate: decoding, network, drawing and writing."""
        return self.frames / self.seconds if self.seconds > 0 else 0.0


@dataclass(frozen=True)
class _Drawn:
    """A frame on its way to the sinks."""

    frame: Frame
    prediction: Prediction
    picture: Image | None  # annotated, where a sink wants it
    status: Status


class _Line:
    """The threads of one run, and the first error that any of them raised."""

    def __init__(
        self,
        source: Source,
        segmenter: FrameProcessor,
        sinks: Sequence[Sink],
        style: Style | Callable[[], Style],
        max_frames: int | None,
        watch: EventWatch | None = None,
    ) -> None:
        self._source = source
        self._segmenter = segmenter
        self._sinks = sinks
        self._style = style
        self._max_frames = max_frames
        self._watch = watch
        # For a live source latency matters: all cores work on the newest frame.
        self.at_once = 1 if source.live else segmenter.at_once
        self._frames: Channel[Frame] = Channel()
        self._prepared: Channel[tuple[Frame, Prepared]] = Channel(self.at_once, newest=source.live)
        # Room for frames that are ready before earlier ones.
        self._inferred: Channel[tuple[Frame, Inferred]] = Channel(2 * self.at_once - 1, newest=source.live)
        self.drawn: Channel[_Drawn] = Channel(newest=source.live)
        self._infer_seconds = 0.0
        self._lock = threading.Lock()
        self._inferring = self.at_once  # threads that still infer
        self._taking = threading.Lock()  # of a prepared frame
        self.error: BaseException | None = None
        self.lost: SourceError | None = None  # why a live source ended; frames it gave before are still delivered
        self.fps: float | None = None  # set by the thread that writes to the sinks
        steps = [self._prepare, *[self._infer] * self.at_once, self._draw]
        if not source.live:
            steps.insert(0, self._capture)
        self._threads = [
            threading.Thread(target=self._guarded, args=(step,), name=step.__name__[1:], daemon=True) for step in steps
        ]

    def start(self) -> None:
        """Start all threads."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End all threads, the source first, so that no thread waits for a reader that has ended."""
        self._source.close()
        for channel in (self._frames, self._prepared, self._inferred, self.drawn):
            channel.cancel()
        deadline = time.monotonic() + _PATIENCE
        for thread in self._threads:
            if thread.ident is not None and thread is not threading.current_thread():
                thread.join(max(0.0, deadline - time.monotonic()))

    def status(self, timings: dict[str, float], captured: float | None) -> Status:
        """The state of the run, for a picture `captured` at that time."""
        age = (time.monotonic() - captured) * 1e3 if captured is not None and self._source.live else None
        replaced = sum(channel.replaced for channel in (self._prepared, self._inferred, self.drawn))
        return Status(self.fps, age, timings, self._source.dropped + replaced, self._source.state)

    def _guarded(self, step: Callable[[], None]) -> None:
        try:
            step()
        except Ended:
            pass
        except BaseException as error:  # noqa: BLE001 - whatever it is, the run must end with it, not hang
            with self._lock:
                self.error = self.error or error
            self._source.close()
            for channel in (self._frames, self._prepared, self._inferred, self.drawn):
                channel.cancel()

    def _capture(self) -> None:
        """Decode a recording."""
        # Not one frame more than `max_frames`: photos may be large, and networks slow.
        for frame in itertools.islice(self._source, self._max_frames):
            self._frames.put(frame)
        self._frames.finish()

    def _prepare(self) -> None:
        for frame in self._live_frames() if self._source.live else self._frames:
            self._prepared.put((frame, self._segmenter.prepare(frame.image)))
            if self._source.live:
                # While the network is busy, a newer frame may replace this one; but not after a short wait.
                self._prepared.wait_taken(_FRESH * self._infer_seconds)
        self._prepared.finish()

    def _live_frames(self) -> Iterator[Frame]:
        try:
            yield from self._source
        except SourceError as error:
            self.lost = error

    def _infer(self) -> None:
        for frame, prepared, active, place in self._taken():
            start = time.perf_counter()
            inferred = self._segmenter.infer(prepared, active)
            self._infer_seconds = time.perf_counter() - start
            self._inferred.put((frame, inferred), place)
        with self._lock:
            self._inferring -= 1
            last = not self._inferring
        if last:
            self._inferred.finish()

    def _taken(self) -> Iterator[tuple[Frame, Prepared, ActiveClasses, int]]:
        """Frames as they come, each with the classes of that moment and its place in the order."""
        while True:
            with self._taking:
                try:
                    frame, prepared = self._prepared.take()
                except Ended:
                    return
                taken = frame, prepared, self._segmenter.active, self._inferred.place()
            yield taken

    def _draw(self) -> None:
        for frame, inferred in self._inferred:
            prediction = self._segmenter.finish(inferred)
            start = time.perf_counter()
            if self._watch is not None:
                prediction = self._watch.observe(frame, prediction)
                prediction.timings["events"] = (time.perf_counter() - start) * 1e3
                start = time.perf_counter()
            picture, status = None, self.status(prediction.timings, frame.captured)
            watched = self._watch is not None and self._watch.wants_picture
            if watched or any(sink.wants_picture for sink in self._sinks):
                style = self._style() if callable(self._style) else self._style
                picture = draw(frame.image, prediction, style, status)
            if self._watch is not None:
                self._watch.deliver(picture)
            timings = {**prediction.timings, "draw": (time.perf_counter() - start) * 1e3}
            self.drawn.put(_Drawn(frame, prediction, picture, replace(status, timings=timings)))
        self.drawn.finish()


def run(
    source: Source,
    segmenter: FrameProcessor,
    sinks: Sequence[Sink],
    style: Style | Callable[[], Style],
    max_frames: int | None = None,
    on_frame: Callable[[int], None] | None = None,
    watch: EventWatch | None = None,
) -> Summary:
    """Segment every frame of `source` and hand it to every sink; `on_frame(count)` is called after each.

    `watch` gives the predictions their tracks and sends events.

    `style` may be a function that is asked once per frame. The sinks are called in this thread.

    Ends with the source, after `max_frames`, when a sink asks to, or on SIGINT or SIGTERM: then the outputs are
    complete. Ends with an error from any part: then the source is closed first, so that no thread waits for a reader
    that has ended, and the sinks leave nothing behind. Only what a lost camera delivered is kept, because it cannot be
    recorded again; then its error is raised.
    """
    recent: deque[float] = deque(maxlen=_RECENT + 1)
    frames = 0
    model_ms: deque[float] = deque(maxlen=_MEASURED)
    holders = [sink for sink in sinks if isinstance(sink, Holding)]
    ages: deque[float] = deque(maxlen=_MEASURED)
    line = _Line(source, segmenter, sinks, style, max_frames, watch)
    last: _Drawn | None = None
    shown_state = ""
    with ExitStack() as closing, _stop_on_signal() as stop:
        for sink in sinks:
            closing.callback(sink.close)
        closing.callback(line.stop)
        start = time.perf_counter()
        recent.append(start)
        line.start()
        while not stop.number and line.error is None:
            held = any(sink.holds for sink in holders)
            if frames == max_frames and not held:
                break
            drawn = None
            if held:
                time.sleep(_TICK)
            else:
                try:
                    drawn = line.drawn.get(_TICK)
                except Ended:
                    break
            if drawn is None:
                status = line.status({}, last.frame.captured if last is not None else None)
                if status.lost and watch is not None:
                    watch.lose()
                notice = None
                if status.lost and status.source != shown_state and last is not None and last.picture is not None:
                    notice = banner(last.picture, status.source)
                shown_state = status.source
                answers = [sink.idle(notice, status) for sink in sinks]
            else:
                last, shown_state = drawn, ""
                status = replace(drawn.status, age_ms=line.status({}, drawn.frame.captured).age_ms)
                # Every sink gets every frame, even where another asks to stop.
                answers = [sink.write(drawn.frame, drawn.prediction, drawn.picture, status) for sink in sinks]
                frames += 1
                if "model" in status.timings:  # not every frame needs the network
                    model_ms.append(status.timings["model"])
                if status.age_ms is not None:
                    ages.append(status.age_ms)
                recent.append(time.perf_counter())
                if source.moving and len(recent) > 2:
                    line.fps = (len(recent) - 1) / (recent[-1] - recent[0])
                if on_frame is not None:
                    on_frame(frames)
            if not all(answers):
                break
        if line.error is not None:
            raise line.error
        line.stop()
        if line.lost is not None and not frames:
            raise line.lost
        for sink in sinks:
            sink.finish()
        if line.lost is not None:
            raise line.lost
        seconds = time.perf_counter() - start
    places = tuple(sink.place for sink in sinks if sink.place)
    model, age = statistics.median(model_ms or [0.0]), statistics.median(ages) if ages else None
    dropped = line.status({}, None).dropped
    return Summary(frames, seconds, model, places, bool(stop.number), age, dropped, line.at_once, stop.number)


class _Stop:
    """What the first signal sets.

    Without a lock, as one of `threading.Event` is: a handler runs between any two instructions of the main thread, which
    may hold it.
    """

    number = 0  # of the signal; 0: none has come


@contextmanager
def _stop_on_signal() -> Iterator[_Stop]:
    """Takes the first SIGINT, SIGTERM or SIGHUP, so that the current frame is finished; a SIGINT after that interrupts.

    Others after that change nothing: a process manager sends them again, and `timeout` sends them twice.

    Python lets only the main thread take signals; elsewhere none is taken.
    """
    stop = _Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def handle(number: int, stack: FrameType | None) -> None:
        if stop.number and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.number = stop.number or number

    # A terminal that is closed sends SIGHUP; `nohup` has it ignored, and so it stays.
    signals = (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM))
    handled = {number for number in signals if signal.getsignal(number) != signal.SIG_IGN}
    before = {number: signal.signal(number, handle) for number in handled}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
