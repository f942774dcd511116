"""Headless Chromium, driven over its DevTools protocol: what a person does with keys, and what they would see."""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# Key -> its code, and the text it types where it does.
_KEYS = {
    "Enter": ("Enter", 13, "\r"), "Tab": ("Tab", 9, ""), "Escape": ("Escape", 27, ""), " ": ("Space", 32, " "),
    "ArrowLeft": ("ArrowLeft", 37, ""), "ArrowUp": ("ArrowUp", 38, ""),
    "ArrowRight": ("ArrowRight", 39, ""), "ArrowDown": ("ArrowDown", 40, ""),
}  # fmt: skip
_SHIFT = 8


def chromium() -> str | None:
    """The browser's path, or None where there is none."""
    return next((path for name in _NAMES if (path := shutil.which(name))), None)


class Page:
    """One tab. `errors` collects what its console complains of."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._count = 0
        self.errors: list[str] = []
        self.loaded = asyncio.Event()

    async def listen(self) -> None:
        """Take answers and events until the tab closes."""
        async for message in self._socket:
            data = json.loads(message.data)
            if "id" in data:
                self._answers.pop(data["id"]).set_result(data)
            elif data["method"] == "Page.loadEventFired":
                self.loaded.set()
            elif data["method"] == "Runtime.exceptionThrown":
                self.errors.append(json.dumps(data["params"]["exceptionDetails"])[:400])
            elif data["method"] == "Runtime.consoleAPICalled" and data["params"]["type"] == "error":
                self.errors.append(json.dumps(data["params"]["args"])[:400])
            elif data["method"] == "Log.entryAdded" and data["params"]["entry"]["level"] == "error":
                self.errors.append(data["params"]["entry"]["text"] + " " + data["params"]["entry"].get("url", ""))

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command of the protocol."""
        self._count += 1
        answer = self._answers[self._count] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": self._count, "method": method, "params": parameters})
        found = await asyncio.wait_for(answer, 20)
        assert "error" not in found, found
        return dict(found["result"])

    async def value(self, expression: str) -> Any:
        """What JavaScript `expression` comes to; a promise is awaited."""
        found = await self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    async def until(self, expression: str, seconds: float = 15) -> None:
        """Return when `expression` is true."""
        watch = f"""new Promise((done, failed) => {{
            const end = performance.now() + {seconds * 1e3};
            const look = () => ({expression}) ? done(true)
                : performance.now() > end ? done(false) : setTimeout(look, 10);
            look(); }})"""
        assert await self.value(watch), f"still not so after {seconds} s: {expression}"

    async def press(self, key: str, shift: bool = False) -> None:
        """One key."""
        code, number, text = _KEYS.get(key, ("", ord(key.upper()) if len(key) == 1 else 0, key))
        event = {"key": key, "code": code, "windowsVirtualKeyCode": number, "modifiers": _SHIFT * shift}
        await self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **event)
        await self.call("Input.dispatchKeyEvent", type="keyUp", **event)

    async def type(self, text: str) -> None:
        """Text into what has the focus."""
        await self.call("Input.insertText", text=text)

    async def resize(self, width: int, height: int, scale: float = 1, phone: bool = False) -> None:
        """Another window, or a phone."""
        await self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=phone
        )

    async def screenshot(self, path: Path) -> None:
        """What is seen, as PNG or JPEG by the name."""
        kind = {"format": "jpeg", "quality": 88} if path.suffix == ".jpg" else {"format": "png"}
        path.write_bytes(base64.b64decode((await self.call("Page.captureScreenshot", **kind))["data"]))


@asynccontextmanager
async def browse(url: str, folder: Path) -> AsyncIterator[Page]:
    """A tab at `url`; the browser keeps its files in `folder` and ends with the block."""
    path = chromium()
    assert path is not None
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
    process = await asyncio.create_subprocess_exec(
        *(path, *options, "--remote-debugging-port=0", f"--user-data-dir={folder}", "about:blank"),
        stderr=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
    )
    assert process.stderr is not None
    try:
        line = ""
        while "DevTools listening" not in line:
            line = (await process.stderr.readline()).decode()
            assert line, "the browser ended"
        port = line.rsplit(":", 1)[1].split("/")[0]
        async with aiohttp.ClientSession() as session:
            async with session.put(f"http://127.0.0.1:{port}/json/new?about:blank") as answer:
                address = (await answer.json())["webSocketDebuggerUrl"]
            async with session.ws_connect(address, max_msg_size=64 * 2**20) as socket:
                page = Page(socket)
                listening = asyncio.ensure_future(page.listen())
                for domain in ("Page", "Runtime", "Log"):
                    await page.call(f"{domain}.enable")
                await page.call("Page.navigate", url=url)
                await asyncio.wait_for(page.loaded.wait(), 20)
                yield page
                await socket.close()
                await listening
    finally:
        process.terminate()
        await asyncio.wait_for(process.communicate(), 20)
