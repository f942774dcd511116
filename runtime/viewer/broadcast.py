"""Sends pictures and state to any number of browsers; a slow one delays neither the others nor the pipeline.

A frame is one binary message, so that the description of a picture always belongs to that picture: the length of a
header (4 bytes, big-endian), the header (JSON), a JPEG. The state of the run is a text message (JSON). A viewer sends
"next" when it has drawn a frame, and is sent at most two frames ahead of that: frames it is not ready for are dropped
here instead of being queued in network buffers, so it always shows a recent frame.
"""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ...bundle.errors import SinkError
from ..draw.overlay import Style, draw
from ..frame import Frame
from ..inference.prediction import Prediction
from ..opencv import cv2
from ..status import Status
from .error_reporter import ErrorReporter

if TYPE_CHECKING:
    from aiohttp.web import WebSocketResponse

NEXT = "next"  # what a viewer answers when it has drawn a frame

_AHEAD = 2  # frames in flight to a viewer: one being sent while one is drawn
_PATIENCE = 10.0  # seconds to send one message; a viewer that reads nothing for longer is disconnected
WIDEST = 1280  # pixels of a picture on the page; the snapshot has all
TILE = 480  # pixels of a picture in the grid of several cameras
_QUALITY = 80  # of its JPEG


@dataclass(frozen=True)
class PublishedFrame:
    """A frame as it reached the sinks."""

    frame: Frame
    prediction: Prediction
    picture: npt.NDArray[np.uint8] | None  # (H, W, 3) BGR, annotated; None while no viewer is connected
    status: Status
    number: int = 0  # of the published frames


class Viewer:
    """One browser."""

    def __init__(self, socket: WebSocketResponse, widest: int = WIDEST) -> None:
        self._socket = socket
        self.widest = widest  # pixels of the pictures it is sent
        self._credit = _AHEAD
        self._frame: bytes | None = None
        self._state: str | None = None
        self._wake = asyncio.Event()
        self.last_sent = 0  # number of the last picture sent to it

    @property
    def waiting(self) -> bool:
        """Whether it is ready for a frame."""
        return self._credit > 0 and self._frame is None

    def drawn(self) -> None:
        """It has drawn a frame."""
        self._credit = min(self._credit + 1, _AHEAD)

    def send_frame(self, frame: bytes, number: int) -> None:
        """Send a frame next."""
        self._frame, self.last_sent = frame, number
        self._credit -= 1
        self._wake.set()

    def send_state(self, state: str) -> None:
        """Send the state next, instead of an older one that is still waiting."""
        self._state = state
        self._wake.set()

    async def send(self) -> None:
        """Send until the connection breaks. Raises `TimeoutError` or `ConnectionError`."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            if (state := self._state) is not None:
                self._state = None
                await asyncio.wait_for(self._socket.send_str(state), _PATIENCE)
            if (frame := self._frame) is not None:
                self._frame = None
                await asyncio.wait_for(self._socket.send_bytes(frame), _PATIENCE)


class Broadcast:
    """Sends each new picture to the viewers that are ready for one, encoded once for all of them."""

    def __init__(self, style: Callable[[], Style], state: Callable[[], dict[str, Any]], errors: ErrorReporter) -> None:
        """`style` draws a picture that is not drawn yet; `state` gives the state of the run.

        `errors` reports pictures that cannot be shown.
        """
        self._style = style
        self._state = state
        self._errors = errors
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        self._viewers: set[Viewer] = set()
        self._pool = ThreadPoolExecutor(1, "web pictures")  # OpenCV works outside Python's lock
        # Snapshots take longer, so they have their own thread and do not delay the stream.
        self._snapshots = ThreadPoolExecutor(1, "web snapshots")
        self._taking = asyncio.Lock()
        self._taken: tuple[PublishedFrame, Style | None, bytes] | None = None
        self._state_due = False
        self._ended = False
        self.latest: PublishedFrame | None = None
        self.encoded = 0  # pictures so far

    @property
    def watched(self) -> bool:
        """Whether a viewer is connected."""
        return bool(self._viewers)

    def publish(self, shown: PublishedFrame) -> None:
        """Take a new picture, from any thread; returns at once."""
        self.latest = replace(shown, number=self.latest.number + 1 if self.latest else 1)
        if self._viewers:
            self._call(self._wake.set)

    def state_changed(self) -> None:
        """Send the state to all viewers soon; from any thread."""
        self._call(self._send_state_soon)

    def join(self, viewer: Viewer) -> None:
        """Send `viewer` the state and the current picture, and everything from now on."""
        self._viewers.add(viewer)
        viewer.send_state(json.dumps(self._state()))
        self._wake.set()

    def end(self, message: str) -> None:
        """Send `message` to the viewers, and nothing after it."""
        self._ended = True
        for viewer in self._viewers:
            viewer.send_state(message)

    def leave(self, viewer: Viewer) -> None:
        """Called when a viewer has disconnected."""
        self._viewers.discard(viewer)

    def drawn(self, viewer: Viewer) -> None:
        """`viewer` has drawn a frame."""
        viewer.drawn()
        self._wake.set()

    async def run(self) -> None:
        """Encode and send, until cancelled."""
        tried = 0  # number of the picture that was encoded last
        messages: dict[int, bytes] = {}  # of that picture, by its width
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                shown = self.latest
                if shown is None:
                    continue
                for widest in {viewer.widest for viewer in self._due(shown)}:
                    if shown.number != tried:
                        tried, messages = shown.number, {}
                    if widest not in messages:
                        messages[widest] = await self._encoded(shown, widest)
                    for viewer in self._due(shown):
                        if viewer.widest == widest and messages[widest]:
                            viewer.send_frame(messages[widest], shown.number)
        finally:
            self._pool.shutdown(wait=False)
            self._snapshots.shutdown(wait=False)

    async def snapshot(self) -> tuple[PublishedFrame, bytes]:
        """The latest picture, and a JPEG of it, annotated, in full size; there must be one.

        One is encoded at a time, for everybody who asked before it was started.
        """
        asked = self.latest
        assert asked is not None
        async with self._taking:
            if self._taken is not None:
                shown, style, jpeg = self._taken
                if shown.number >= asked.number and style == self._drawn_in(shown):
                    return shown, jpeg
            shown = self.latest or asked
            style = self._drawn_in(shown)
            jpeg = await self._loop.run_in_executor(self._snapshots, self._jpeg, shown, None, 95)
            self._taken = shown, style, jpeg
            return shown, jpeg

    def _drawn_in(self, shown: PublishedFrame) -> Style | None:
        """The style that a picture would be drawn in; None for one that is drawn already."""
        return self._style() if shown.picture is None else None

    def _due(self, shown: PublishedFrame) -> list[Viewer]:
        return [viewer for viewer in self._viewers if viewer.waiting and viewer.last_sent < shown.number]

    def _call(self, function: Callable[[], None]) -> None:
        with suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(function)

    def _send_state_soon(self) -> None:
        # Many changes in a row become one message.
        if not self._state_due:
            self._state_due = True
            self._loop.call_later(0.02, self._send_state_now)

    def _send_state_now(self) -> None:
        self._state_due = False
        if self._viewers and not self._ended:
            state = json.dumps(self._state())
            for viewer in self._viewers:
                viewer.send_state(state)

    async def _encoded(self, shown: PublishedFrame, widest: int) -> bytes:
        """The message of a picture; nothing for one that cannot be encoded."""
        try:
            return await self._loop.run_in_executor(self._pool, self._encode, shown, widest)
        except Exception as error:  # noqa: BLE001 - the last picture stays, and the next may be better
            self._errors.report("a picture for the page", error)
            return b""

    def _encode(self, shown: PublishedFrame, widest: int) -> bytes:
        self.encoded += 1
        header = json.dumps(_describe(shown)).encode()
        return struct.pack(">I", len(header)) + header + self._jpeg(shown, widest, _QUALITY)

    def _jpeg(self, shown: PublishedFrame, widest: int | None, quality: int) -> bytes:
        picture = shown.picture
        if picture is None:
            picture = draw(shown.frame.image, shown.prediction, self._style())
        height, width = picture.shape[:2]
        if widest is not None and width > widest:
            size = (widest, max(1, round(height * widest / width)))
            picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        encoded, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
        if not encoded:
            raise SinkError(f"OpenCV cannot encode a picture of {width}x{height} as JPEG; check its installation")
        return bytes(data)


def _describe(shown: PublishedFrame) -> dict[str, Any]:
    """The header of a frame: times in milliseconds, shares of the frame in the order of the classes."""
    prediction, status = shown.prediction, shown.status
    counts = np.bincount(prediction.labels.ravel() + 1, minlength=len(prediction.classes) + 1)[1:]
    return {
        "number": shown.number,
        "index": shown.frame.index,
        "version": prediction.version,
        "width": prediction.labels.shape[1],
        "height": prediction.labels.shape[0],
        "shares": [round(share, 4) for share in (counts / prediction.labels.size).tolist()],
        "fps": status.fps,
        "age": status.age_ms,
        "model": prediction.timings.get("model"),
        "dropped": status.dropped,
    }
