"""Clients of `ovs-serve`: many that ask for classes of their own, and a hostile one."""

from __future__ import annotations

import asyncio
import io
import json
import random
import struct
import time
import zlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from ...bundle.errors import require

if TYPE_CHECKING:
    import aiohttp
else:
    aiohttp = require("aiohttp", "web")

_EVERY = 5.0  # seconds between two samples
_HOSTILE = 0.5  # seconds between two hostile requests
_PATIENCE = 120.0  # seconds for an answer; longer is a failure
_LONGEST_WAIT = 5.0  # seconds that a client waits at most where it is told to come back later


class Key(NamedTuple):
    """One kind of request."""

    picture: int
    classes: int  # which list
    answer: str  # "png" or "coco"


@dataclass
class Load:
    """What came back."""

    answers: int = 0
    busy: int = 0
    failures: int = 0
    leaks: int = 0
    unlike_the_first: int = 0
    hostile: int = 0
    refused: int = 0
    seconds: list[float] = field(default_factory=list)  # of each answer
    first: dict[Key, bytes] = field(default_factory=dict)  # the first answer to each kind of request
    hostile_statuses: dict[str, set[int]] = field(default_factory=dict)


class _Hostile(NamedTuple):
    name: str
    query: str
    kind: str  # media type
    body: bytes
    expected: int


def send_load(
    url: str,
    pictures: list[bytes],
    lists: list[tuple[str, ...]],
    clients: int,
    seconds: float,
    sample: Callable[[float, Load], None],
) -> Load:
    """Let clients send for so long; `sample` is called every few seconds."""
    return asyncio.run(_send(url, pictures, lists, clients, seconds, sample))


async def _send(
    url: str,
    pictures: list[bytes],
    lists: list[tuple[str, ...]],
    clients: int,
    seconds: float,
    sample: Callable[[float, Load], None],
) -> Load:
    load = Load()
    start = time.monotonic()
    limits = aiohttp.ClientTimeout(total=_PATIENCE)
    own = len(lists) // clients
    async with aiohttp.ClientSession(url, timeout=limits, connector=aiohttp.TCPConnector(limit=0)) as session:

        async def watch() -> None:
            while time.monotonic() - start < seconds:
                await asyncio.sleep(min(_EVERY, seconds / 20))
                sample(time.monotonic() - start, load)

        await asyncio.gather(
            watch(),
            _attack(session, load, start + seconds),
            *(
                _client(session, load, pictures, lists, range(own * client, own * (client + 1)), start + seconds)
                for client in range(clients)
            ),
        )
    return load


async def _client(
    session: aiohttp.ClientSession,
    load: Load,
    pictures: list[bytes],
    lists: list[tuple[str, ...]],
    own: range,
    end: float,
) -> None:
    draw = random.Random(own.start)
    answer = draw.choice(["png", "coco"])
    while time.monotonic() < end:
        key = Key(draw.randrange(len(pictures)), draw.choice(own), answer)
        form = aiohttp.FormData({"format": answer, "classes": json.dumps(lists[key.classes])})
        form.add_field("image", pictures[key.picture], filename="picture")
        start = time.monotonic()
        try:
            async with session.post("/segment", data=form) as response:
                body = await response.read()
        except (aiohttp.ClientError, asyncio.TimeoutError):
            load.failures += 1
            continue
        if response.status == 503 and "Retry-After" in response.headers:
            load.busy += 1
            wait = min(float(response.headers["Retry-After"]), _LONGEST_WAIT)
            await asyncio.sleep(max(0.0, min(wait * draw.uniform(0.5, 1.5), end - time.monotonic())))
        elif response.status != 200:
            load.failures += 1
        else:
            load.answers += 1
            load.seconds.append(time.monotonic() - start)
            load.leaks += json.loads(response.headers["OVS-Classes"]) != [
                entry.partition("|")[0] for entry in lists[key.classes]
            ]
            load.unlike_the_first += load.first.setdefault(key, body) != body


async def _attack(session: aiohttp.ClientSession, load: Load, end: float) -> None:
    kinds = _hostile_requests()
    number = 0
    while time.monotonic() < end:
        kind = kinds[number % len(kinds)]
        try:
            data: Any = _chunks(kind.body) if kind.name == "endless body" else io.BytesIO(kind.body)
            async with session.post(
                f"/segment{kind.query}", data=data, headers={"Content-Type": kind.kind}
            ) as response:
                await response.read()
        except (aiohttp.ClientError, asyncio.TimeoutError):
            status = 0  # the connection was closed on the body, which is a refusal of what is too large
        else:
            status = response.status
        if status != 503:
            number += 1
            load.hostile += 1
            load.refused += status == kind.expected or (status == 0 and kind.expected == 413)
            load.hostile_statuses.setdefault(kind.name, set()).add(status)
        await asyncio.sleep(max(0.0, min(_HOSTILE, end - time.monotonic())))


async def _chunks(body: bytes) -> AsyncIterator[bytes]:
    for at in range(0, len(body), 2**16):
        yield body[at : at + 2**16]


def _hostile_requests() -> list[_Hostile]:
    jpeg, png, classes = "image/jpeg", "image/png", "?classes=person"
    huge = b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0))
    huge += _chunk(b"IDAT", zlib.compress(bytes(10_000))) + _chunk(b"IEND", b"")
    boundary = "multipart/form-data; boundary=x"
    many = ",".join(f"name {number}" for number in range(900))
    return [
        _Hostile("no picture", classes, jpeg, b"", 400),
        _Hostile("no classes", "", jpeg, b"\xff\xd8\xff" + bytes(99), 400),
        _Hostile("text", classes, jpeg, b"not a picture at all", 415),
        _Hostile("cut short", classes, jpeg, b"\xff\xd8\xff\xe0" + bytes(2000), 400),
        _Hostile("3.6 gigapixels", classes, png, huge, 413),
        _Hostile("too large", classes, png, bytes(20 * 2**20), 413),
        _Hostile("endless body", classes, png, bytes(20 * 2**20), 413),
        _Hostile("no media type of a picture", classes, "application/x-www-form-urlencoded", b"a=b", 415),
        _Hostile("unknown format", f"{classes}&format=bmp", png, huge, 400),
        _Hostile("damaged form", "", boundary, b"--x\r\nContent-Dispo", 400),
        _Hostile(
            "unknown field", "", boundary, b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\nb\r\n--x--\r\n', 400
        ),
        _Hostile("too many classes", f"?classes={many[:7000]}", png, _tiny_png(), 400),
        _Hostile("another site's page", classes, "text/plain", b"x", 415),
    ]


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _tiny_png() -> bytes:
    """One grey pixel."""
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + _chunk(b"IDAT", zlib.compress(b"\0\x80")) + _chunk(b"IEND", b"")
