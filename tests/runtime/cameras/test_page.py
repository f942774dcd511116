"""The grid of several cameras, the page of each, and the metrics, over HTTP and in a real browser."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from support.browser import browse, chromium
from support.cameras import clip, config, until
from support.web_client import frames, within

from ovs_edge.runtime.cameras.config import CameraConfig
from ovs_edge.runtime.cameras.service import CameraService


@contextmanager
def two_cameras(bundle: Path, folder: Path) -> Iterator[CameraService]:
    source = str(clip(folder))
    cameras = {"yard": CameraConfig(source, "red", max_fps=10), "door": CameraConfig(source, "green", max_fps=10)}
    with CameraService(config(bundle, "127.0.0.1:0", **cameras), print) as service:
        service.start()
        until(lambda: all(camera.counts.frames for camera in service.cameras))
        yield service


def test_every_camera_is_served_under_its_name(tiny_bundle: Path, tmp_path: Path) -> None:
    async def work(service: CameraService) -> None:
        async with aiohttp.ClientSession(service.url) as session:

            async def get(path: str) -> Any:
                async with session.get(path) as reply:
                    assert reply.status == 200, await reply.text()
                    return await reply.json()

            listed = await get("/cameras")
            assert [(entry["name"], entry["state"], entry["reason"]) for entry in listed] == [
                ("yard", "playing", None),
                ("door", "playing", None),
            ]
            assert all(entry["age_ms"] > 0 and entry["frames"] > 0 for entry in listed)
            assert [entry["label"] for entry in (await get("/cameras/door/state"))["classes"]] == ["green"]
            async with session.post("/cameras/door/classes", json={"classes": ["blue", "red"]}) as reply:
                assert (await reply.json())["classes"] == ["blue", "red"]
            assert [entry["label"] for entry in (await get("/cameras/yard/state"))["classes"]] == ["red"]
            async with session.ws_connect("/cameras/yard/live?tile=1") as live:
                async for header, picture in frames(live):
                    assert (header["width"], picture.shape) == (64, (48, 64, 3))
                    break
            for path in ("/cameras/garage/state", "/cameras/garage/", "/state", "/live", "/cameras/door/secret"):
                async with session.get(path) as reply:
                    assert (path, reply.status) == (path, 404)
            async with session.get("/cameras/door", allow_redirects=False) as reply:
                assert (reply.status, reply.headers["Location"]) == (302, "/cameras/door/")
            async with session.get("/cameras/door/classes") as reply:
                assert reply.status == 405

    with two_cameras(tiny_bundle, tmp_path) as service:
        within(work(service))


def test_metrics_are_what_prometheus_reads(tiny_bundle: Path, tmp_path: Path) -> None:
    async def work(service: CameraService) -> str:
        async with aiohttp.ClientSession(service.url) as session, session.get("/metrics") as reply:
            assert reply.headers["Content-Type"].startswith("text/plain; version=0.0.4")
            return await reply.text()

    with two_cameras(tiny_bundle, tmp_path) as service:
        text = within(work(service))
    values: dict[str, float] = {}
    declared: set[str] = set()
    for line in text.splitlines():
        if found := re.fullmatch(r"# TYPE (\w+) (counter|gauge)", line):
            declared.add(found[1])
        elif not line.startswith("# HELP "):
            sample = re.fullmatch(r'((\w+)(?:\{\w+="[^"]*"(?:,\w+="[^"]*")*\})?) (\S+)', line)
            assert sample is not None, line
            assert sample[2] in declared
            assert sample[1] not in values
            values[sample[1]] = float(sample[3])
    assert values['ovs_camera_state{camera="yard",state="playing"}'] == 1
    assert values['ovs_camera_frames_total{camera="door"}'] >= 1
    assert 0 < values['ovs_camera_frame_age_seconds{camera="door"}'] < 60
    assert values["process_resident_memory_bytes"] > 2**20


@pytest.mark.skipif(chromium() is None, reason="no Chromium here; on Debian: apt-get install chromium")
def test_the_grid_and_one_click_to_a_camera(tiny_bundle: Path, tmp_path: Path) -> None:
    tile = "document.querySelector('.camera:nth-child({}){}')"

    async def work(service: CameraService) -> None:
        assert service.url is not None
        async with browse(service.url, tmp_path / "browser") as page:
            for number, name in ((1, "yard"), (2, "door")):
                await page.until(f"{tile.format(number, ' strong')}?.textContent === '{name}'")
                await page.until(f"Number({tile.format(number, '')}.dataset.frames) > 0")
            await page.until("document.querySelector('#pill').textContent === '2 of 2 live'")
            await page.until("/FPS · frame age \\d+ ms/.test(document.querySelector('.camera .muted').textContent)")
            page.loaded.clear()
            await page.value(f"{tile.format(2, ' a')}.click()")
            await page.loaded.wait()
            await page.until("location.pathname === '/cameras/door/' && document.body?.dataset.version")
            await page.until("document.querySelector('#classes .name span')?.textContent === 'green'")
            page.loaded.clear()
            await page.value("document.querySelector('#back').click()")
            await page.loaded.wait()
            await page.until("location.pathname === '/' && document.querySelectorAll('.camera').length === 2")
            assert page.errors == []

    with two_cameras(tiny_bundle, tmp_path) as service:
        asyncio.run(asyncio.wait_for(work(service), 120))
