"""The page in a real browser, by keyboard alone, as someone without a mouse uses it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import cv2
import pytest
from support.browser import Page, browse, chromium
from support.endless import PLAIN, Memory, going_on, halves

from ovs_edge.runtime.interaction import Interaction
from ovs_edge.runtime.segmenter import Segmenter
from ovs_edge.runtime.viewer.sink import WebOptions, WebSink

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(chromium() is None, reason="no Chromium here; on Debian: apt-get install chromium"),
]

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


PIXEL = "[...document.querySelector('#picture').getContext('2d').getImageData({}, 24, 1, 1).data].join()"
READY = f"document.body.dataset.version && {CHIPS} === '{{}}'"


def near(pixel: str, colour: tuple[int, int, int]) -> str:
    """Whether a pixel is of about that colour (RGB), as JavaScript."""
    return f"{pixel}.split(',').slice(0, 3).every((value, place) => Math.abs(value - {list(colour)}[place]) < 16)"


async def drive(page: Page, segmenter: Segmenter, downloads: Path, recordings: Path) -> None:
    await page.until(READY.format("red"))
    pixel = PIXEL
    plain = await page.value(pixel.format(48))
    # Type a class and see it appear: among the chips, in the picture, and for a screen reader.
    await page.press("/")
    assert await page.value(FOCUS) == "name"
    await page.type("lawn|green")
    version = segmenter.active.version + 1
    await page.press("Enter")
    await page.until(f"{CHIPS} === 'red,lawn' && document.body.dataset.version == '{version}'")
    assert segmenter.active.vocabulary.classes[1].names == ("lawn", "green")
    await page.until(f"{pixel.format(48)} !== '{plain}'")
    await page.until("document.querySelector('#announce').textContent === 'Classes: red, lawn'")
    # What the model was not trained with is marked, and said what it is read as.
    marks = "[...document.querySelectorAll('#classes .mark')].map((mark) => mark.hidden).join()"
    await page.until(f"{marks} === 'true,true'")
    await page.type("zebra")
    await page.press("Enter")
    await page.until(f"{marks} === 'true,true,false'")
    assert "zebra: " in await page.value("document.querySelectorAll('#classes .name')[2].title")
    await page.value("document.querySelector('[aria-label=\"Remove zebra\"]').click()")
    await page.until(f"{CHIPS} === 'red,lawn'")
    await page.value("document.querySelector('#name').focus()")
    # A class that cannot be: the reason is said, and nothing is lost.
    await page.type("x" * 400)
    await page.press("Enter")
    await page.until("document.querySelector('#problem').textContent.includes('was not added')")
    assert "at most 300" in await page.value("document.querySelector('#problem').textContent")
    await page.until(f"{CHIPS} === 'red,lawn'")
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
    await page.until("document.querySelector('#problem').textContent.includes('at least one class is needed')")
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
    # Another colour, as the browser's own dialog gives it: through an input event for each it passes on the way.
    await page.value(
        "{ const colour = document.querySelector('[aria-label=\"Colour of red\"]');"
        "for (const value of ['#ffffff', '#102030']) { colour.value = value; colour.dispatchEvent(new Event('input')); } }"
    )
    await page.until(near(pixel.format(16), (0x10, 0x20, 0x30)))
    # Sensitivity by the arrow keys; the server's answer leaves the choice where it is.
    await page.value("document.querySelector('#sensitivity input:checked').focus()")
    await page.press("ArrowRight")
    for _ in range(200):
        if segmenter.sensitivity == "high":
            break
        await asyncio.sleep(0.02)
    assert segmenter.sensitivity == "high"
    await page.until("document.querySelector('#sensitivity input:checked').value === 'high'")
    # Half the opacity: the camera's own red shines through.
    await tab_to(page, "opacity")
    for _ in range(50):
        await page.press("ArrowLeft")
    await page.until("document.querySelector('#opacity-text').textContent === '0.50'")
    await page.until(near(pixel.format(16), (0x88, 0x10, 0x18)))
    # A recording is started and stopped by the same key, and offered when it is complete.
    await page.press("r")
    await page.until("document.querySelector('#record').getAttribute('aria-pressed') === 'true'")
    await page.until("document.querySelector('#record-text').textContent === 'Stop 0:01'")
    await page.press("r")
    await page.until("document.querySelector('#announce').textContent.startsWith('Recorded ')")
    await page.until("document.querySelectorAll('#recordings a').length === 1")
    await page.until("document.querySelector('#record-text').textContent === 'Record'")
    name = await page.value("document.querySelector('#recordings a').textContent")
    fetched = "fetch(document.querySelector('#recordings a').href).then((answer) => answer.blob())"
    assert await page.value(f"{fetched}.then((file) => file.size)") == (recordings / name).stat().st_size > 0
    # A preset by its number.
    version = segmenter.active.version + 1
    await page.press("2")
    await page.until(f"{CHIPS} === 'green,blue' && document.body.dataset.version == '{version}'")
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


@contextmanager
def page_server(
    bundle: Path, folder: Path, classes: str, token: str | None = None
) -> Iterator[tuple[WebSink, Interaction]]:
    """A run on two halves, red and green, and its page."""
    with ExitStack() as stack:
        segmenter = stack.enter_context(Segmenter.load(bundle))
        segmenter.set_classes(classes)
        interaction = Interaction.of(segmenter, PLAIN, ("red", "green,blue"))
        stack.callback(interaction.close)
        sink = WebSink(WebOptions("127.0.0.1:0", token, folder / "recordings"), interaction)
        stack.enter_context(going_on(segmenter, interaction, [sink, Memory()], halves()))
        yield sink, interaction


def test_the_page_by_keyboard_alone(tiny_bundle: Path, tmp_path: Path) -> None:
    async def work(url: str, segmenter: Segmenter, sink: WebSink) -> None:
        async with browse(url, tmp_path / "browser") as page:
            await page.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path / "downloads"))
            await drive(page, segmenter, tmp_path / "downloads", tmp_path / "recordings")
            assert "token" not in await page.value("location.href")
            # The browser notes every refused request; one was refused on purpose.
            (refused,) = page.errors
            assert "400" in refused
            assert refused.endswith("/classes")
            # The end of the run is said, not left to be guessed, and failing to come back does not unsay it.
            await asyncio.to_thread(sink.close)
            await page.until("document.querySelector('#banner').textContent === 'The run has ended.'")
            await asyncio.sleep(0.7)
            assert await page.value("document.querySelector('#banner').textContent") == "The run has ended."

    (tmp_path / "downloads").mkdir()
    with page_server(tiny_bundle, tmp_path, "red", "a-token-for-the-test") as (sink, interaction):
        asyncio.run(asyncio.wait_for(work(sink.url, interaction.segmenter, sink), 120))


def test_quick_edits_add_up_and_one_that_is_refused_is_said(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a text encoder that takes a quarter of a second, edits come while others are on their way."""

    async def add(page: Page, name: str) -> None:
        await page.value("document.querySelector('#name').focus()")
        await page.type(name)
        await page.press("Enter")

    async def remove(page: Page, label: str) -> None:
        await page.value(f"document.querySelector('[aria-label=\"Remove {label}\"]').click()")

    async def toggle(page: Page, label: str) -> None:
        names = "[...document.querySelectorAll('#classes .name')]"
        await page.value(f"{names}.find((name) => name.textContent.startsWith('{label}')).click()")

    async def in_force(page: Page, segmenter: Segmenter, labels: str) -> None:
        for _ in range(300):
            if ",".join(segmenter.active.vocabulary.labels[: segmenter.active.shown]) == labels:
                break
            await asyncio.sleep(0.02)
        assert ",".join(segmenter.active.vocabulary.labels[: segmenter.active.shown]) == labels
        await page.until(f"{CHIPS} === '{labels}' && document.body.dataset.version == '{segmenter.active.version}'")

    async def work(url: str, interaction: Interaction) -> None:
        segmenter = interaction.segmenter
        async with browse(url, tmp_path / "browser") as page:
            await page.until(READY.format("red"))
            await add(page, "dog")
            await add(page, "cat")
            assert await page.value(CHIPS) == "red,dog,cat"  # shown at once, if not yet in force
            await in_force(page, segmenter, "red,dog,cat")
            await remove(page, "red")
            await remove(page, "dog")
            assert await page.value(CHIPS) == "cat"
            await remove(page, "cat")  # one must stay, and it is known which
            await page.until("document.querySelector('#problem').textContent.includes('at least one class is needed')")
            await in_force(page, segmenter, "cat")
            # All kinds in a row, while one of them is refused: the others count, and it is said which does not.
            await add(page, "bird")
            await add(page, "x" * 400)
            await add(page, "red|brick")
            assert await page.value("document.documentElement.scrollWidth <= innerWidth")  # however long a name is
            await remove(page, "bird")
            await add(page, "green")
            await in_force(page, segmenter, "cat,red,green")
            await page.until("document.querySelector('#problem').textContent.includes('xxx…” was not added')")
            assert "at most 300" in await page.value("document.querySelector('#problem').textContent")
            assert await page.value("document.querySelector('#name').value.length") == 400
            await page.value("document.querySelector('#name').value = ''")
            assert segmenter.active.vocabulary.classes[1].names == ("red", "brick")
            # A list that came from elsewhere in between is not undone: an edit is made to what is there then.
            other = interaction.vocabulary.request("blue,sky")
            await add(page, "green")
            await asyncio.to_thread(other.result)
            await in_force(page, segmenter, "blue,sky,green")
            # Settings of several classes at once add up as well.
            await toggle(page, "blue")
            await toggle(page, "green")
            await page.value(
                "for (const colour of document.querySelectorAll('.colour')) {"
                "colour.value = '#102030'; colour.dispatchEvent(new Event('input')); }"
            )
            for _ in range(300):
                style = interaction.controls.style
                if style.hidden == {"blue", "green"} and len(style.colours) == 3:
                    break
                await asyncio.sleep(0.02)
            assert style.hidden == {"blue", "green"}
            assert set(style.colours) == {"blue", "sky", "green"}
            # The browser notes what was refused: the bad name twice, and perhaps the list that was to undo another.
            statuses = sorted(error.split("status of ")[1][:3] for error in page.errors)
            assert statuses in (["400"], ["400"] * 2, ["400", "409"], ["400"] * 2 + ["409"]), page.errors

    with page_server(tiny_bundle, tmp_path, "red") as (sink, interaction):
        set_classes = interaction.segmenter.set_classes

        def slow(*arguments: Any, **options: Any) -> Any:
            time.sleep(0.25)
            return set_classes(*arguments, **options)

        monkeypatch.setattr(interaction.segmenter, "set_classes", slow)
        asyncio.run(asyncio.wait_for(work(sink.url, interaction), 60))
