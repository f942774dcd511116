"""Classes that are shown on the page: by HTTP, and in a real browser with mouse, touch and keyboard."""

from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import aiohttp
import cv2
import numpy as np
import pytest
from support import tiny_bundle
from support.browser import Page, browse, chromium
from support.web_client import Viewer, client, frames, post, start_viewer, within

ORANGE = (0, 128, 255)
CHIPS = "[...document.querySelectorAll('#classes .name span:first-child')].map((name) => name.textContent).join()"
NEEDS_CHROMIUM = pytest.mark.skipif(chromium() is None, reason="no Chromium here; on Debian: apt-get install chromium")


def scene() -> np.ndarray:
    """Sky, and an orange thing in its middle; a yellow one in the corner."""
    image = np.full((96, 128, 3), (255, 0, 0), np.uint8)
    image[32:64, 48:80] = ORANGE
    image[80:92, 4:24] = (0, 200, 255)
    return image


@pytest.fixture
def viewer(tmp_path: Path) -> Iterator[Viewer]:
    bundle = tiny_bundle.build(tmp_path / "shown.ovs", regions=True)
    with ExitStack() as stack:
        yield start_viewer(stack, bundle, tmp_path, classes="sky", presets=(), image=scene())


def test_shown_in_the_latest_frame_and_labelled_in_the_next(viewer: Viewer) -> None:
    async def work() -> None:
        async with client(viewer) as session, session.ws_connect("/live") as live:
            status, proposed = await post(session, "/examples", {"point": [0.5, 0.5], "propose": True})
            assert status == 200
            assert proposed["share"] == pytest.approx(1 / 12, rel=0.2)
            assert viewer.segmenter.active.labels == ("sky",)
            status, answer = await post(session, "/examples", {"name": "my thing", "point": [0.5, 0.5]})
            assert (status, answer["classes"]) == (200, ["sky", "my thing"])
            assert answer["outlines"] == proposed["outlines"]
            late = 0
            async for header, _ in frames(live):
                if header["version"] == answer["version"]:
                    assert 0.07 < header["shares"][1] < 0.12  # the thing, and the yellow one that resembles it
                    break
                late += 1
                assert late < 20
            async with session.get("/state") as reply:
                state = await reply.json()
            assert state["shows"] is True
            assert [entry["examples"] for entry in state["classes"]] == [0, 1]
            assert state["undoable"] is True
            # Undo, by way of "not this" for the yellow thing.
            body = {"name": "my thing", "box": [0.03, 0.83, 0.16, 0.13], "negative": True}
            assert (await post(session, "/examples", body))[0] == 200
            assert len(viewer.segmenter.shown.all()[0].opposites) == 1
            for left in (["sky", "my thing"], ["sky"]):
                assert (await post(session, "/undo", {}))[1]["classes"] == left
            assert (await post(session, "/undo", {}))[0] == 400

    within(work())


def test_another_picture_a_polygon_and_files(viewer: Viewer) -> None:
    picture = cv2.imencode(".png", scene()[24:72, 40:88])[1].tobytes()

    async def work() -> None:
        async with client(viewer) as session:
            body: dict[str, Any] = {"name": "my thing", "image": base64.b64encode(picture).decode()}
            corners = [[0.2, 0.2], [0.8, 0.2], [0.8, 0.8], [0.2, 0.8]]
            status, answer = await post(session, "/examples", {**body, "polygon": corners})
            assert (status, answer["classes"]) == (200, ["sky", "my thing"])
            async with session.get("/classes.npz") as reply:
                assert "attachment" in reply.headers["Content-Disposition"]
                saved = await reply.read()
            assert (await post(session, "/classes", {"classes": ["red"]}))[0] == 200
            status, answer = await post(session, "/load", {"file": base64.b64encode(saved).decode()})
            assert (status, answer["classes"]) == (200, ["sky", "my thing"])
            async with session.get("/state") as reply:
                state = await reply.json()
            assert (state["classes"][1]["examples"], state["undoable"]) == (1, False)  # they are the file's
            status, answer = await post(session, "/load", {"file": base64.b64encode(saved[:-30]).decode()})
            assert status == 400
            assert "holds no saved classes" in answer["error"]
            assert viewer.segmenter.active.labels == ("sky", "my thing")

    within(work())


def test_a_frozen_frame_stays_what_it_was(viewer: Viewer) -> None:
    async def work() -> None:
        async with client(viewer) as session:
            _, kept = await post(session, "/freeze", {})
            assert (kept["width"], kept["height"]) == (128, 96)
            async with session.get(f"/frozen.jpg?frame={kept['frame']}") as reply:
                found = cv2.imdecode(np.frombuffer(await reply.read(), np.uint8), cv2.IMREAD_COLOR)
            assert np.abs(found.astype(int) - scene()).mean() < 6  # without annotations
            for _ in range(6):
                await post(session, "/freeze", {})
            for path in (f"/frozen.jpg?frame={kept['frame']}", "/frozen.jpg?frame=x", "/frozen.jpg"):
                async with session.get(path) as reply:
                    assert reply.status == 404
            status, answer = await post(session, "/examples", {"name": "a", "point": [0, 0], "frame": kept["frame"]})
            assert (status, answer["error"]) == (400, "this frame is kept no longer; freeze another")

    within(work())


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({}, "expected {"),
        ({"name": "a"}, "no region given"),
        ({"name": "a", "point": [0.5, 0.5], "box": [0, 0, 1, 1]}, "box and point given"),
        ({"name": "a", "point": [0.5]}, "expected {"),
        ({"name": "a", "point": "here"}, "list of numbers"),
        ({"name": "a", "point": [0.5, 1.5]}, "numbers from 0 to 1"),
        ({"name": "a", "point": [0.5, "x"]}, "expected a number"),
        ({"name": "a", "box": [0.5, 0.5, 0, 0.1]}, "no area"),
        ({"name": "a", "box": [1, 0.5, 0.1, 0.1]}, "shares from 0 to 1"),
        ({"name": "a", "point": [0.5, 0.5], "frame": 1, "image": ""}, "frame and image given"),
        ({"name": "a", "polygon": [[0, 0], [1, 1]]}, "3 to 4096 corners"),
        ({"name": "a", "polygon": [[0, 0], [1, 1], [0]]}, "corners [x, y]"),
        ({"name": "x" * 301, "point": [0.5, 0.5]}, "at most 300"),
        ({"name": "", "point": [0.5, 0.5]}, "empty"),
        ({"name": "a", "point": [0.5, 0.5], "negative": 1}, "true or false"),
        ({"name": "a", "point": [0.5, 0.5], "colour": "red"}, "unknown entry 'colour'"),
        ({"name": "a", "point": [0.5, 0.5], "image": "?"}, "not base64"),
        ({"name": "a", "point": [0.5, 0.5], "image": base64.b64encode(b"GIF89a").decode()}, "does not decode"),
        ({"name": "a", "point": [0.5, 0.5], "frame": "1"}, "kept no longer"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_one_line_and_changes_nothing(body: dict[str, Any], reason: str, viewer: Viewer) -> None:
    async def work() -> None:
        async with client(viewer) as session:
            status, answer = await post(session, "/examples", body)
            assert status == 400
            assert reason in answer["error"]
            assert "\n" not in answer["error"]
        assert viewer.segmenter.active.labels == ("sky",)
        assert len(viewer.segmenter.shown) == 0

    within(work())


def test_a_bundle_that_takes_names_only_says_so(tiny_bundle: Path, tmp_path: Path) -> None:
    from support.web_client import start_viewer

    async def work(viewer: Viewer) -> None:
        async with client(viewer) as session:
            async with session.get("/state") as reply:
                assert (await reply.json())["shows"] is False
            status, answer = await post(session, "/examples", {"name": "a", "point": [0.5, 0.5]})
            assert status == 400
            assert "names only" in answer["error"]
            async with session.post("/examples", data=b"{}", headers={"Content-Type": "text/plain"}) as reply:
                assert reply.status == 415

    with ExitStack() as stack:
        within(work(start_viewer(stack, tiny_bundle, tmp_path)))


OPEN = "document.querySelector('#show-dialog').open"
READY = f"{OPEN} && document.querySelector('#show-picture').complete"
OUTLINED = "document.querySelector('#show-outline path').getAttribute('d').length > 8"


async def position(page: Page, x: float, y: float) -> dict[str, float]:
    """Where a share of the frozen picture is on the screen."""
    box = await page.value(
        "(({left, top, width, height}) => ({left, top, width, height}))"
        "(document.querySelector('#show-frame').getBoundingClientRect())"
    )
    return {"x": box["left"] + x * box["width"], "y": box["top"] + y * box["height"]}


async def mouse(page: Page, kind: str, at: dict[str, float]) -> None:
    await page.call("Input.dispatchMouseEvent", type=kind, button="left", buttons=1, clickCount=1, **at)


async def named(page: Page, name: str, chips: str) -> None:
    """Type the name once the region is outlined; Enter, and the class is in the next frames."""
    await page.until(OUTLINED)
    assert await page.value("document.activeElement.id") == "show-name"
    await page.type(name)
    await page.press("Enter")
    await page.until(f"!({OPEN}) && {CHIPS} === '{chips}'")


@NEEDS_CHROMIUM
def test_the_flow_by_mouse_keyboard_and_touch(viewer: Viewer, tmp_path: Path) -> None:
    shots = Path(os.environ.get("OVS_SCREENSHOTS", tmp_path))

    async def work() -> None:
        async with browse(viewer.url, tmp_path / "browser") as page:
            await page.resize(1100, 800)
            await page.until(f"{CHIPS} === 'sky'")
            # Mouse: a click on the thing.
            await page.value("document.querySelector('#show').click()")
            await page.until(READY)
            middle = await position(page, 0.5, 0.5)
            await mouse(page, "mousePressed", middle)
            await mouse(page, "mouseReleased", middle)
            await page.until(OUTLINED)
            await page.screenshot(shots / "shown_mouse.png")
            await named(page, "my thing", "sky,my thing")
            share = "[...document.querySelectorAll('#classes .share')][1].textContent"
            await page.until(f"{share} !== ''")
            await page.screenshot(shots / "shown_found.png")
            assert await page.value("document.activeElement.id") == "show"
            # Keyboard: the corners of a box around the yellow thing, which the class is not.
            await page.press("e")
            await page.until(READY)
            assert await page.value("document.activeElement.id") == "show-frame"
            for key, times in (("ArrowLeft", 23), ("ArrowDown", 17)):
                for _ in range(times):
                    await page.press(key)
            await page.press(" ")
            for key, times in (("ArrowRight", 6), ("ArrowDown", 4)):
                for _ in range(times):
                    await page.press(key)
            await page.press(" ")
            await page.until(OUTLINED)
            await page.press("Tab")
            await page.press(" ")
            assert await page.value("document.querySelector('#show-negative').checked")
            await page.value("document.querySelector('#show-name').focus()")
            await named(page, "my thing", "sky,my thing")
            assert len(viewer.segmenter.shown.all()[0].opposites) == 1
            # Undo, twice: the second takes the class with it.
            for chips in ("sky,my thing", "sky"):
                await page.value("document.querySelector('#show-undo').click()")
                await page.until(f"{CHIPS} === '{chips}'")
            await page.until("document.querySelector('#show-undo').hidden")
            # Keyboard: a point, and a name that cannot be is said.
            await page.press("e")
            await page.until(READY)
            await page.press("Enter")
            await page.until(OUTLINED)
            assert await page.value("document.querySelector('#show-name').value") == "my thing"  # ready for one more
            await page.value("document.querySelector('#show-name').value = ''")
            await page.press("Enter")
            await page.until("document.querySelector('#show-problem').textContent === 'Type a name first.'")
            await page.press("Escape")
            await page.until(f"!({OPEN})")
            # Touch, on a phone: a box is dragged around the thing.
            await page.resize(390, 780, 2, phone=True)
            await page.call("Emulation.setTouchEmulationEnabled", enabled=True)
            await page.value("document.querySelector('#show').click()")
            await page.until(READY)
            corners = [await position(page, *at) for at in ((0.36, 0.3), (0.5, 0.5), (0.64, 0.7))]
            for kind, at in (("touchStart", corners[0]), ("touchMove", corners[1]), ("touchMove", corners[2])):
                await page.call("Input.dispatchTouchEvent", type=kind, touchPoints=[at])
            await page.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
            await page.until(OUTLINED)
            await page.screenshot(shots / "shown_touch.png")
            assert await page.value("document.documentElement.scrollWidth <= innerWidth")
            await named(page, "by touch", "sky,by touch")
            assert page.errors == []

    asyncio.run(asyncio.wait_for(work(), 110))


def test_every_request_in_parallel_is_answered(viewer: Viewer) -> None:
    """More at once than are taken: the others are told to come again, and no class is lost."""

    async def work() -> None:
        async with client(viewer, connector=aiohttp.TCPConnector(limit=40)) as session:
            bodies = [{"name": f"thing {number}", "point": [0.5, 0.5]} for number in range(24)]
            answers = await asyncio.gather(*(post(session, "/examples", body) for body in bodies))
            taken = [body["name"] for body, (status, _) in zip(bodies, answers, strict=True) if status == 200]
            assert {status for status, _ in answers} <= {200, 409}
            assert len(taken) >= 8
            assert set(viewer.segmenter.active.labels) == {"sky", *taken}

    within(work())
