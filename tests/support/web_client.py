"""A run with the web viewer, and a client that talks to it as the page does."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import AsyncIterator, Coroutine
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import cv2
import numpy as np
from support.endless import PLAIN, Memory, going_on, halves

from ovs_edge.runtime.draw.overlay import Style
from ovs_edge.runtime.interaction import Interaction
from ovs_edge.runtime.segmenter import Segmenter
from ovs_edge.runtime.viewer.sink import WebOptions, WebSink


@dataclass
class Viewer:
    """A run with a page."""

    url: str
    sink: WebSink
    memory: Memory
    segmenter: Segmenter
    interaction: Interaction

    @property
    def port(self) -> int:
        return int(self.url.split(":")[2].split("/")[0])


def start_viewer(
    stack: ExitStack,
    bundle: Path,
    folder: Path,
    token: str | None = None,
    style: Style = PLAIN,
    classes: str = "red",
    presets: tuple[str, ...] = ("red", "green|lawn,blue"),
    image: np.ndarray | None = None,
) -> Viewer:
    """A page that shows `image`, again and again; by default halves of two colours."""
    segmenter = stack.enter_context(Segmenter.load(bundle))
    segmenter.set_classes(classes)
    interaction = Interaction.of(segmenter, style, presets)
    stack.callback(interaction.close)
    sink = WebSink(WebOptions("127.0.0.1:0", token, folder / "recordings", "the source"), interaction)
    memory = Memory()
    stack.enter_context(going_on(segmenter, interaction, [sink, memory], halves() if image is None else image))
    memory.more(1)
    return Viewer(sink.url, sink, memory, segmenter, interaction)


def within(work: Coroutine[Any, Any, Any]) -> Any:
    """Run a test's coroutine; a test that waits for ever has failed."""
    return asyncio.run(asyncio.wait_for(work, 30))


@asynccontextmanager
async def client(viewer: Viewer, **options: Any) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(viewer.url.split("?")[0], **options) as session:
        yield session


async def post(session: aiohttp.ClientSession, path: str, body: Any) -> tuple[int, dict[str, Any]]:
    async with session.post(path, json=body) as answer:
        return answer.status, await answer.json()


async def alone(viewer: Viewer) -> None:
    """Return once the server has noticed that nobody looks any more."""
    while viewer.sink._view.watched:
        await asyncio.sleep(0.01)


async def frames(live: aiohttp.ClientWebSocketResponse) -> AsyncIterator[tuple[dict[str, Any], np.ndarray]]:
    """Header and picture of each frame, acknowledged as the page does it."""
    async for message in live:
        if message.type == aiohttp.WSMsgType.BINARY:
            (length,) = struct.unpack(">I", message.data[:4])
            jpeg = np.frombuffer(message.data[4 + length :], np.uint8)
            await live.send_str("next")
            yield json.loads(message.data[4 : 4 + length]), cv2.imdecode(jpeg, cv2.IMREAD_COLOR)
