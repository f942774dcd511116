"""The keyboard of the window, without the window: key codes in, actions out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ....bundle.vocabulary import MAX_NAME

Kind = Literal["quit", "classes", "example", "preset", "snapshot", "threshold", "next"]

HELP = (
    "c  type the classes",
    "1-9  presets",
    "+ -  confidence threshold",
    "s  save this picture",
    "click  the class there, and the next candidates",
    "e  name what was clicked, and look for it",
    "h  this help",
    "q, Esc  quit",
)

_LONGEST = 4 * MAX_NAME  # characters of a typed line
_STEP = 0.05  # of the threshold
# What toolkits send for one key: ASCII from most, X11 key symbols from GTK.
_ENTER = frozenset({10, 13, 0xFF0D, 0xFF8D})
_ESCAPE = frozenset({27, 0xFF1B})
_ERASE = frozenset({8, 127, 0xFF08, 0xFFFF})
# Keys that only change others, which some toolkits report by themselves: Shift to Hyper, and AltGr and the locks.
_MODIFIERS = frozenset({*range(0xFFE1, 0xFFEF), *range(0xFE01, 0xFE10), 0xFF7E, 0xFF7F, 0xFF14})


@dataclass(frozen=True)
class Action:
    """What a key asks for."""

    kind: Kind
    text: str = ""  # of "classes" and "example"
    number: int = 0  # of "preset", from 1
    step: float = 0.0  # of "threshold"


class Keyboard:
    """Turns keys into actions, and remembers a line that is being typed."""

    def __init__(self) -> None:
        self.typed: str | None = None  # the line so far; None when no line is open
        self.line: Kind = "classes"  # what it will be
        self.help = False  # whether the help is shown

    def press(self, code: int) -> Action | None:
        """The action of a key, `code` as `cv2.waitKeyEx` gives it; -1 is no key."""
        if code < 0:
            return None
        code &= 0xFFFF  # above are GTK's modifier bits
        if code in _MODIFIERS:
            return None
        # Key symbols from 0xFE00 on are keys without a letter: cut to a byte, an arrow would be taken for a Q.
        letter = chr(code) if code < 0x100 and chr(code).isprintable() else ""
        return self._command(code, letter) if self.typed is None else self._type(code, letter)

    def _type(self, code: int, letter: str) -> Action | None:
        assert self.typed is not None
        if code in _ENTER:
            text, self.typed = self.typed.strip(), None
            return Action(self.line, text=text) if text else None
        if code in _ESCAPE:
            self.typed = None
        elif code in _ERASE:
            self.typed = self.typed[:-1]
        elif len(self.typed) < _LONGEST:
            self.typed += letter
        return None

    def _command(self, code: int, letter: str) -> Action | None:
        if code in _ESCAPE and self.help:
            self.help = False
            return None
        if code in _ESCAPE or letter == "q":
            return Action("quit")
        if letter and letter in "ce":
            self.typed, self.help, self.line = "", False, "classes" if letter == "c" else "example"
            return None
        if letter == "h":
            self.help = not self.help
            return None
        if letter == "s":
            return Action("snapshot")
        if letter and letter in "+=":
            return Action("threshold", step=_STEP)
        if letter and letter in "-_":
            return Action("threshold", step=-_STEP)
        if letter and letter in "123456789":
            return Action("preset", number=int(letter))
        return Action("next")
