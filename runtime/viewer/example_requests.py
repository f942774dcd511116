"""The viewer's requests around classes that are shown, relative to the stream's page:

  POST freeze     {}    keeps the latest frame, so that a region can be shown in it: {"frame": 3, "width": …, "height": …}
  GET  frozen.jpg?frame=3                 that frame, without annotations
  POST examples   {"name": "my mug", "box": [x, y, width, height]}, or "point": [x, y] or "polygon": [[x, y], …], shares
                  of width and height; with "frame": 3, or "image": a picture in base64, else of the latest frame;
                  "negative": true, the class is not this; "propose": true, nothing is added.
                  Answers {"outlines": [[[x, y], …], …], "share": …} and, once frames are labelled so, "classes", "version"
  POST undo       {}    takes back the example that was added last
  GET  classes.npz                        the classes in use, to keep
  POST load       {"file": base64}        the classes of such a file in place of those in use

Work is done in one thread, in the order of the requests. A refused request changes nothing.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import math
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from ...bundle.errors import SinkError, UsageError, require
from ..capture.photos import decode_photo
from ..examples.class_archive import unpack
from ..examples.reader import ReadRegion
from ..examples.region import Box, Mask, Point, ShownRegion, outlines
from ..opencv import cv2
from ..segmenter import Segmenter
from ..threads.newest_task import Superseded
from .messages import parse_flag, parse_number
from .replies import error_reply, json_body, result_of

if TYPE_CHECKING:
    from aiohttp import web
else:
    web = require("aiohttp.web", "web")

_MOST_BYTES = 12 * 2**20  # of a body with a picture or a file in it
_MOST_PIXELS = 50 * 10**6  # of a picture
_MOST_FROZEN = 6  # frames that are kept, those frozen last
_MOST_WAITING = 8  # requests
_MOST_CORNERS = 4096  # of a polygon
_MOST_OUTLINES = 32  # of a region, the largest
_QUALITY = 90  # of a frozen frame's JPEG

Image = npt.NDArray[np.uint8]
Handler = Callable[["web.Request"], Awaitable["web.StreamResponse"]]
Result = TypeVar("Result")


class ExampleRequests:
    """Answers the requests of one stream; see the module."""

    def __init__(self, segmenter: Segmenter, latest: Callable[[], Image], changed: Callable[[], None]) -> None:
        """`latest` gives the latest frame (H, W, 3) BGR, or raises `SinkError`; `changed` is called with new classes."""
        self._segmenter, self._latest, self._changed = segmenter, latest, changed
        self._frozen: OrderedDict[int, Image] = OrderedDict()
        self._count = 0
        self._waiting = 0
        self._pool = ThreadPoolExecutor(1, "examples")
        self.requests: dict[tuple[str, str], Handler] = {
            ("POST", "freeze"): self._post_freeze,
            ("GET", "frozen.jpg"): self._get_frozen,
            ("POST", "examples"): self._post_examples,
            ("POST", "undo"): self._post_undo,
            ("GET", "classes.npz"): self._get_classes,
            ("POST", "load"): self._post_load,
        }  # method and path below the page -> what answers

    def close(self) -> None:
        """Take no more work."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _post_freeze(self, request: web.Request) -> web.StreamResponse:
        await json_body(request)
        image = self._latest()
        await self._work(self._segmenter.regions.open)  # so that the first region is as quick as later ones
        self._count += 1
        self._frozen[self._count] = image
        while len(self._frozen) > _MOST_FROZEN:
            self._frozen.popitem(last=False)
        return web.json_response({"frame": self._count, "width": image.shape[1], "height": image.shape[0]})

    async def _get_frozen(self, request: web.Request) -> web.StreamResponse:
        number = request.query.get("frame", "")
        image = self._frozen.get(int(number)) if number.isascii() and number.isdigit() and len(number) < 12 else None
        if image is None:
            return error_reply(404, "this frame is kept no longer; freeze another")
        return web.Response(body=await self._work(lambda: _jpeg(image)), content_type="image/jpeg")

    async def _post_examples(self, request: web.Request) -> web.StreamResponse:
        body = await json_body(request.clone(client_max_size=_MOST_BYTES))
        known = {"name", "box", "point", "polygon", "frame", "image", "negative", "propose"}
        if unknown := body.keys() - known:
            raise UsageError(f"unknown entry {min(unknown)[:40]!r}, expected some of {', '.join(sorted(known))}")
        negative, propose = (parse_flag(body.get(name, False), name) for name in ("negative", "propose"))
        name = body.get("name")
        if not propose and not isinstance(name, str):
            raise UsageError('expected {"name": "my mug"}')
        if {"frame", "image"} <= body.keys():
            raise UsageError("frame and image given, expected at most one of them")
        frame = None if "image" in body else self._frame(body.get("frame"))

        def add() -> dict[str, Any]:
            image = _decoded(body["image"], "the picture") if frame is None else frame
            region = _region(body, (image.shape[0], image.shape[1]))
            if propose:
                return _described(self._segmenter.regions.read(image, region))
            read = self._segmenter.add_example(
                str(name), image, mask=region.mask, box=region.box, point=region.point, negative=negative
            )
            active = self._segmenter.active
            return {**_described(read), "classes": list(active.labels), "version": active.version}

        answer = await self._work(add)
        if not propose:
            self._changed()
        return web.json_response(answer)

    async def _post_undo(self, request: web.Request) -> web.StreamResponse:
        await json_body(request)
        label = await self._work(self._segmenter.undo_example)
        self._changed()
        active = self._segmenter.active
        return web.json_response({"undone": label, "classes": list(active.labels), "version": active.version})

    async def _get_classes(self, request: web.Request) -> web.StreamResponse:
        contents = await self._work(self._segmenter.pack_classes)
        disposition = {"Content-Disposition": 'attachment; filename="classes.npz"'}
        return web.Response(body=contents, content_type="application/octet-stream", headers=disposition)

    async def _post_load(self, request: web.Request) -> web.StreamResponse:
        contents = _bytes((await json_body(request.clone(client_max_size=_MOST_BYTES))).get("file"), "file")

        def load() -> dict[str, Any]:
            segmenter = self._segmenter
            archive = unpack(contents, "the file", segmenter.regions.identity, segmenter.manifest.text.dim)
            with segmenter.shown.unchanged_on_error():
                segmenter.shown.put(archive.shown)
                active = segmenter.set_classes([str(entry) for entry in archive.classes])
            return {"classes": list(active.labels), "version": active.version}

        answer = await self._work(load)
        self._changed()
        return web.json_response(answer)

    def _frame(self, number: object) -> Image:
        """The frozen frame of a number, or the latest."""
        if number is None:
            return self._latest()
        image = self._frozen.get(number) if isinstance(number, int) and not isinstance(number, bool) else None
        if image is None:
            raise UsageError("this frame is kept no longer; freeze another")
        return image

    async def _work(self, task: Callable[[], Result]) -> Result:
        if self._waiting >= _MOST_WAITING:
            raise Superseded("too many examples are being read; try again in a moment")
        self._waiting += 1
        future = asyncio.get_running_loop().run_in_executor(self._pool, task)
        future.add_done_callback(self._done)
        return await result_of(future)

    def _done(self, future: asyncio.Future[Any]) -> None:
        self._waiting -= 1
        if not future.cancelled():
            future.exception()  # taken note of, whoever still waits for it


def _region(body: dict[str, Any], size: tuple[int, int]) -> ShownRegion:
    """The region of a request, in pixels of a picture of `size`. Raises `UsageError`."""
    height, width = size
    given = [name for name in ("box", "point", "polygon") if name in body]
    if len(given) != 1:
        raise UsageError(f"{' and '.join(given) or 'no region'} given, expected one of box, point or polygon")
    if given == ["polygon"]:
        return ShownRegion(mask=_polygon(body["polygon"], size))
    numbers = _numbers(body[given[0]], given[0])
    if given == ["point"] and len(numbers) == 2:
        return ShownRegion(point=_pixel(numbers, width, height))
    if given == ["box"] and len(numbers) == 4:
        x, y, wide, high = numbers
        if not (x < 1 and y < 1 and wide > 0 and high > 0):
            raise UsageError("the box has no area in the picture, expected [x, y, width, height], shares from 0 to 1")
        box: Box = (x * width, y * height, wide * width, high * height)
        return ShownRegion(box=box)
    raise UsageError('expected {"box": [x, y, width, height]} or {"point": [x, y]}, shares of the picture from 0 to 1')


def _numbers(value: object, name: str) -> list[float]:
    if not isinstance(value, list) or len(value) > 4:
        raise UsageError(f"expected a list of numbers as {name!r}")
    numbers = [parse_number(entry, name) for entry in value]
    if any(not 0 <= number <= 1 for number in numbers):
        raise UsageError(f"expected numbers from 0 to 1 as {name!r}, shares of the picture's width and height")
    return numbers


def _pixel(numbers: list[float], width: int, height: int) -> Point:
    return min(numbers[0] * width, math.nextafter(width, 0)), min(numbers[1] * height, math.nextafter(height, 0))


def _polygon(value: object, size: tuple[int, int]) -> Mask:
    if not isinstance(value, list) or not 3 <= len(value) <= _MOST_CORNERS:
        raise UsageError(f"expected 3 to {_MOST_CORNERS} corners [x, y] as 'polygon'")
    corners = [_numbers(corner, "polygon") for corner in value]
    if any(len(corner) != 2 for corner in corners):
        raise UsageError("expected corners [x, y] as 'polygon'")
    points = np.array(corners) * (size[1] - 1, size[0] - 1)
    mask = np.zeros(size, np.uint8)
    cv2.fillPoly(mask, [points.round().astype(np.int32)], 1)
    return mask.astype(np.bool_)


def _described(read: ReadRegion) -> dict[str, Any]:
    height, width = read.mask.shape
    shown = outlines(read.mask)[:_MOST_OUTLINES]
    return {
        "outlines": [[[round((x + 0.5) / width, 5), round((y + 0.5) / height, 5)] for x, y in line] for line in shown],
        "share": float(np.count_nonzero(read.mask) / read.mask.size),
    }


def _bytes(value: object, name: str) -> bytes:
    if not isinstance(value, str):
        raise UsageError(f"expected base64 as {name!r}")
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as error:
        raise UsageError(f"{name!r} is not base64; encode the file's bytes") from error


def _decoded(value: object, name: str) -> Image:
    image = decode_photo(_bytes(value, "image"), name)
    if image.shape[0] * image.shape[1] > _MOST_PIXELS:
        raise UsageError(
            f"the picture is {image.shape[1]}x{image.shape[0]}, expected at most {_MOST_PIXELS:.0e} pixels"
        )
    return image


def _jpeg(image: Image) -> bytes:
    encoded, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    if not encoded:
        raise SinkError("OpenCV cannot encode a picture as JPEG; check its installation")
    return bytes(data)
