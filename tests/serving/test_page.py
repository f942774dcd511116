"""The page of `ovs-serve` in a browser: the form segments, and the interface is described."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from support.browser import browse, chromium
from support.segment_server import PICTURE, LocalReplica, made_worker, serving

pytestmark = [
    pytest.mark.browser,
    pytest.mark.xdist_group("browser"),
    pytest.mark.skipif(chromium() is None, reason="no Chromium is installed"),
]


def test_a_picture_is_segmented_on_the_page(tiny_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "picture.png").write_bytes(PICTURE)

    async def work() -> None:
        with made_worker(tiny_bundle) as worker:
            async with serving(LocalReplica(worker)) as session, browse(str(session._base_url), tmp_path / "b") as page:
                await page.until("document.querySelectorAll('#paths h3').length === 3")
                root = (await page.call("DOM.getDocument"))["root"]["nodeId"]
                field = (await page.call("DOM.querySelector", nodeId=root, selector="#image"))["nodeId"]
                await page.call("DOM.setFileInputFiles", nodeId=field, files=[str(tmp_path / "picture.png")])
                await page.value("document.getElementById('classes').value = 'red,blue'")
                await page.value("document.querySelector('button').click()")
                await page.until("document.querySelectorAll('#legend li').length === 2")
                names = "Array.from(document.querySelectorAll('#legend li')).map((entry) => entry.textContent).join()"
                assert await page.value(names) == "red,blue"
                size = "[document.getElementById('canvas').width, document.getElementById('canvas').height]"
                assert await page.value(size) == [64, 48]
                pixel = "Array.from(document.getElementById('canvas').getContext('2d').getImageData({}, 20, 1, 1).data)"
                green = await page.value(pixel.format(30))
                assert green[:3] == [0, 255, 0]  # none of the classes: the picture as it is
                assert (await page.value(pixel.format(55)))[:3] != [0, 0, 255]
                await page.value("document.getElementById('classes').value = ','")
                await page.value("document.querySelector('button').click()")
                await page.until("document.getElementById('told').innerText.includes('list of classes is empty')")
                assert [error for error in page.errors if "favicon" not in error and "400" not in error] == []

    asyncio.run(asyncio.wait_for(work(), 120))
