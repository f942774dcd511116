"""The page in a real browser, by keyboard alone, as someone without a mouse uses it."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from pathlib import Path

import cv2
import pytest
from support.browser import Page, browse, chromium
from support.endless import PLAIN, Memory, going_on, halves

from ovs_edge.runtime.interaction import Interaction
from ovs_edge.runtime.segmenter import Segmenter
from ovs_edge.runtime.web_sink import WebOptions, WebSink

pytestmark = pytest.mark.skipif(chromium() is None, reason="no Chromium here; on Debian: apt-get install chromium")

CHIPS = "[...document.querySelectorAll('#classes .name span:first-child')].map((name) => name.textContent).join()"
FOCUS = "document.activeElement.getAttribute('aria-label') || document.activeElement.id || document.activeElement.textContent"


async def tab_to(page: Page, wanted: str) -> None:
    """Press Tab until what has the focus is called `wanted`."""
    passed = []
    for _ in range(40):
        await page.press("Tab")
        passed.append(await page.value(FOCUS))
        if passed[-1] == wanted:
            return
    raise AssertionError(f"no way to {wanted!r} by Tab: {passed}")


async def drive(page: Page, segmenter: Segmenter, downloads: Path) -> None:
    await page.until(f"document.body.dataset.version && {CHIPS} === 'red'")
    pixel = "[...document.querySelector('#picture').getContext('2d').getImageData({}, 24, 1, 1).data].join()"
    plain = await page.value(pixel.format(48))
    # Type a class and see it appear: among the chips, in the picture, and for a screen reader.
    await page.press("/")
    assert await page.value(FOCUS) == "name"
    await page.type("lawn|green")
    version = segmenter.asked.version + 1
    await page.press("Enter")
    await page.until(f"{CHIPS} === 'red,lawn' && document.body.dataset.version == '{version}'")
    assert segmenter.asked.vocabulary.classes[1].names == ("lawn", "green")
    await page.until(f"{pixel.format(48)} !== '{plain}'")
    await page.until("document.querySelector('#announce').textContent === 'Looking for red, lawn'")
    # A class that cannot be: the reason is said, and nothing is lost.
    await page.type("x" * 400)
    await page.press("Enter")
    await page.until("document.querySelector('#problem').textContent.includes('at most 300')")
    assert await page.value(CHIPS) == "red,lawn"
    await page.value("document.querySelector('#name').value = ''")
    # Hide it and show it again, then remove it.
    hidden = "document.querySelectorAll('#classes .name')[1].getAttribute('aria-pressed') === 'false'"
    await tab_to(page, "Remove red")
    await tab_to(page, "Colour of lawn")
    await page.press("Tab")
    await page.press(" ")
    await page.until(f"{hidden} && {pixel.format(48)} === '{plain}'")
    await page.press("Enter")
    await page.until(f"!({hidden})")
    await page.press("Tab")
    assert await page.value(FOCUS) == "Remove lawn"
    await page.press("Enter")
    await page.until(f"{CHIPS} === 'red'")
    assert await page.value(FOCUS) == "Remove red"  # the focus is not lost with its chip
    await page.press("Enter")
    await page.until("document.querySelector('#problem').textContent.includes('one class must stay')")
    # Threshold by the slider's own keys, and by the page's.
    await tab_to(page, "threshold")
    for _ in range(5):
        await page.press("ArrowRight")
    await page.until("document.querySelector('#threshold-text').textContent === '0.35'")
    await page.press("+")
    for _ in range(200):
        if segmenter.threshold == pytest.approx(0.4):
            break
        await asyncio.sleep(0.02)
    assert segmenter.threshold == pytest.approx(0.4)
    # A preset by its number.
    await page.press("2")
    await page.until(f"{CHIPS} === 'green,blue'")
    # What is here: by arrow keys and Enter on the picture.
    await page.press("p")
    assert (await page.value(FOCUS)).startswith("Live picture")
    for _ in range(10):
        await page.press("ArrowRight")
    await page.press("Enter")
    await page.until("document.querySelector('#card-title').textContent === 'green'")
    await page.until("document.querySelectorAll('#card-guesses li').length >= 1")
    await page.press("Escape")
    await page.until("document.querySelector('#card').hidden")
    # Help, and a snapshot.
    await page.press("?", shift=True)
    await page.until("document.querySelector('#help').open")
    await page.press("Escape")
    await page.until("!document.querySelector('#help').open")
    await page.press("s")
    for _ in range(500):
        if files := list(downloads.glob("*.jpg")):
            break
        await asyncio.sleep(0.02)
    assert cv2.imread(str(files[0])).shape == (48, 64, 3)


def test_the_page_by_keyboard_alone(tiny_bundle: Path, tmp_path: Path) -> None:
    async def work(url: str, segmenter: Segmenter, sink: WebSink) -> None:
        async with browse(url, tmp_path / "browser") as page:
            await page.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path / "downloads"))
            await drive(page, segmenter, tmp_path / "downloads")
            assert "token" not in await page.value("location.href")
            # The browser notes every refused request; one was refused on purpose.
            (refused,) = page.errors
            assert "400" in refused and refused.endswith("/classes")
            # The end of the run is said, not left to be guessed, and failing to come back does not unsay it.
            await asyncio.to_thread(sink.close)
            await page.until("document.querySelector('#banner').textContent === 'The run has ended.'")
            await asyncio.sleep(0.7)
            assert await page.value("document.querySelector('#banner').textContent") == "The run has ended."

    (tmp_path / "downloads").mkdir()
    with ExitStack() as stack:
        segmenter = stack.enter_context(Segmenter.load(tiny_bundle))
        segmenter.set_classes("red")
        interaction = Interaction.of(segmenter, PLAIN, ("red", "green,blue"))
        stack.callback(interaction.close)
        sink = WebSink(WebOptions("127.0.0.1:0", "a-token-for-the-test"), interaction)
        memory = Memory()
        stack.enter_context(going_on(segmenter, interaction, [sink, memory], halves()))
        asyncio.run(asyncio.wait_for(work(sink.url, segmenter, sink), 120))
