"""Recordings that are shown over and over."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import islice

import numpy as np
import pytest

from ovs_edge.bundle.errors import SourceError
from ovs_edge.runtime.capture import loop as repeated
from ovs_edge.runtime.capture.loop import LoopedSource
from ovs_edge.runtime.frame import Frame
from ovs_edge.runtime.status import PLAYING


class Three:
    """Three frames, then no more."""

    name, fps, total, live, state, dropped = "three", 500.0, 3, False, PLAYING, 0

    def __init__(self, moving: bool, opened: list[Three]) -> None:
        self.moving = moving
        self.closed = False
        opened.append(self)

    def __iter__(self) -> Iterator[Frame]:
        for index in range(3):
            yield Frame(np.zeros((2, 2, 3), np.uint8), index, index / self.fps, f"name {index}")

    def close(self) -> None:
        self.closed = True


def test_a_clip_goes_on_from_its_beginning() -> None:
    opened: list[Three] = []
    source = LoopedSource(lambda: Three(True, opened))
    frames = list(islice(source, 8))
    assert [frame.index for frame in frames] == list(range(8))
    assert [frame.name for frame in frames] == [f"name {index % 3}" for index in range(8)]
    assert frames == sorted(frames, key=lambda frame: frame.time)
    assert frames[-1].time >= 7 / 500
    source.close()
    assert len(opened) == 3
    assert all(one.closed for one in opened)
    assert list(source) == []


def test_a_photo_stays_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repeated, "_AGAIN", 0.002)
    monkeypatch.setattr(repeated, "_PHOTO", 0.01)
    source = LoopedSource(lambda: Three(False, []))
    assert [frame.name for frame in islice(source, 16)] == [f"name {index // 5 % 3}" for index in range(16)]
    source.close()


def test_closing_ends_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Three, "fps", 0.01)  # a frame in a hundred seconds
    source = LoopedSource(lambda: Three(True, []))
    frames = iter(source)
    next(frames)
    threading.Timer(0.05, source.close).start()
    assert list(frames) == []


def test_what_cannot_be_opened_is_told_at_once() -> None:
    def fail() -> Three:
        raise SourceError("no such clip")

    with pytest.raises(SourceError, match="no such clip"):
        LoopedSource(fail)
