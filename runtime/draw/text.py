"""Text on pictures, with the fonts of OpenCV.

OpenCV 5 has a scalable font with most scripts. Earlier versions have the Hershey fonts, which hold ASCII only and draw
every byte of anything else as a question mark. Neither has emoji, so those are written out by name.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from ..opencv import cv2

_SCALABLE = hasattr(cv2, "FontFace")
_WEIGHT = 560  # between regular and semibold: readable on a busy picture
_LONGEST = 28  # characters shown of a name
_HERSHEY_CAPITAL = 22.0  # pixels a capital is high at scale 1


@lru_cache(maxsize=1)
def _font() -> Any:
    return cv2.FontFace("sans")


@lru_cache(maxsize=4096)
def drawable(text: str, longest: int = _LONGEST) -> str:
    """`text` as the fonts here can show it: emoji by name, unknown letters as "?", cut to `longest` characters."""
    text = unicodedata.normalize("NFC", text)
    parts = []
    for character in text:
        kind = unicodedata.category(character)
        if kind in ("So", "Sk") and ord(character) > 0xFF:
            parts.append(f" {unicodedata.name(character, '?').lower()} ")
        elif kind not in ("Cf", "Mn", "Me", "Cc", "Cs", "Co", "Cn"):  # joiners, variation selectors, stray marks
            parts.append(character)
    text = "".join(parts)
    if not _SCALABLE:
        # Letters lose their accents; what is left without an ASCII form becomes one question mark per run.
        text = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
        text = re.sub(r"[^\x20-\x7e]+", "?", text)
    text = " ".join(text.split()) or "?"
    return text if len(text) <= longest else text[: longest - 3].rstrip() + "..."


@lru_cache(maxsize=4096)
def text_width(text: str, size: int) -> int:
    """Pixels from the first to the last letter, `size` being the height of a line of capitals and descenders."""
    if _SCALABLE:
        _, _, width, _ = cv2.getTextSize((1, 1), text, (0, 0), _font(), size, _WEIGHT)
        return int(width)
    (width, _), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, _hershey_scale(size), 1)
    return int(width)


def draw_text(
    image: npt.NDArray[np.uint8], text: str, origin: tuple[int, int], size: int, colour: tuple[int, int, int]
) -> None:
    """Write onto `image` (H, W, 3) BGR in place; `origin` x, y is the left end of the base line."""
    if _SCALABLE:
        cv2.putText(image, text, origin, colour, _font(), size, _WEIGHT)
    else:
        thick = max(1, round(size / 16))
        scale = _hershey_scale(size)
        cv2.putText(image, text, origin, cv2.FONT_HERSHEY_SIMPLEX, scale, colour, thick, cv2.LINE_AA)


def _hershey_scale(size: int) -> float:
    return size * 0.72 / _HERSHEY_CAPITAL
