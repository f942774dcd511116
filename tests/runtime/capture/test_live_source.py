"""Live sources and what can befall them: they end, stall, raise, send garbage, come back."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from ovs_edge.bundle.errors import OvsError, SourceError
from ovs_edge.runtime.capture.live import live_source as live
from ovs_edge.runtime.capture.live.live_source import LiveSource
from ovs_edge.runtime.opencv import cv2
from ovs_edge.runtime.status import PLAYING


class Camera:
    """Captures by the script: each opening plays the next entry, a function that yields pictures until it returns."""

    def __init__(self, *plays: Callable[[Camera], Iterator[Any]]) -> None:
        self.plays = list(plays)
        self.opened = 0
        self.released = 0
        self.go = threading.Event()  # for a play to wait for
        self.end = threading.Event()  # of the test: lets hanging reads return

    def open(self) -> Any:
        play = self.plays[min(self.opened, len(self.plays) - 1)]
        self.opened += 1
        frames = play(self)
        camera = self

        class Capture:
            def read(self) -> tuple[bool, Any]:
                image = next(frames, None)
                return image is not None, image

            def get(self, prop: int) -> float:
                return 12.0 if prop == cv2.CAP_PROP_FPS else 0.0

            def release(self) -> None:
                camera.released += 1

        first = next(frames)
        if isinstance(first, Exception):
            raise first
        return Capture()


def picture(level: int = 7, size: tuple[int, int] = (4, 6)) -> np.ndarray:
    return np.full((*size, 3), level, np.uint8)


def plays(*images: Any) -> Callable[[Camera], Iterator[Any]]:
    """Opens, and gives `images` as fast as they are read."""
    return lambda camera: iter([None, *images])


def endless(camera: Camera) -> Iterator[Any]:
    yield None
    while not camera.end.wait(0.001):
        yield picture(9, (8, 10))


def hangs(camera: Camera) -> Iterator[Any]:
    """One picture, then a read that does not return."""
    yield None
    yield picture()
    camera.end.wait(30)


def refuses(camera: Camera) -> Iterator[Any]:
    yield SourceError("camera does not open. Check the cable")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "_FIRST_PAUSE", 0.02)
    monkeypatch.setattr(live, "_LONGEST_PAUSE", 0.05)
    monkeypatch.setattr(live, "OPEN_PATIENCE", 0.2)
    monkeypatch.setattr(live, "_LEAVE", 0.2)


@pytest.fixture
def watched(request: pytest.FixtureRequest) -> Iterator[Callable[..., LiveSource]]:
    """Opens sources of a `Camera`, and ends them with the test."""
    ends: list[Callable[[], None]] = []

    def opened(camera: Camera, **options: Any) -> LiveSource:
        ends.append(camera.end.set)
        source = LiveSource("camera", camera.open, advice=lambda: "Check the cable", patience=0.2, **options)
        ends.append(source.close)
        return source

    yield opened
    for end in ends:
        end()


def test_the_newest_frame_with_its_number_and_time(watched: Callable[..., LiveSource]) -> None:
    def play(camera: Camera) -> Iterator[Any]:
        yield None
        yield picture(0)
        camera.go.wait(10)
        for level in range(1, 50):
            yield picture(level)
        camera.end.wait(30)

    camera = Camera(play)
    source = watched(camera)
    frames = iter(source)
    first = next(frames)
    camera.go.set()
    deadline = time.monotonic() + 10
    while source.dropped < 48 and time.monotonic() < deadline:
        time.sleep(0.001)
    last = next(frames)
    assert (first.index, int(first.image[0, 0, 0])) == (0, 0)
    assert (last.index, int(last.image[0, 0, 0]), source.dropped) == (49, 49, 48)
    assert last.captured > first.captured
    assert last.time == pytest.approx(last.captured - first.captured)
    assert (source.fps, source.state, last.name) == (12.0, PLAYING, "live_000049")


@pytest.mark.parametrize(("flip", "corner"), [(None, (0, 0)), (0, (3, 0)), (1, (0, 5)), (-1, (3, 5))])
def test_flips(watched: Callable[..., LiveSource], flip: int | None, corner: tuple[int, int]) -> None:
    image = picture(0)
    image[0, 0] = 255
    frame = next(iter(watched(Camera(plays(image)), flip=flip)))
    assert tuple(np.argwhere(frame.image[..., 0] == 255)[0]) == corner


def test_what_does_not_open_says_why_at_once(watched: Callable[..., LiveSource]) -> None:
    with pytest.raises(SourceError, match=r"does not open. Check the cable"):
        watched(Camera(refuses))
    with pytest.raises(SourceError, match=r"does not open .boom"):
        watched(Camera(lambda camera: iter([RuntimeError("boom")])))
    with pytest.raises(SourceError, match="stopped sending frames"):
        watched(Camera(plays()))


def test_what_neither_opens_nor_fails_is_given_up(watched: Callable[..., LiveSource]) -> None:
    def hangs_at_once(camera: Camera) -> Iterator[Any]:
        camera.end.wait(30)
        yield SourceError("late")

    with pytest.raises(SourceError, match="neither opened nor failed"):
        watched(Camera(hangs_at_once))


def test_without_reconnecting_a_loss_is_an_error_after_the_last_frame(watched: Callable[..., LiveSource]) -> None:
    source = watched(Camera(plays(picture(1), picture(2))), reconnect=False)
    frames = []
    with pytest.raises(SourceError, match=r"stopped sending frames. Check the cable"):
        frames.extend(source)
    assert int(frames[-1].image[0, 0, 0]) == 2


@pytest.mark.parametrize(
    ("failure", "says"),
    [
        (plays(picture()), "stopped sending frames"),
        (plays(picture(), np.zeros((4, 4), np.uint8)), "stopped sending frames"),  # garbage: no picture
        (lambda camera: iter(_raising()), "failed (broken driver)"),
        (hangs, "sent no frame for 0.2 s"),
    ],
)
def test_a_lost_source_says_so_and_comes_back(
    watched: Callable[..., LiveSource], failure: Callable[[Camera], Iterator[Any]], says: str
) -> None:
    """Lost, refused twice when opened again, then back, with another size; the numbers go on."""
    camera = Camera(failure, refuses, refuses, endless)
    source = watched(camera)
    states, frames = [source.state], iter(source)
    stop = threading.Event()

    def observe() -> None:
        while not stop.wait(0.001):
            if source.state != states[-1]:
                states.append(source.state)

    observer = threading.Thread(target=observe)
    observer.start()
    try:
        assert next(frames).index == 0
        back = next(frame for frame in frames if frame.image.shape == (8, 10, 3))
        assert back.index >= 1
    finally:
        stop.set()
        observer.join()
    assert any(says in state and "reconnecting in 1 s" in state for state in states), states
    assert source.state == PLAYING
    source.close()
    assert list(frames) == []


def _raising() -> Iterator[Any]:
    yield None
    yield picture()
    raise RuntimeError("broken driver")


def test_closing_does_not_wait_for_a_read_that_hangs(watched: Callable[..., LiveSource]) -> None:
    source = watched(Camera(hangs))
    frames = iter(source)
    next(frames)
    start = time.monotonic()
    closer = threading.Timer(0.05, source.close)
    closer.start()
    assert list(frames) == []
    closer.join()
    assert time.monotonic() - start < 2


def test_readers_that_hang_do_not_pile_up(watched: Callable[..., LiveSource], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "_MOST_STUCK", 2)
    camera = Camera(hangs)
    source = watched(camera)
    deadline = time.monotonic() + 10
    while len(source._stuck) < 2 and time.monotonic() < deadline:
        time.sleep(0.005)
    time.sleep(0.3)  # another patience and pause: nothing more may be opened
    assert camera.opened == 2
    # "reconnecting in 1 s" would be a promise that nobody keeps.
    assert "hangs in its driver" in source.state
    assert "restart" in source.state
    assert "reconnecting" not in source.state
    camera.plays = [endless]
    camera.end.set()  # the driver lets go after all
    camera.end = threading.Event()
    while source.state != PLAYING and time.monotonic() < deadline:
        time.sleep(0.005)
    assert source.state == PLAYING


def test_threads_and_devices_are_returned(watched: Callable[..., LiveSource]) -> None:
    before = set(threading.enumerate())
    cameras = [Camera(endless) for _ in range(5)]
    for camera in cameras:
        source = watched(camera)
        next(iter(source))
        source.close()
        source.close()
        assert list(source) == []
    assert [camera.released for camera in cameras] == [1] * 5
    assert set(threading.enumerate()) <= before  # those of other tests may end meanwhile


def test_an_error_of_another_kind_keeps_its_kind(watched: Callable[..., LiveSource]) -> None:
    class Other(OvsError):
        pass

    with pytest.raises(Other):
        watched(Camera(lambda camera: iter([Other("no such extra")])))
