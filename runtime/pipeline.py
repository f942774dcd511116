"""The loop: source -> segmenter -> picture -> sinks."""

from __future__ import annotations

import signal
import statistics
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import FrameType

from ovs_edge.bundle.errors import SourceError
from ovs_edge.runtime.overlay import Style, draw
from ovs_edge.runtime.segmenter import Segmenter
from ovs_edge.runtime.sinks import Sink
from ovs_edge.runtime.sources import Source

_RECENT = 30  # frames over which the shown rate is averaged


@dataclass(frozen=True)
class Summary:
    """What a run came to."""

    frames: int
    seconds: float  # from the first frame asked of the source until the last sink has finished
    model_ms: float  # median time in the network
    places: tuple[str, ...]  # where the results are
    stopped: bool  # ended by a signal

    @property
    def fps(self) -> float:
        """Mean end-to-end rate: decoding, network, drawing and writing."""
        return self.frames / self.seconds if self.seconds > 0 else 0.0


def run(
    source: Source,
    segmenter: Segmenter,
    sinks: Sequence[Sink],
    style: Style,
    max_frames: int | None = None,
    on_frame: Callable[[int], None] | None = None,
) -> Summary:
    """Segment every frame of `source` and hand it to every sink; `on_frame(count)` hears of progress.

    Ends with the source, after `max_frames`, when a sink asks to, or on SIGINT or SIGTERM: then the outputs are
    complete. Ends with an error from any part: then the source is closed first, so that nothing waits for a reader
    that is gone, and the sinks leave nothing behind. Only a camera that is lost on the way leaves what it gave,
    since nobody can record that again, before its error is raised.
    """
    recent: deque[float] = deque(maxlen=_RECENT + 1)
    model_ms: list[float] = []
    lost: SourceError | None = None
    draws = any(sink.wants_picture for sink in sinks)
    with ExitStack() as closing, _stop_on_signal() as stop:
        for sink in sinks:
            closing.callback(sink.close)
        closing.callback(source.close)
        start = time.perf_counter()
        recent.append(start)
        try:
            for frame, prediction in segmenter.stream(source):
                rate = (len(recent) - 1) / (recent[-1] - recent[0]) if source.moving and len(recent) > 2 else None
                picture = draw(frame.image, prediction, style, rate) if draws else None
                answers = [sink.write(frame, prediction, picture) for sink in sinks]  # every sink gets every frame
                model_ms.append(prediction.timings["model"])
                recent.append(time.perf_counter())
                if on_frame is not None:
                    on_frame(len(model_ms))
                if not all(answers) or stop.is_set() or len(model_ms) == max_frames:
                    break
        except SourceError as error:
            if not source.live or not model_ms:
                raise
            lost = error
        source.close()
        for sink in sinks:
            sink.finish()
        if lost is not None:
            raise lost
        seconds = time.perf_counter() - start
    places = tuple(sink.place for sink in sinks if sink.place)
    return Summary(len(model_ms), seconds, statistics.median(model_ms) if model_ms else 0.0, places, stop.is_set())


@contextmanager
def _stop_on_signal() -> Iterator[threading.Event]:
    """An event that the first SIGINT or SIGTERM sets, so that the frame under way is finished; a second one interrupts.

    Python lets only the main thread take signals; elsewhere the event is simply never set.
    """
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def handle(number: int, stack: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
