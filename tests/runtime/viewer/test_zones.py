"""Zones and lines on the page in a real browser: drawn by mouse, touch and keyboard, changed, renamed, removed, saved."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from support.browser import Page, browse, chromium
from support.endless import PLAIN, Memory, going_on, halves

from ovs_edge.runtime.events.config import parse_watch, read_toml
from ovs_edge.runtime.events.watch import EventWatch
from ovs_edge.runtime.interaction import Interaction
from ovs_edge.runtime.segmenter import Segmenter
from ovs_edge.runtime.viewer.sink import WebOptions, WebSink

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(chromium() is None, reason="no Chromium here; on Debian: apt-get install chromium"),
]

PLACES = "[...document.querySelectorAll('#place-list .place')].map((item) => item.dataset.name).join()"
SHAPES = "document.querySelectorAll('#places .shape').length"


def run(bundle: Path, folder: Path, work: Callable[[Page, EventWatch], Awaitable[None]]) -> None:
    """`work` on the page of a run with one rule, whose zones are saved to zones.toml."""
    file = folder / "zones.toml"
    file.write_text('# mine\nrules = ["red in frame"]\n')
    watch = EventWatch(parse_watch(read_toml(file), "zones.toml"), "camera", None, file)

    async def visit(url: str) -> None:
        async with browse(url, folder / "browser") as page:
            await page.resize(1280, 800)
            await page.until("document.body.dataset.version && !document.querySelector('#zones-part').hidden")
            await work(page, watch)

    with ExitStack() as stack:
        segmenter = stack.enter_context(Segmenter.load(bundle))
        segmenter.set_classes("red,green")
        interaction = Interaction.of(segmenter, PLAIN, (), watch)
        stack.callback(interaction.close)
        sink = WebSink(WebOptions("127.0.0.1:0", None, folder / "recordings"), interaction)
        stack.enter_context(going_on(segmenter, interaction, [sink, Memory()], halves(240, 320)))
        asyncio.run(asyncio.wait_for(visit(sink.url), 120))


async def at(page: Page, x: float, y: float) -> tuple[float, float]:
    """Pixels of the window at shares of the picture."""
    box = await page.value(
        "(({left, top, width, height}) => [left, top, width, height])(document.querySelector('#picture').getBoundingClientRect())"
    )
    return box[0] + x * box[2], box[1] + y * box[3]


async def mouse(page: Page, kind: str, x: float, y: float, dragging: bool = False) -> None:
    left, top = await at(page, x, y)
    pressed = {} if kind == "mouseMoved" and not dragging else {"button": "left", "buttons": 1, "clickCount": 1}
    await page.call("Input.dispatchMouseEvent", type=kind, x=left, y=top, **pressed)


async def click(page: Page, x: float, y: float) -> None:
    for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
        await mouse(page, kind, x, y)


async def tap(page: Page, x: float, y: float) -> None:
    left, top = await at(page, x, y)
    await page.call("Input.dispatchTouchEvent", type="touchStart", touchPoints=[{"x": left, "y": top}])
    await page.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])


async def press_button(page: Page, name: str) -> None:
    await page.value(f"document.querySelector('#{name}').click()")


async def shoot(page: Page, name: str) -> None:
    """A screenshot for whoever wants to look, where OVS_SCREENSHOTS names a folder."""
    if folder := os.environ.get("OVS_SCREENSHOTS"):
        await page.screenshot(Path(folder) / f"{name}.png")


def near(points: tuple[tuple[float, float], ...], expected: list[tuple[float, float]]) -> bool:
    return len(points) == len(expected) and all(
        one == pytest.approx(other, abs=0.01) for one, other in zip(points, expected, strict=True)
    )


def test_a_zone_by_mouse_is_drawn_dragged_renamed_and_saved(tiny_bundle: Path, tmp_path: Path) -> None:
    async def work(page: Page, watch: EventWatch) -> None:
        await press_button(page, "draw-zone")
        corners = [(0.2, 0.2), (0.6, 0.2), (0.6, 0.7), (0.2, 0.7)]
        for x, y in corners:
            await click(page, x, y)
        await shoot(page, "drawing")
        await click(page, 0.2, 0.2)  # the first corner again
        await page.until(f"{PLACES} === 'zone 1'")
        assert near(watch.places.zones[0].points, corners)
        # Its name is selected: whoever types renames it.
        await page.type("door step")
        await page.press("Enter")
        await page.until(f"{PLACES} === 'door step'")
        await page.until("document.querySelectorAll('.handle').length === 4")
        await mouse(page, "mouseMoved", 0.6, 0.7)
        await mouse(page, "mousePressed", 0.6, 0.7)
        await mouse(page, "mouseMoved", 0.7, 0.8, dragging=True)
        await mouse(page, "mouseMoved", 0.8, 0.9, dragging=True)
        await mouse(page, "mouseReleased", 0.8, 0.9)
        await page.until("document.querySelector('#announce').textContent.startsWith('door step changed, saved to')")
        assert near(watch.places.zones[0].points, [(0.2, 0.2), (0.6, 0.2), (0.8, 0.9), (0.2, 0.7)])
        await shoot(page, "zone")
        # The file keeps what else was in it.
        text = (tmp_path / "zones.toml").read_text()
        assert text.startswith("# mine\nrules")
        assert parse_watch(read_toml(tmp_path / "zones.toml"), "x").places == watch.places
        # A click beside it goes on asking what is there.
        await page.press("Escape")
        await click(page, 0.1, 0.9)
        await page.until("document.querySelector('#card-title').textContent === 'red'")
        # What is written by hand meanwhile is kept, and shown; where both changed it, that is said once.
        with (tmp_path / "zones.toml").open("a") as file:
            file.write("[zones.byhand]  # mine\npoints = [[0, 0], [0.2, 0], [0.2, 0.2]]\n")
        await page.value("document.querySelector('[aria-label=\"Remove zone door step\"]').click()")
        await page.until(f"{PLACES} === 'byhand' && {SHAPES} === 1")
        assert [zone.name for zone in watch.places.zones] == ["byhand"]
        text = (tmp_path / "zones.toml").read_text()
        (tmp_path / "zones.toml").write_text(text.replace("[0.2, 0.2]", "[0.2, 0.3]"))
        remove = "document.querySelector('[aria-label=\"Remove zone byhand\"]').click()"
        await page.value(remove)
        await page.until("document.querySelector('#problem').textContent.includes(\"'byhand' is another one there\")")
        assert "# mine" in (tmp_path / "zones.toml").read_text()
        await page.value(remove)
        await page.until(f"{PLACES} === '' && {SHAPES} === 0 && document.querySelector('#problem').textContent === ''")
        assert watch.places.zones == ()
        assert [error for error in page.errors if "409" not in error] == []

    run(tiny_bundle, tmp_path, work)


def test_a_line_by_touch_on_a_phone(tiny_bundle: Path, tmp_path: Path) -> None:
    async def work(page: Page, watch: EventWatch) -> None:
        await page.resize(390, 844, 2, phone=True)
        await page.call("Emulation.setTouchEmulationEnabled", enabled=True)
        await press_button(page, "draw-line")
        await tap(page, 0.3, 0.4)
        await tap(page, 0.8, 0.5)
        await page.until(f"{PLACES} === 'line 1'")
        assert near(watch.places.lines[0].points, [(0.3, 0.4), (0.8, 0.5)])
        assert await page.value("document.documentElement.scrollWidth <= innerWidth")
        await shoot(page, "phone")
        left, top = await at(page, 0.8, 0.5)
        await page.call("Input.dispatchTouchEvent", type="touchStart", touchPoints=[{"x": left, "y": top}])
        left, top = await at(page, 0.6, 0.8)
        await page.call("Input.dispatchTouchEvent", type="touchMove", touchPoints=[{"x": left, "y": top}])
        await page.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
        await page.until("document.querySelector('#announce').textContent.startsWith('line 1 changed')")
        assert near(watch.places.lines[0].points, [(0.3, 0.4), (0.6, 0.8)])

    run(tiny_bundle, tmp_path, work)


def test_by_keyboard_alone(tiny_bundle: Path, tmp_path: Path) -> None:
    async def work(page: Page, watch: EventWatch) -> None:
        await page.press("z")
        assert (await page.value("document.activeElement.id")) == "picture"
        for key, times in (("ArrowLeft", 2), ("ArrowUp", 2), ("ArrowRight", 4), ("ArrowDown", 4)):
            for _ in range(times):
                await page.press(key, shift=True)
            if key != "ArrowLeft":
                await page.press(" ")
        await shoot(page, "keyboard")
        await page.press("Enter")
        await page.until(f"{PLACES} === 'zone 1'")
        assert near(watch.places.zones[0].points, [(0.3, 0.3), (0.7, 0.3), (0.7, 0.7)])
        await page.until("document.activeElement.value === 'zone 1'")
        await page.value("document.querySelectorAll('.handle')[1].focus()")
        for _ in range(5):
            await page.press("ArrowRight")
        await page.until("document.querySelector('#announce').textContent.startsWith('zone 1 changed')")
        assert near(watch.places.zones[0].points, [(0.3, 0.3), (0.75, 0.3), (0.7, 0.7)])
        # One that is not finished leaves nothing.
        await page.value("document.querySelector('#picture').focus()")
        await page.press("l")
        await page.press(" ")
        await page.press("Escape")
        await page.until(f"!document.body.classList.contains('drawing') && {PLACES} === 'zone 1'")
        # The rule's state is shown: the left half is red.
        await page.until("document.querySelector('#rule-list li').dataset.active === 'true'")
        await page.until("document.querySelector('#event-list li').textContent.includes('red started')")

    run(tiny_bundle, tmp_path, work)
