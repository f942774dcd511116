"""`ovs-serve` by a real HTTP client, with one worker in this process: what it answers, and what it refuses."""

from __future__ import annotations

import asyncio
import gc
import json
import random
import struct
import sys
import zlib
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any

import aiohttp
import cv2
import numpy as np
import pytest
from support.segment_server import LIMITS, PICTURE, LocalReplica, made_worker, serving

from ovs_edge.bundle.errors import UsageError
from ovs_edge.runtime.inference.interop import decode_rle
from ovs_edge.runtime.segmenter import Segmenter
from ovs_edge.runtime.viewer.access import Guard, parse_address
from ovs_edge.serving.messages import ReplicaLost, SegmentAnswer, SegmentRequest
from ovs_edge.serving.request_body import ReceivedTooMuch
from ovs_edge.serving.server import ServerLimits


def _within(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(work, 60))


async def _post(session: aiohttp.ClientSession, query: str = "", **options: Any) -> tuple[int, dict[str, str], bytes]:
    options = {"headers": {"Content-Type": "image/png"}, **options}
    async with session.post(f"/segment{query}", **options) as response:
        return response.status, dict(response.headers), await response.read()


def test_a_picture_and_its_classes(tiny_bundle: Path) -> None:
    async def work() -> None:
        with made_worker(tiny_bundle) as worker:
            async with serving(LocalReplica(worker)) as session:
                status, headers, body = await _post(session, "?classes=red,blue|sky", data=PICTURE)
                assert (status, headers["Content-Type"]) == (200, "image/png")
                assert json.loads(headers["OVS-Classes"]) == ["red", "blue"]
                labels = cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_UNCHANGED)
                assert labels.shape == (48, 64)
                assert [int(labels[20, x]) for x in (5, 30, 55)] == [0, 255, 1]
                form = aiohttp.FormData({"classes": '["green", "a, b"]', "format": "coco"})
                form.add_field("image", PICTURE, filename="x")
                async with session.post("/segment", data=form) as response:
                    document = await response.json()
                assert [entry["name"] for entry in document["categories"]] == ["green", "a, b"]
                [entry] = document["annotations"]
                mask = decode_rle(entry["segmentation"])
                assert mask[:, 22:38].all() and not mask[:, :18].any()
                assert entry["category_id"] == 1 and entry["area"] == mask.sum()
                assert document["untrained"][0]["name"] == "a, b"

    _within(work())


def test_no_request_sees_the_classes_of_another(tiny_bundle: Path) -> None:
    """Many at a time, each with other classes; answers are those of `predict`, whatever was asked for before."""
    words = ["red", "green", "blue", "sky|azure", "lawn", "brick", "yellow", "cyan", "magenta", "grey"]
    lists = [[words[place], words[(place + step) % 10]] for place in range(10) for step in (1, 3, 4)]

    async def work() -> list[tuple[int, dict[str, str], bytes]]:
        with made_worker(tiny_bundle) as worker:
            limits = ServerLimits(LIMITS.body, queue=100, bodies=10**7)
            async with serving(LocalReplica(worker), limits=limits) as session:
                asked = [_post(session, f"?classes={','.join(entry)}", data=PICTURE) for entry in lists * 3]
                return list(await asyncio.gather(*asked))

    answers = _within(work())
    image = cv2.imdecode(np.frombuffer(PICTURE, np.uint8), cv2.IMREAD_COLOR)
    with Segmenter.load(tiny_bundle, threads=1) as segmenter:
        for entry, (status, headers, body) in zip(lists * 3, answers, strict=True):
            segmenter.set_classes(entry)
            expected = segmenter.predict(image).labels
            found = cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_UNCHANGED)
            assert status == 200
            assert json.loads(headers["OVS-Classes"]) == [names.split("|")[0] for names in entry]
            assert np.array_equal(found, np.where(expected < 0, 255, expected))


def test_a_segmenter_keeps_its_classes(tiny_bundle: Path) -> None:
    with Segmenter.load(tiny_bundle) as segmenter:
        active = segmenter.set_classes("red")
        other = segmenter.encode_classes(["green", "blue"])
        assert segmenter.active is active
        assert other.labels == ("green", "blue")
        assert other.version != active.version


def _bomb(side: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")


FORM = "multipart/form-data; boundary=x"
FIELD = '--x\r\nContent-Disposition: form-data; name="{}"\r\n\r\n{}\r\n'
REFUSED: list[tuple[str, str, bytes, int, str]] = [  # query, media type, body, status, what is told
    ("?classes=red", "image/png", b"", 400, "there is no picture"),
    ("", "image/png", PICTURE, 400, "there are no classes"),
    ("?classes=,", "image/png", PICTURE, 400, "the list of classes is empty"),
    ("?classes=%00", "image/png", PICTURE, 400, "control characters"),
    ("?classes=red&format=gif", "image/png", PICTURE, 400, "the format is 'gif', expected png or coco"),
    ("?classes=" + ",".join(map(str, range(501))), "image/png", PICTURE, 400, "501 classes"),
    ("?classes=" + "|".join(map(str, range(65))), "image/png", PICTURE, 400, "65 names"),
    ("?classes=red", "image/png", PICTURE[:60], 400, "cut short"),
    ("?classes=red", "image/png", PICTURE[:40] + bytes(30) + PICTURE[70:], 400, "does not decode"),
    ("?classes=red", "image/png", b"text", 415, "expected JPEG, PNG, WebP, BMP"),
    ("?classes=red", "image/gif", b"GIF89a" + bytes(90), 415, "the picture is GIF"),
    ("?classes=red", "image/png", _bomb(101), 413, "101x101 pixels, at most 10000"),
    ("?classes=red", "image/png", _bomb(0), 400, "tells no width"),
    ("?classes=red", "image/png", bytes(200_001), 413, "larger than 200000 bytes"),
    ("?classes=red", "text/plain", PICTURE, 415, "not announced as an image"),
    ("?classes=red", "", PICTURE, 415, "not announced as an image"),
    ("", FORM, b"", 400, "the form is damaged"),
    ("", "multipart/form-data", b"--x", 400, "the form is damaged"),
    ("", FORM, (FIELD.format("a", "b") + "--x--").encode(), 400, "'a' which is not known"),
    ("", FORM, (2 * FIELD.format("classes", "b") + "--x--").encode(), 400, "'classes' twice"),
    ("", FORM, (FIELD.format("classes", "red") + "--x--").encode(), 400, "there is no picture"),
    ("", FORM, (FIELD.format("classes", "r" * 190_000) + "--x--").encode(), 400, "no picture"),
    ("", FORM, FIELD.format("classes", "red")[:30].encode(), 400, "form"),
]


def test_what_is_refused(tiny_bundle: Path) -> None:
    async def work() -> None:
        with made_worker(tiny_bundle) as worker:
            async with serving(LocalReplica(worker)) as session:
                for query, kind, data, expected, told in REFUSED:
                    headers = {"Content-Type": kind}
                    status, _, body = await _post(session, query, data=data, headers=headers)
                    assert (status, told in json.loads(body)["error"]) == (expected, True), (query[:40], body)
                for path, expected in (("/segment", 405), ("/nothing", 404), ("/../etc/passwd", 404)):
                    async with session.get(path) as response:
                        assert response.status == expected
                        assert "error" in await response.json()
                # A body without a stated length ends where it becomes too long, and so does one that unpacks.
                for data, extra in ((_parts(), {}), (zlib.compress(bytes(10**7)), {"Content-Encoding": "deflate"})):
                    headers = {"Content-Type": "image/png", **extra}
                    status, _, _ = await _post(session, "?classes=red", data=data, headers=headers)
                    assert status == 413
                assert (await _post(session, "?classes=red", data=PICTURE))[0] == 200

    async def _parts() -> AsyncIterator[bytes]:
        for _ in range(30):
            yield bytes(10_000)

    _within(work())


def test_refused_bodies_do_not_wait_for_the_garbage_collector() -> None:
    """An error that outlives its answer holds the body that it was raised for."""

    async def parts() -> AsyncIterator[bytes]:
        for _ in range(30):
            yield bytes(10_000)

    async def work() -> None:
        async with serving(Replies([SegmentAnswer(200, "image/png", b"", ("red",))])) as session:
            gc.collect()
            gc.disable()
            try:
                for _ in range(3):
                    assert (await _post(session, "?classes=red", data=parts()))[0] == 413
                    assert (await _post(session, "", data=PICTURE))[0] == 400
                kept = [one for one in gc.get_objects() if type(one) in (ReceivedTooMuch, UsageError)]
            finally:
                gc.enable()
            assert not kept

    _within(work())


def test_a_damaged_form_is_refused_in_one_line() -> None:
    whole = (
        FIELD.format("classes", "red").encode() + FIELD.format("image", "").encode()[:-2] + PICTURE + b"\r\n--x--\r\n"
    )
    chance = random.Random(0)

    async def work() -> None:
        async with serving(Replies([SegmentAnswer(200, "image/png", b"", ("red",))])) as session:
            seen = set()
            for _ in range(300):
                form = bytearray(whole)
                for _ in range(chance.randrange(1, 5)):
                    place = chance.randrange(min(len(form), 200))
                    form[place : place + chance.randrange(4)] = chance.randbytes(chance.randrange(4))
                body = bytes(form[: chance.choice([len(form), chance.randrange(len(form))])])
                status, _, answer = await _post(session, data=body, headers={"Content-Type": FORM})
                seen.add(status)
                assert status == 200 or (status in (400, 413) and json.loads(answer)["error"]), (body, status, answer)
            assert seen >= {200, 400}

    _within(work())


class Replies:
    """Replicas whose answers are known; an answer that is an exception is raised."""

    count = 1

    def __init__(self, replies: list[SegmentAnswer | Exception], open_at: asyncio.Event | None = None) -> None:
        self.replies = replies
        self.asked: list[SegmentRequest] = []
        self.cancelled = 0
        self.alive = 1
        self._open_at = open_at

    async def segment(self, request: SegmentRequest) -> SegmentAnswer:
        self.asked.append(request)
        try:
            if self._open_at is not None:
                await self._open_at.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        reply = self.replies[min(len(self.asked), len(self.replies)) - 1]
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def running(self) -> int:
        return self.alive


FINE = SegmentAnswer(200, "image/png", b"x", ("red",), steps=(("predict", 0.1),))


def test_overload_is_503_with_a_time_to_wait() -> None:
    async def work() -> None:
        gate = asyncio.Event()
        replicas = Replies([FINE], gate)
        async with serving(replicas) as session:
            waiting = [asyncio.ensure_future(_post(session, "?classes=red", data=PICTURE)) for _ in range(4)]
            while len(replicas.asked) < 4:  # two are worked on, two wait
                await asyncio.sleep(0.01)
            status, headers, body = await _post(session, "?classes=red", data=PICTURE)
            assert (status, headers["Retry-After"]) == (503, "1")
            assert "busy" in json.loads(body)["error"]
            async with session.get("/healthz") as response:  # busy is not ill
                assert response.status == 200
            waiting[0].cancel()  # a client that goes leaves its place to another one
            while not replicas.cancelled:
                await asyncio.sleep(0.01)
            last = asyncio.ensure_future(_post(session, "?classes=red", data=PICTURE))
            while len(replicas.asked) < 5:
                await asyncio.sleep(0.01)
            gate.set()
            assert {(await one)[0] for one in (*waiting[1:], last)} == {200}
            async with session.get("/metrics") as response:
                text = await response.text()
            assert 'ovs_serve_requests_total{status="200"} 4.0' in text
            assert 'ovs_serve_requests_total{status="503"} 1.0' in text
            assert "ovs_serve_in_flight 0.0" in text and "ovs_serve_in_flight_limit 4.0" in text

    _within(work())


def test_lost_replicas_and_failures(capfd: pytest.CaptureFixture[str]) -> None:
    async def work() -> None:
        replies: list[SegmentAnswer | Exception] = [ReplicaLost("ActorDiedError"), RuntimeError("a bug"), FINE]
        replicas = Replies(replies)
        async with serving(replicas) as session:
            status, headers, _ = await _post(session, "?classes=red", data=PICTURE)
            assert (status, headers["Retry-After"]) == (503, "1")
            status, _, body = await _post(session, "?classes=red", data=PICTURE)
            assert status == 500 and "a bug" not in body.decode()
            assert (await _post(session, "?classes=red", data=PICTURE))[0] == 200
            replicas.alive = 0
            async with session.get("/healthz") as response:
                assert (response.status, await response.json()) == (503, {"replicas": 0, "of": 1})

    _within(work())
    told = capfd.readouterr().err
    assert told.count("ovs-serve: ") == 2 and "RuntimeError: a bug" in told


def test_who_may_ask() -> None:
    async def work() -> None:
        async with serving(Replies([FINE]), token="a-long-token") as session:
            assert (await _post(session, "?classes=red", data=PICTURE))[0] == 401
            headers = {"Content-Type": "image/png", "Authorization": "Bearer a-long-token"}
            assert (await _post(session, "?classes=red", data=PICTURE, headers=headers))[0] == 200
            for extra, expected in (({"Origin": "http://evil.example"}, 403), ({"Host": "evil.example"}, 421)):
                status, _, _ = await _post(session, "?classes=red", data=PICTURE, headers={**headers, **extra})
                assert status == expected
            for path, expected in (("/metrics", 401), ("/openapi.json", 401), ("/", 401), ("/healthz", 200)):
                async with session.get(path) as response:
                    assert response.status == expected, path
            async with session.get("/?token=a-long-token") as response:
                assert "ovs-serve" in await response.text()
                assert "default-src 'none'" in response.headers["Content-Security-Policy"]
            async with session.get("/openapi.json") as response:  # the page's cookie
                assert (await response.json())["openapi"] == "3.1.0"

    _within(work())


def test_a_proxys_name_is_allowed() -> None:
    address = parse_address("127.0.0.1:80")
    assert Guard(address, names=("Segmenter.example",)).check("GET", {"host": "segmenter.example"}, None, None) is None
    assert Guard(address).check("GET", {"host": "segmenter.example"}, None, None) is not None


def test_every_route_of_the_description_is_there() -> None:
    async def work() -> None:
        async with serving(Replies([FINE])) as session:
            async with session.get("/openapi.json") as response:
                document = await response.json()
            for path, methods in document["paths"].items():
                for method, operation in methods.items():
                    status = (await session.request(method, path)).status
                    assert str(status) in operation["responses"], (method, path, status)

    _within(work())


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("nowhere.ovs",), "nowhere.ovs"),
        (("--address", "a b"), "the address to listen at is 'a b'"),
        (("--token", "short"), "the token has 5 characters"),
        (("--precision", "int3"), "int3"),
        (("--provider", "abacus"), "expected one of"),
        (("--ray", "elsewhere"), "--ray is 'elsewhere'"),
        (("--replicas", "0"), "--replicas"),
    ],
)
def test_options_that_make_no_sense_start_nothing(
    words: tuple[str, ...], told: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from ovs_edge.serving import command
    from ovs_edge.serving.cli import main

    def start(*_: Any) -> Any:
        raise UsageError("it was started")

    monkeypatch.setattr(command, "ray_replicas", start)
    monkeypatch.setattr(sys, "argv", ["ovs-serve", *words])
    with pytest.raises(SystemExit) as stopped:
        main()
    error = capfd.readouterr().err
    assert stopped.value.code == 2
    assert told in error and error.count("\n") == 1
