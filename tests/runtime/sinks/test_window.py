"""The window's keyboard, and the window itself with the GUI's calls stood in for."""

from __future__ import annotations

import itertools
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import tiny_bundle as tiny_bundle_of
from support.endless import PLAIN, halves

from ovs_edge.runtime.capture.photo_source import PhotoSource, find_photos
from ovs_edge.runtime.draw.overlay import draw, write_lines
from ovs_edge.runtime.frame import Frame
from ovs_edge.runtime.interaction import Interaction
from ovs_edge.runtime.pipeline import run
from ovs_edge.runtime.segmenter import Segmenter
from ovs_edge.runtime.sinks.desktop import window
from ovs_edge.runtime.sinks.desktop.keyboard import Action, Keyboard
from ovs_edge.runtime.status import Status


def keys(text: str) -> list[int]:
    return [ord(letter) for letter in text]


def pressed(keyboard: Keyboard, codes: list[int]) -> list[Action]:
    return [action for code in codes if (action := keyboard.press(code)) is not None]


def test_a_line_is_typed_corrected_and_applied() -> None:
    keyboard = Keyboard()
    assert pressed(keyboard, keys("c")) == []
    assert keyboard.typed == ""
    assert pressed(keyboard, [*keys("catq1s+,dogg"), 8]) == []
    assert keyboard.typed == "catq1s+,dog"
    assert pressed(keyboard, [13]) == [Action("classes", text="catq1s+,dog")]
    assert keyboard.typed is None
    assert pressed(keyboard, keys("c \r")) == []  # an empty line asks for nothing
    assert pressed(keyboard, [*keys("cab"), 27]) == []
    assert keyboard.typed is None
    assert pressed(keyboard, [27]) == [Action("quit")]


def test_commands() -> None:
    keyboard = Keyboard()
    assert pressed(keyboard, keys("19s+-q")) == [
        Action("preset", number=1),
        Action("preset", number=9),
        Action("snapshot"),
        Action("threshold", step=0.05),
        Action("threshold", step=-0.05),
        Action("quit"),
    ]
    assert pressed(keyboard, keys("h")) == []
    assert keyboard.help
    assert pressed(keyboard, [27]) == []
    assert not keyboard.help
    assert pressed(keyboard, keys(" x")) == [Action("next"), Action("next")]
    assert keyboard.press(-1) is None


@pytest.mark.parametrize("modifiers", [0, 0x10 << 16])
def test_key_symbols_of_gtk(modifiers: int) -> None:
    keyboard = Keyboard()
    # Cut to a byte, these would be Q, R, S, T and other letters.
    arrows = [0xFF51, 0xFF52, 0xFF53, 0xFF54, 0xFF50, 0xFFC1]
    assert {action.kind for action in pressed(keyboard, [code | modifiers for code in arrows])} == {"next"}
    codes = [ord("c"), ord("a"), 0xFF51, 0xE9, ord("b"), 0xFF08, 0xFF8D]
    assert pressed(keyboard, [code | modifiers for code in codes]) == [Action("classes", text="aé")]
    assert pressed(keyboard, [0xFF1B | modifiers]) == [Action("quit")]


def test_keys_that_only_change_others_do_nothing() -> None:
    keyboard = Keyboard()
    shift, caps, control, alt_gr = 0xFFE1, 0xFFE5, 0xFFE4, 0xFE03
    assert pressed(keyboard, [shift, caps, control, alt_gr, *range(0xFFE1, 0xFFEF)]) == []
    assert pressed(keyboard, [shift, ord("+")]) == [Action("threshold", step=0.05)]
    assert pressed(keyboard, [shift | 1 << 16, ord("+") | 1 << 16]) == [Action("threshold", step=0.05)]
    assert pressed(keyboard, [ord("c"), ord("a"), shift, ord("B"), 13]) == [Action("classes", text="aB")]


@given(st.lists(st.integers(-1, 2**24) | st.sampled_from([*keys("chq1s+-"), 13, 27, 8]), max_size=60))
def test_any_keys(codes: list[int]) -> None:
    keyboard = Keyboard()
    for action in pressed(keyboard, codes):
        assert action.kind != "classes" or (action.text.isprintable() and action.text.strip() == action.text != "")
        assert action.kind != "preset" or 1 <= action.number <= 9


class Screen:
    """Stands in for OpenCV's GUI: gives keys one by one, and keeps what is shown."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.keys: list[int] = []
        self.later: Callable[[], int] = lambda: -1  # asked once there are no more `keys`
        self.shown: list[np.ndarray] = []
        self.click = lambda event, x, y, flags, data: None
        self.visible = 1.0
        monkeypatch.setattr(window, "missing", lambda: None)
        for name, stand_in in {
            "namedWindow": lambda *_: None,
            "resizeWindow": lambda *_: None,
            "destroyAllWindows": lambda: None,
            "setMouseCallback": lambda title, callback: setattr(self, "click", callback),
            "imshow": lambda title, picture: self.shown.append(picture),
            "waitKeyEx": lambda delay: self.keys.pop(0) if self.keys else self.later(),
            "getWindowProperty": lambda *_: self.visible,
        }.items():
            monkeypatch.setattr(cv2, name, stand_in)


@pytest.fixture
def desk(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[tuple[Screen, Segmenter, Interaction]]:
    monkeypatch.chdir(tmp_path)
    with Segmenter.load(tiny_bundle) as segmenter:
        segmenter.set_classes("red")
        interaction = Interaction.of(segmenter, PLAIN, ("green",))
        yield Screen(monkeypatch), segmenter, interaction
        interaction.close()


def show(sink: window.WindowSink, segmenter: Segmenter, name: str = "frame", side: int = 200) -> bool:
    image = halves(side, side)
    prediction = segmenter.predict(image)
    return sink.write(Frame(image, 0, 0, name), prediction, draw(image, prediction, PLAIN), Status())


def until(condition: Callable[[], bool]) -> None:
    """Return once `condition` holds; a test that waits for ever has failed."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_an_example_by_a_click_and_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tiny_bundle_of.build(tmp_path / "shown.ovs", regions=True)
    said: list[tuple[str, ...]] = []
    monkeypatch.setattr(window, "write_lines", lambda picture, lines: said.append(lines) or picture)
    with Segmenter.load(folder) as segmenter:
        segmenter.set_classes("red")
        interaction = Interaction.of(segmenter, PLAIN)
        screen = Screen(monkeypatch)
        sink = window.WindowSink(interaction, wait=False)
        assert show(sink, segmenter)
        screen.keys = keys("eleaf\r")
        for _ in range(8):
            assert show(sink, segmenter)
        assert ("click the thing first, then press e",) in said
        screen.click(cv2.EVENT_LBUTTONDOWN, 150, 100, 0, None)  # the green half, which is no class yet
        screen.keys = keys("eleaf\r")
        until(lambda: show(sink, segmenter) and segmenter.active.labels == ("red", "leaf"))
        assert ("example: leaf_",) in said
        prediction = segmenter.predict(halves(200, 200))
        assert prediction.labels[100, 150] == 1
        assert prediction.labels[100, 50] == 0
        screen.click(cv2.EVENT_LBUTTONDOWN, 900, 100, 0, None)
        screen.keys = keys("ex\r")
        until(lambda: show(sink, segmenter) and any("outside the picture" in " ".join(lines) for lines in said))
        sink.close()
        interaction.close()


def test_a_stream_in_the_window(desk: tuple[Screen, Segmenter, Interaction], tmp_path: Path) -> None:
    screen, segmenter, interaction = desk
    sink = window.WindowSink(interaction, wait=False)
    assert show(sink, segmenter)
    plain = screen.shown[-1]
    screen.keys = keys("cgr")
    for _ in range(4):
        assert show(sink, segmenter)
    written = screen.shown[-1]
    assert (written[:100] == plain[:100]).all()
    assert (written[150:] != plain[150:]).any()
    screen.keys = [*keys("een"), 13]
    while segmenter.active.labels != ("green",):
        assert show(sink, segmenter)
    screen.keys = keys("c,\r")  # no class: said, and nothing changes
    before = len(screen.shown)
    while not (len(screen.shown) > before + 5 and (screen.shown[-1][180:] != plain[180:]).any()):
        assert show(sink, segmenter)
    assert segmenter.active.labels == ("green",)
    screen.keys = keys("+1s7h")
    for _ in range(6):
        assert show(sink, segmenter, "clip_7")
    assert segmenter.threshold == pytest.approx(0.35)
    assert (tmp_path / "clip_7_snapshot.png").is_file()
    screen.click(cv2.EVENT_LBUTTONDOWN, 150, 100, 0, None)
    assert sink.idle(screen.shown[-1], Status(source="lost"))
    screen.keys = keys("q")
    assert not show(sink, segmenter)
    screen.visible = 0
    assert not sink.idle(None, Status())
    sink.finish()
    sink.close()


def test_a_click_tells_what_is_there(desk: tuple[Screen, Segmenter, Interaction]) -> None:
    screen, segmenter, interaction = desk
    sink = window.WindowSink(interaction, wait=False)
    show(sink, segmenter)
    plain = screen.shown[-1]
    screen.click(cv2.EVENT_LBUTTONDOWN, 10, 100, 0, None)
    while (screen.shown[-1] == plain).all():
        assert show(sink, segmenter)
    sink.close()


def test_a_photo_stays_and_follows_the_classes(desk: tuple[Screen, Segmenter, Interaction]) -> None:
    screen, segmenter, interaction = desk
    sink = window.WindowSink(interaction, wait=True)
    screen.keys = keys("1")
    first = draw(halves(200, 200), segmenter.predict(halves(200, 200)), PLAIN)

    def relabelled() -> bool:
        return segmenter.active.labels == ("green",) and (screen.shown[-1][:100, 150:] != first[:100, 150:]).any()

    # Another key asks for the next photo once this one is seen with the new classes, and not before.
    screen.later = lambda: ord(" ") if relabelled() else -1
    assert show(sink, segmenter)
    assert sink.holds
    while sink.holds:
        assert sink.idle(None, Status())
    assert relabelled()
    screen.later = lambda: -1
    # The next photo was labelled while this one was looked at: with the old classes, and the old threshold.
    stale = segmenter.predict(halves(200, 200))
    segmenter.set_classes("blue,red")
    interaction.controls.change(threshold=0.5)
    assert sink.write(Frame(halves(200, 200), 1, 0, "next"), stale, first, Status())
    assert sink._shown is not None
    assert sink._shown[1].classes == ("blue", "red")
    screen.keys = keys("q")
    assert not show(sink, segmenter)
    assert not sink.holds
    sink.close()


@pytest.mark.parametrize("end", ["signal", "quit"])
def test_a_photo_that_is_shown_does_not_keep_the_run(
    desk: tuple[Screen, Segmenter, Interaction], tmp_path: Path, end: str
) -> None:
    screen, segmenter, interaction = desk
    sink = window.WindowSink(interaction, wait=True)
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(tmp_path / name), halves(200, 200))
    looks = itertools.count()

    def later() -> int:
        if next(looks) == 20:
            os.kill(os.getpid(), signal.SIGTERM) if end == "signal" else screen.keys.append(ord("q"))
        return -1

    screen.later = later
    assert run(PhotoSource(find_photos(str(tmp_path))), segmenter, [sink], PLAIN).stopped == (end == "signal")


def test_why_a_watched_list_is_refused_is_seen(desk: tuple[Screen, Segmenter, Interaction], tmp_path: Path) -> None:
    screen, segmenter, interaction = desk
    sink = window.WindowSink(interaction, wait=False)
    assert show(sink, segmenter)
    plain = screen.shown[-1]
    interaction.vocabulary.request(f"@{tmp_path / 'nothing.txt'}").exception(20)
    assert show(sink, segmenter)
    assert (screen.shown[-1][150:] != plain[150:]).any()


@pytest.mark.parametrize("size", [(1, 1), (40, 3000), (480, 640)])
def test_lines_on_any_picture(size: tuple[int, int]) -> None:
    image = np.full((*size, 3), 128, np.uint8)
    written = write_lines(image, ("classes: " + "long " * 60, "🙂", ""))
    assert written.shape == image.shape
    assert (image == 128).all()
    assert (written != image).any()
