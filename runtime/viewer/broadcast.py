"""Pictures and news to any number of browsers, without one of them holding up another, or the pipeline.

A frame is one binary message, so that what is said of a picture always belongs to that picture: the length of a header
(4 bytes, big-endian), the header (JSON), a JPEG. News of the run is a text message (JSON). A viewer says "next" when it
has drawn a frame, and is sent at most two frames ahead of that: what it cannot take is not queued but skipped, here
and not in the buffers of the network, so what it sees is always new.
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
from .fault_log import Faults

if TYPE_CHECKING:
    from aiohttp.web import WebSocketResponse

NEXT = "next"  # what a viewer answers when it has drawn a frame

_AHEAD = 2  # frames under way to a viewer: one being sent while one is being drawn
_PATIENCE = 10.0  # seconds for one message to leave; a viewer that takes nothing for longer is gone
_WIDEST = 1280  # pixels of a picture on the page; the snapshot has all
_QUALITY = 80  # of its JPEG


@dataclass(frozen=True)
class Shown:
    """One picture as it reached the sinks."""

    frame: Frame
    prediction: Prediction
    picture: npt.NDArray[np.uint8] | None  # (H, W, 3) BGR, annotated; None while nobody looked
    status: Status
    number: int = 0  # counts what is published


class Viewer:
    """One browser."""

    def __init__(self, socket: WebSocketResponse) -> None:
        self._socket = socket
        self._credit = _AHEAD
        self._frame: bytes | None = None
        self._news: str | None = None
        self._wake = asyncio.Event()
        self.seen = 0  # number of the last picture given to it

    @property
    def waiting(self) -> bool:
        """Whether it would take a frame."""
        return self._credit > 0 and self._frame is None

    def drawn(self) -> None:
        """It has drawn a frame."""
        self._credit = min(self._credit + 1, _AHEAD)

    def offer(self, frame: bytes, number: int) -> None:
        """Send a frame next."""
        self._frame, self.seen = frame, number
        self._credit -= 1
        self._wake.set()

    def tell(self, news: str) -> None:
        """Send news next, in place of older ones that are still waiting."""
        self._news = news
        self._wake.set()

    async def send(self) -> None:
        """Send what there is until the connection breaks. Raises `TimeoutError` or `ConnectionError`."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            if (news := self._news) is not None:
                self._news = None
                await asyncio.wait_for(self._socket.send_str(news), _PATIENCE)
            if (frame := self._frame) is not None:
                self._frame = None
                await asyncio.wait_for(self._socket.send_bytes(frame), _PATIENCE)


class Broadcast:
    """Gives each new picture to the viewers who wait for one, encoded once for all of them."""

    def __init__(self, style: Callable[[], Style], news: Callable[[], dict[str, Any]], faults: Faults) -> None:
        """`style` is how a picture that nobody has drawn yet is drawn; `news` is what a viewer is told of the run.

        `faults` hears of pictures that cannot be shown.
        """
        self._style = style
        self._news = news
        self._faults = faults
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        self._viewers: set[Viewer] = set()
        self._pool = ThreadPoolExecutor(1, "web pictures")  # OpenCV works outside Python's lock
        # Snapshots have a thread of their own, for they take longer, and must not hold up the stream.
        self._snapshots = ThreadPoolExecutor(1, "web snapshots")
        self._taking = asyncio.Lock()
        self._taken: tuple[Shown, Style | None, bytes] | None = None
        self._telling = False
        self._ended = False
        self.latest: Shown | None = None
        self.encoded = 0  # pictures so far

    @property
    def watched(self) -> bool:
        """Whether anyone looks."""
        return bool(self._viewers)

    def publish(self, shown: Shown) -> None:
        """Take a new picture, from any thread; returns at once."""
        self.latest = replace(shown, number=self.latest.number + 1 if self.latest else 1)
        if self._viewers:
            self._call(self._wake.set)

    def tell(self) -> None:
        """The run's news have changed; from any thread."""
        self._call(self._tell_soon)

    def join(self, viewer: Viewer) -> None:
        """Show `viewer` what there is, and all that comes."""
        self._viewers.add(viewer)
        viewer.tell(json.dumps(self._news()))
        self._wake.set()

    def end(self, news: str) -> None:
        """Tell the viewers `news`, and nothing more after that."""
        self._ended = True
        for viewer in self._viewers:
            viewer.tell(news)

    def leave(self, viewer: Viewer) -> None:
        """It is gone."""
        self._viewers.discard(viewer)

    def drawn(self, viewer: Viewer) -> None:
        """`viewer` has drawn a frame."""
        viewer.drawn()
        self._wake.set()

    async def run(self) -> None:
        """Encode and hand out, until cancelled."""
        tried, number, message = 0, 0, b""
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                shown = self.latest
                if shown is None or not self._due(shown):
                    continue
                if shown.number != tried:
                    tried = shown.number
                    try:
                        message = await self._loop.run_in_executor(self._pool, self._encode, shown)
                        number = tried
                    except Exception as error:  # noqa: BLE001 - the last picture stays, and the next may be better
                        self._faults.tell("a picture for the page", error)
                for viewer in self._due(shown) if shown.number == number else ():
                    viewer.offer(message, number)
        finally:
            self._pool.shutdown(wait=False)
            self._snapshots.shutdown(wait=False)

    async def snapshot(self) -> tuple[Shown, bytes]:
        """The latest picture, and a JPEG of it, annotated, in full size; there must be one.

        One is encoded at a time, and given to all who asked before it was begun.
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

    def _drawn_in(self, shown: Shown) -> Style | None:
        """The style that a picture would be drawn in; None for one that is drawn already."""
        return self._style() if shown.picture is None else None

    def _due(self, shown: Shown) -> list[Viewer]:
        return [viewer for viewer in self._viewers if viewer.waiting and viewer.seen < shown.number]

    def _call(self, function: Callable[[], None]) -> None:
        with suppress(RuntimeError):  # the loop has ended; nobody is left to be told
            self._loop.call_soon_threadsafe(function)

    def _tell_soon(self) -> None:
        # A thousand changes in a row are one piece of news.
        if not self._telling:
            self._telling = True
            self._loop.call_later(0.02, self._tell_now)

    def _tell_now(self) -> None:
        self._telling = False
        if self._viewers and not self._ended:
            news = json.dumps(self._news())
            for viewer in self._viewers:
                viewer.tell(news)

    def _encode(self, shown: Shown) -> bytes:
        self.encoded += 1
        header = json.dumps(_describe(shown)).encode()
        return struct.pack(">I", len(header)) + header + self._jpeg(shown, _WIDEST, _QUALITY)

    def _jpeg(self, shown: Shown, widest: int | None, quality: int) -> bytes:
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


def _describe(shown: Shown) -> dict[str, Any]:
    """What the page says of a frame: times in milliseconds, shares of the frame in the order of the classes."""
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
