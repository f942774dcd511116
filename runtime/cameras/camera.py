"""One of several cameras: its source, its classes, its outputs, and what happens when one of them fails.

    source ──► newest frame ──► (turn on the network) ──► outputs

The source and the outputs have a thread each. Whatever goes wrong stays within the camera: it is said once, shown on
the page and in the metrics, and tried again at growing intervals.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from ...bundle.errors import SourceError, reason_of
from ..capture.source import Source
from ..controls import Settings
from ..draw.overlay import Style, draw
from ..events.delivery.dispatcher import EventDispatcher
from ..events.evidence import waiting_rules
from ..events.watch import EventWatch
from ..frame import Frame
from ..inference.frame_processor import Inferred
from ..inference.keyframes import Keyframes
from ..interaction import Interaction
from ..segmenter import Segmenter
from ..sinks.source_events import LossNotes
from ..status import PLAYING, Status
from ..threads.channel import Channel, Ended
from .config import CameraConfig
from .counts import CameraCounts, CameraState
from .opening import Timeline, class_digest, open_camera
from .outputs import CameraOutputs, Tell, WrittenFiles
from .shared_model import refinement, threshold
from .turns import Slot, Turns

_TICK = 0.2  # seconds after which sinks and figures hear that no frame came
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0  # seconds before a camera that failed is opened again: doubled each time
_PATIENCE = 5.0  # seconds for the threads to end; one that hangs in a driver is left behind
_LIVE_STYLE = ("opacity", "names", "legend", "figures")  # parts of a picture's style that a configuration has

Turn = tuple["Camera", Frame]


class Camera:
    """A camera from `start` to `stop`."""

    def __init__(
        self,
        name: str,
        config: CameraConfig,
        segmenter: Segmenter,
        turns: Turns[Turn],
        events: EventDispatcher,
        tell: Tell,
        digest: str,
        written: WrittenFiles,
    ) -> None:
        """`segmenter` is the camera's own, with its classes; `events` takes what it tells.

        `tell` is told of losses and failures, one line each. `digest` is that of its class files as they were read,
        `written` what all cameras of the run write.
        """
        self.name = name
        self.config = config
        self.class_digest = digest
        self.segmenter = segmenter
        # Without zones and rules there is nothing to follow.
        watch = EventWatch(config.watch, name, events) if config.watches else None
        self.interaction = Interaction.of(self.segmenter, _style(config), config.presets, watch)
        self.counts = CameraCounts()
        self._steps = Keyframes(self.segmenter, config.keyframes)
        self._turns = turns
        self._slot: Slot[Turn] = turns.join()
        self._tell: Tell = lambda text: tell(f"{name}: {text}")
        self.outputs = CameraOutputs(name, config, written, self.counts, self._tell)
        self.outputs.add(LossNotes(self._tell))
        self._timeline = Timeline()
        self._successor: Camera | None = None  # what takes this camera's place
        self._source: Source | None = None
        self._failure: str | None = None  # why it does not play, while it does not
        self._retry_at: float | None = None
        self._error: BaseException | None = None  # of the network or the outputs, for the thread of the source
        self._lost_reason = ""  # why events were lost last
        self._stopping = threading.Event()
        self._lock = threading.Lock()  # of the source, the failure and the sinks
        self._inferred: Channel[tuple[Frame, Inferred]] = Channel(newest=True)
        self._threads = [
            threading.Thread(target=work, name=f"{name} {what}", daemon=True)
            for what, work in (("source", self._supervise), ("outputs", self._deliver))
        ]

    def start(self) -> None:
        """Open the source and go on until `stop`; returns at once."""
        for thread in self._threads:
            thread.start()

    @property
    def waiting_rules(self) -> list[str]:
        """A line for each class of its rules that is not asked for."""
        watch = self.interaction.watch
        return [] if watch is None else waiting_rules(watch.engine.config.rules, self.segmenter.active.classes)

    def stop(self, successor: Camera | None = None) -> None:
        """End the threads and complete the outputs, but for those that `successor`, not started yet, goes on with."""
        self._successor = successor
        self._stopping.set()
        with self._lock:
            source = self._source
        if source is not None:
            source.close()
        self._turns.leave(self._slot)
        self._inferred.finish()
        deadline = time.monotonic() + _PATIENCE
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(max(0.0, deadline - time.monotonic()))
        self.counts.dropped_before += self._slot.replaced + self._inferred.replaced
        if successor is not None:
            successor.counts = successor.outputs.counts = self.counts
            successor._timeline = self._timeline
        self._end_watch(None if successor is None else successor.interaction.watch)
        self.interaction.close()
        self.segmenter.close()

    def change(self, config: CameraConfig) -> Callable[[], None]:
        """Take over what `config`, or a file of classes, has otherwise than when it was last read.

        Only classes, labels, pictures, zones and rules are. What was set on the page and is in the file as it was stays.
        Returns what takes the change back. Raises `UsageError` for what is impossible; then nothing has changed.
        """
        undo = self._restorer()
        try:
            self._take_over(config)
        except BaseException:
            undo()
            raise
        return undo

    def _take_over(self, config: CameraConfig) -> None:
        before, digest = self.config, class_digest(config)
        watch = self.interaction.watch
        if watch is not None and config.watch != before.watch:
            watch.take_over(before.watch, config.watch)
        if config.classes != before.classes or digest != self.class_digest:
            self.segmenter.set_classes(config.classes)
        if config.sensitivity is not before.sensitivity:
            self.segmenter.sensitivity = config.sensitivity.value
        self.segmenter.refinement = refinement(config)
        style, old = _style(config), _style(before)
        changes = {name: getattr(style, name) for name in _LIVE_STYLE if getattr(style, name) != getattr(old, name)}
        if watch is not None and style.places is not None:
            changes["places"] = watch.places
        least = None if config.threshold == before.threshold else threshold(self.segmenter, config)
        self.interaction.controls.update(
            lambda now: Settings(now.threshold if least is None else least, replace(now.style, **changes))
        )
        if config.presets != before.presets:
            self.interaction.vocabulary.presets = config.presets
        self.config, self.class_digest = config, digest

    def _restorer(self) -> Callable[[], None]:
        """What brings back the settings of this moment."""
        segmenter, handles = self.segmenter, self.interaction
        config, digest, active = self.config, self.class_digest, segmenter.active
        shown, sensitivity, refined = segmenter.shown.all(), segmenter.sensitivity, segmenter.refinement
        settings, watched = handles.controls.settings, None if handles.watch is None else handles.watch.engine.config

        def restore() -> None:
            if handles.watch is not None and watched is not None:
                handles.watch.engine.reconfigure(watched)
            if segmenter.active is not active:
                segmenter.shown.put(shown)
                segmenter.sensitivity = sensitivity
                segmenter.set_classes(list(map(str, active.classes)))
            segmenter.refinement = refined
            handles.controls.update(lambda now: settings)
            handles.vocabulary.presets = config.presets
            self.config, self.class_digest = config, digest

        return restore

    def infer(self, frame: Frame) -> None:
        """Run the network on `frame`; called in turn with the other cameras, in a thread of theirs."""
        inferred = self._steps.infer(self._steps.prepare(frame.image))
        with suppress(Ended):  # it is being stopped
            self._inferred.put((frame, inferred))

    def fail(self, error: BaseException) -> None:
        """The network or an output failed on this camera: it starts again."""
        with self._lock:
            self._error = self._error or error
            source = self._source
        if source is not None:
            source.close()

    @property
    def state(self) -> tuple[CameraState, str | None]:
        """What it is doing, and why where it does not play."""
        with self._lock:
            failure, source, retry_at = self._failure, self._source, self._retry_at
        if failure is not None:
            left = "" if retry_at is None else f"; reconnecting in {max(1, math.ceil(retry_at - time.monotonic()))} s"
            return CameraState.FAILED, f"{failure}{left}"
        if source is None:
            return CameraState.OPENING, None
        found = source.state
        return (CameraState.PLAYING, None) if found == PLAYING else (CameraState.LOST, found.removeprefix("lost: "))

    @property
    def dropped(self) -> int:
        """Stale frames that a newer one replaced, so far."""
        with self._lock:
            own = 0 if self._source is None else self._source.dropped
        return self.counts.dropped_before + own + self._slot.replaced + self._inferred.replaced

    def status(self, frame: Frame | None = None, timings: dict[str, float] | None = None) -> Status:
        """The state at `frame`, or while none comes."""
        age = None if frame is None else (time.monotonic() - frame.captured) * 1e3
        _, reason = self.state
        source = PLAYING if reason is None else f"lost: {reason}"
        return Status(self.counts.fps, age, timings or {}, self.dropped, source)

    # -- the thread of the source ------------------------------------------------------------------------------------

    def _supervise(self) -> None:
        pause = _FIRST_PAUSE
        while not self._stopping.is_set():
            before = self.counts.frames
            try:
                self._play()
            except Exception as error:  # noqa: BLE001 - whatever it is, only this camera has it
                if self._stopping.is_set():
                    return
                reason = reason_of(error)
                pause = _FIRST_PAUSE if self.counts.frames > before else pause
                with self._lock:
                    self._failure, self._retry_at = reason, time.monotonic() + pause
                self.counts.failures += 1
                self._stopping.wait(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)

    def _play(self) -> None:
        """Offer the source's frames until it ends; returns when the camera is stopped."""
        source = open_camera(self.config)
        try:
            with self._lock:
                self._source, self._failure, self._retry_at, self._error = source, None, None, None
            if self._stopping.is_set():
                return
            self.outputs.open(source)
            self._timeline.open()
            for frame in source:
                self._slot.put((self, self._timeline.place(frame)))
            if not self._stopping.is_set():
                raise self._error or SourceError(f"{source.name} has ended")
        finally:
            with self._lock:
                self._source = None
                self.counts.dropped_before += source.dropped
            self._slot.clear()
            source.close()

    # -- the thread of the outputs -----------------------------------------------------------------------------------

    def _deliver(self) -> None:
        complete = False
        try:
            while True:
                found = self._inferred.get(_TICK)
                try:
                    if found is None:
                        self._idle()
                    else:
                        self._finish(*found)
                except Exception as error:  # noqa: BLE001 - as above
                    self.fail(error)
        except Ended:
            complete = True
        finally:
            self.outputs.end(None if self._successor is None else self._successor.outputs, complete=complete)

    def _idle(self) -> None:
        status, watch = self.status(), self.interaction.watch
        self.counts.idle()
        if status.lost and watch is not None:
            watch.lose()
        self.outputs.each(lambda sink: sink.idle(None, status))

    def _finish(self, frame: Frame, inferred: Inferred) -> None:
        prediction = self._steps.finish(inferred)
        start = time.perf_counter()
        watch, wanted = self.interaction.watch, False
        if watch is not None:
            prediction = watch.observe(frame, prediction)
            prediction.timings["events"] = (time.perf_counter() - start) * 1e3
            start, wanted = time.perf_counter(), watch.wants_picture
        picture = None
        if wanted or self.outputs.wants_picture:
            picture = draw(frame.image, prediction, self.interaction.controls.style, self.status(frame))
        if watch is not None:
            self.counts.events = watch.state.total
            self._send_events(lambda: watch.deliver(picture))
        timings = {**prediction.timings, "draw": (time.perf_counter() - start) * 1e3}
        status = self.status(frame, timings)
        self.counts.frame(status.age_ms or 0.0, timings.get("model"))
        self.outputs.each(lambda sink: sink.write(frame, prediction, picture, status))

    def _end_watch(self, successor: EventWatch | None) -> None:
        """Leave zones and rules to `successor`, or end their states."""
        watch = self.interaction.watch
        if watch is not None:
            self._send_events(watch.close if successor is None else lambda: successor.succeed(watch))

    def _send_events(self, send: Callable[[], None]) -> None:
        try:
            send()
        except BrokenPipeError:  # whoever read events on standard output
            self.outputs.reader_left = True
        except Exception as error:  # noqa: BLE001 - the picture and the other outputs go on
            reason = reason_of(error)
            self.counts.lost_events += 1
            if reason != self._lost_reason:
                self._lost_reason = reason
                self._tell(f"events are lost: {reason}")


def _style(config: CameraConfig) -> Style:
    # The page draws zones itself; only a saved picture needs them drawn into it.
    places = config.watch.places if config.watches and config.save is not None else None
    return Style(opacity=config.opacity, names=config.names, legend=config.legend, figures=config.badge, places=places)
