"""Colours of classes: fixed by name, and never two alike in one vocabulary.

A name's hash picks its colour, so "person" looks the same in every run and every vocabulary. A class gets another
colour only if an earlier name has a similar one. Instances of a class have shades of its colour. Colours are spaced in
OKLab (Ottosson 2020), where equal distances look equally different.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

_HUES = 24
# Lightness and chroma of each ring of hues, all bright enough to show on dark pictures and saturated enough on grey.
_RINGS = ((0.72, 0.19), (0.60, 0.21), (0.84, 0.15), (0.48, 0.17))
_APART = 0.13  # OKLab distance at which two colours are told apart at a glance; some 20 classes fit


def _oklab_to_bgr(lab: npt.NDArray[np.float64]) -> npt.NDArray[np.uint8]:
    to_lms = np.array(
        [[1, 0.3963377774, 0.2158037573], [1, -0.1055613458, -0.0638541728], [1, -0.0894841775, -1.2914855480]]
    )
    to_rgb = np.array(
        [
            [4.0767416621, -3.3077115913, 0.2309699292],
            [-1.2684380046, 2.6097574011, -0.3413193965],
            [-0.0041960863, -0.7034186147, 1.7076147010],
        ]
    )
    linear = np.clip((lab @ to_lms.T) ** 3 @ to_rgb.T, 0, 1)
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    bgr: npt.NDArray[np.uint8] = np.rint(srgb[:, ::-1] * 255).astype(np.uint8)
    return bgr


def _bgr_to_oklab(bgr: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    srgb = bgr[:, ::-1] / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    to_lms = np.array(
        [
            [0.4122214708, 0.5363325363, 0.0514459929],
            [0.2119034982, 0.6806995451, 0.1073969566],
            [0.0883024619, 0.2817188376, 0.6299787005],
        ]
    )
    to_lab = np.array(
        [
            [0.2104542553, 0.7936177850, -0.0040720468],
            [1.9779984951, -2.4285922050, 0.4505937099],
            [0.0259040371, 0.7827717662, -0.8086757660],
        ]
    )
    lab: npt.NDArray[np.float64] = np.cbrt(linear @ to_lms.T) @ to_lab.T
    return lab


@lru_cache(maxsize=1)
def _candidates() -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float64]]:
    """All colours there are, BGR (N, 3), and the OKLab points they became once clipped to what a screen shows."""
    angles = np.arange(_HUES) * 2 * np.pi / _HUES
    rings = [
        np.stack([np.full(_HUES, lightness), chroma * np.cos(angles), chroma * np.sin(angles)], axis=1)
        for lightness, chroma in _RINGS
    ]
    bgr = _oklab_to_bgr(np.concatenate(rings))
    return bgr, _bgr_to_oklab(bgr)


@lru_cache(maxsize=64)
def colours(names: Sequence[str]) -> npt.NDArray[np.uint8]:
    """BGR colours (K, 3) of `names` (a tuple); equal names in other vocabularies get equal colours where possible."""
    bgr, lab = _candidates()
    nearest = np.full(len(bgr), np.inf)  # distance of each candidate to the closest one taken
    chosen = np.zeros(len(names), np.int64)
    for index, name in enumerate(names):
        digest = hashlib.sha256(name.casefold().encode("utf-8", "surrogatepass")).digest()
        # The first ring is the most legible, so a name's first choice is in it.
        choice = int.from_bytes(digest[:8], "big") % _HUES
        # Otherwise the colour that is farthest from all that are taken.
        pick = choice if nearest[choice] >= _APART else int(nearest.argmax())
        chosen[index] = pick
        nearest = np.minimum(nearest, np.linalg.norm(lab - lab[pick], axis=1))
    return bgr[chosen]


# Lightness added and chroma kept of each shade, the likeliest needed first; the hue says which class it is.
_SHADES = ((0, 1), (-0.15, 1), (0.1, 0.55), (-0.08, 0.45), (-0.26, 0.8), (0.02, 0.2), (-0.2, 0.3))
SHADES = len(_SHADES)  # of one colour


@lru_cache(maxsize=256)
def _shades(colour: tuple[int, int, int]) -> npt.NDArray[np.uint8]:
    (lab,) = _bgr_to_oklab(np.array([colour], np.float64))
    rows = [(min(lab[0] + more, 0.95), lab[1] * chroma, lab[2] * chroma) for more, chroma in _SHADES]
    return _oklab_to_bgr(np.array(rows))


def shades(colour: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Shades (SHADES, 3) BGR of a colour (3,) that are told apart; the first is the colour itself."""
    blue, green, red = colour.tolist()
    return _shades((blue, green, red))


def text_colour(background: npt.NDArray[np.uint8]) -> tuple[int, int, int]:
    """Black or white, whichever reads better on a BGR colour (relative luminance as WCAG 2 defines it)."""
    srgb = background[::-1] / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    luminance = float(linear @ np.array([0.2126, 0.7152, 0.0722]))
    return (20, 20, 20) if luminance > 0.2 else (255, 255, 255)
