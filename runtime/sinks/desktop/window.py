"""A window on a desktop. The GUI is not used before a display is known to exist."""

from __future__ import annotations

import time
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ....bundle.errors import OvsError, SinkError
from ...draw.overlay import draw, write_lines
from ...examples.reader import ReadRegion
from ...frame import Frame
from ...inference.frame_processor import ActiveClasses
from ...inference.inspector import RegionInfo
from ...inference.prediction import Prediction
from ...interaction import Interaction
from ...opencv import cv2
from ...status import Status
from ...threads.newest_task import NewestTaskWorker
from ..output_files import free_path
from ..picture import PictureSink
from .display import missing
from .keyboard import HELP, Action, Keyboard

_TITLE = "ovs-run (h: help, q: quit)"
_TICK = 1  # milliseconds of each look for a key; OpenCV draws in that time
_WIDEST = 1280  # pixels of a window as it opens; the user may enlarge it
_LASTS = 4.0  # seconds for which a message stays

Image = npt.NDArray[np.uint8]  # (H, W, 3) BGR


@dataclass(frozen=True)
class _NewExample:
    """A thing in a frame that is to be found in the next ones."""

    label: str
    image: Image
    x: int  # pixel
    y: int


class WindowSink:
    """Shows each frame, takes keys and clicks; keyboard.py lists them."""

    wants_picture = True
    place: str | None = None

    def __init__(self, interaction: Interaction, *, wait: bool) -> None:
        """`wait`: each picture stays until a key is pressed, as photos do. Raises `SinkError` without a display."""
        if reason := missing():
            raise SinkError(f"cannot open a window: {reason}; use --no-show with --save out.mp4")
        self._wait = wait
        self._interaction = interaction
        self.holds = False  # whether a photo stays until the next is asked for
        self._settings = interaction.controls.settings
        self._labelled: tuple[object, ...] = ()  # version and settings of the photo shown
        self._error = interaction.vocabulary.state.error  # the last one that was said
        self._keyboard = Keyboard()
        self._shown: tuple[Frame, Prediction, Image] | None = None  # the picture without what is written over it
        self._answer: Future[RegionInfo] | None = None
        self._change: Future[ActiveClasses] | Future[ReadRegion] | None = None
        self._clicked: tuple[Image, int, int] | None = None  # frame and pixel of the last click
        self._examples: NewestTaskWorker[_NewExample, ReadRegion] = NewestTaskWorker("examples", self._add)
        self._message: tuple[str, ...] = ()
        self._until = 0.0  # time.monotonic() at which the message goes
        self._drawn: tuple[Image, tuple[str, ...]] | None = None  # what the window shows
        try:
            cv2.namedWindow(_TITLE, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL)
            cv2.setMouseCallback(_TITLE, self._click)
        except cv2.error as error:
            raise SinkError(f"cannot open a window ({error}); use --no-show with --save out.mp4") from error
        interaction.vocabulary.start()

    def write(self, frame: Frame, prediction: Prediction, picture: Image | None, status: Status) -> bool:
        """Show the picture; False once the user quits or closes the window."""
        assert picture is not None
        if self._shown is None:
            height, width = picture.shape[:2]
            scale = min(1.0, _WIDEST / width)
            cv2.resizeWindow(_TITLE, max(1, round(width * scale)), max(1, round(height * scale)))
        self._shown = frame, prediction, picture
        # It may have been labelled with other classes and drawn with other settings than the current ones.
        self.holds, self._labelled = self._wait, (prediction.version, self._settings)
        return self._goes_on()

    def idle(self, picture: Image | None, status: Status) -> bool:
        """Show the banner, and keep the window alive."""
        if picture is not None and self._shown is not None:
            self._shown = *self._shown[:2], picture
        return self._goes_on()

    def finish(self) -> None:
        """A window has no output file."""

    def close(self) -> None:
        """Close the window."""
        self._examples.close()
        cv2.destroyAllWindows()

    def _goes_on(self) -> bool:
        """One look for a key; False once the user quits or closes the window."""
        if self.holds:
            self._relabel()
        turned = self._turn(_TICK)
        self.holds = self.holds and turned not in ("next", "quit", "closed")
        return turned not in ("quit", "closed")

    def _relabel(self) -> None:
        """Label the photo anew when classes or settings have changed."""
        now = self._interaction.segmenter.active.version, self._interaction.controls.settings
        if now != self._labelled and self._shown is not None:
            frame, self._labelled = self._shown[0], now
            prediction = self._interaction.segmenter.predict(frame.image)
            self._shown = frame, prediction, draw(frame.image, prediction, self._interaction.controls.style)

    def _turn(self, delay: int) -> str:
        """Draw, and do what a key asks for; its kind, "closed" for a closed window, or ""."""
        if self._shown is not None:
            picture, lines = self._shown[2], self._lines()
            if self._drawn is None or self._drawn[0] is not picture or self._drawn[1] != lines:
                cv2.imshow(_TITLE, write_lines(picture, lines) if lines else picture)
                self._drawn = picture, lines
        action = self._keyboard.press(cv2.waitKeyEx(delay))
        if cv2.getWindowProperty(_TITLE, cv2.WND_PROP_VISIBLE) < 1:
            return "closed"
        if action is None:
            return ""
        try:
            self._do(action)
        except OvsError as error:
            self._say(str(error))
        return action.kind

    def _do(self, action: Action) -> None:
        vocabulary, controls = self._interaction.vocabulary, self._interaction.controls
        if action.kind == "classes":
            self._change = vocabulary.request(action.text)
        elif action.kind == "example" and self._clicked is None:
            self._say("click the thing first, then press e")
        elif action.kind == "example" and self._clicked is not None:
            self._change = self._examples.submit(_NewExample(action.text, *self._clicked))
        elif action.kind == "preset":
            self._change = vocabulary.preset(action.number)
            if self._change is None:
                self._say(f"there is no preset {action.number}; give one with --preset")
        elif action.kind == "threshold":
            threshold = min(1.0, max(0.0, round(controls.settings.threshold + action.step, 2)))
            controls.change(threshold=threshold)
            self._say(f"threshold {threshold:.2f}")
        elif action.kind == "snapshot" and self._shown is not None:
            frame, prediction, picture = self._shown
            path = free_path(Path(f"{frame.name}_snapshot.png"))
            sink = PictureSink(path)
            try:
                sink.write(frame, prediction, picture, Status())
                sink.finish()
            finally:
                sink.close()
            self._say(f"saved {path}")

    def _click(self, event: int, x: int, y: int, flags: int, data: object) -> None:
        if event == cv2.EVENT_LBUTTONDOWN and self._shown is not None:
            frame, prediction, _ = self._shown
            self._clicked = frame.image, x, y
            self._answer = self._interaction.inspector.ask(frame.image, prediction, x, y)

    def _add(self, example: _NewExample) -> ReadRegion:
        segmenter = self._interaction.segmenter
        return segmenter.add_example(example.label, example.image, point=(example.x, example.y))

    def _lines(self) -> tuple[str, ...]:
        """What stands over the picture: the line being typed, the help, or what there is to say."""
        if self._answer is not None and self._answer.done():
            answer, self._answer = self._answer, None
            error = answer.exception()
            self._say(*((str(error),) if error is not None else _described(answer.result())))
        if self._change is not None and self._change.done():
            change, self._change = self._change, None
            if (error := change.exception()) is not None:
                self._say(str(error))
        if (failed := self._interaction.vocabulary.state.error) != self._error:
            self._error = failed
            if failed is not None:  # of a watched file, or from the page
                self._say(failed)
        if self._keyboard.typed is not None:
            return (f"{self._keyboard.line}: {self._keyboard.typed}_",)
        if self._keyboard.help:
            return HELP
        if self._change is not None:
            return ("making the new classes ready",)
        return self._message if time.monotonic() < self._until else ()

    def _say(self, *lines: str) -> None:
        self._message, self._until = lines, time.monotonic() + _LASTS


def _described(info: RegionInfo) -> tuple[str, ...]:
    head = f"{info.label}, {info.share:.1%} of the picture" if info.label else "none of your classes"
    return head, *(f"{guess.score:.0%}  {guess.label or 'something else'}" for guess in info.guesses)
