"""Random crops of photos: scale, place, mirror, colour. Everything follows from the generator that is passed in."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from ...bundle.letterbox import PAD_BGR, Letterbox
from ...bundle.metrics import IGNORE
from ...data.datasets import TrainingSample

_SMALL = 40.0  # pixels, side of a square of the same area, below which a class looked for is enlarged
_MOST_ENLARGED = 2.5  # times, on top of the random scale


@dataclass(frozen=True)
class AugmentOptions:
    """How far a crop may differ from what the deployed network sees."""

    crop: int  # pixels, both sides
    view: int = 384  # side of the input at deployment: scale 1 is a photo letterboxed to it
    scale: tuple[float, float] = (0.6, 1.8)  # log-uniform
    colour: float = 0.3  # largest relative change of brightness, contrast and saturation
    hue: int = 6  # largest change, in OpenCV's half degrees
    grey: float = 0.0  # share of crops without colour
    balance: float = 0.0  # share of crops that look for a class, rare ones more often than by chance
    paste: float = 0.0  # share of crops that get things from other photos
    mosaic: float = 0.0  # share of crops put together from four photos


def random_crop(
    sample: TrainingSample, options: AugmentOptions, rng: np.random.Generator, focus: int | None = None
) -> TrainingSample:
    """A square crop with its labels and background; what lies outside the photo is padded and not labelled.

    `focus`: a class of the photo that the crop shows; None: any place.
    """
    return recolour(random_window(sample, options, rng, (options.crop, options.crop), focus=focus), options, rng)


def random_window(
    sample: TrainingSample,
    options: AugmentOptions,
    rng: np.random.Generator,
    size: tuple[int, int],
    *,
    focus: int | None = None,
    zoom: float = 1.0,
) -> TrainingSample:
    """A window of `size` (height, width) in the photo's own colours, at a random scale times `zoom`, perhaps
    mirrored."""
    stored = sample.labels.shape
    factor = zoom * view_scale(sample, options) * float(np.exp(rng.uniform(*np.log(options.scale))))
    place = _place(sample.labels, focus, rng)
    if place is not None:
        side = factor * float(np.sqrt(np.count_nonzero(sample.labels == focus)))
        factor *= rng.uniform(1.0, np.clip(_SMALL / max(side, 1.0), 1.0, _MOST_ENLARGED))
    height = max(1, round(stored[0] * factor))
    width = max(1, round(stored[1] * factor * rng.uniform(0.9, 1.1)))
    corner = [0, 0]
    for axis, (scaled, side) in enumerate(zip((height, width), size, strict=True)):
        latest = max(0, scaled - side)
        if place is None:
            corner[axis] = int(rng.integers(0, latest + 1))
        else:
            wanted = place[axis] * scaled - rng.uniform(0.2, 0.8) * side
            corner[axis] = int(np.clip(round(wanted), 0, latest))
    return _cut(sample, (height, width), (corner[0], corner[1]), size, mirrored=bool(rng.random() < 0.5))


def view_scale(sample: TrainingSample, options: AugmentOptions) -> float:
    """What a photo's sides are multiplied by to fit the deployed view."""
    height, width = sample.labels.shape
    return float(Letterbox.fit((height, width), (options.view, options.view)).scaled[0] / height)


def _place(labels: npt.NDArray[np.uint8], focus: int | None, rng: np.random.Generator) -> tuple[float, float] | None:
    """A pixel of the class, as shares of height and width; None where the photo has none."""
    pixels = np.empty(0, np.intp) if focus is None else np.flatnonzero(labels == focus)
    if not len(pixels):
        return None
    row, column = divmod(int(rng.choice(pixels)), labels.shape[1])
    return row / labels.shape[0], column / labels.shape[1]


def _cut(
    sample: TrainingSample, scaled: tuple[int, int], corner: tuple[int, int], size: tuple[int, int], *, mirrored: bool
) -> TrainingSample:
    """Scale to `scaled` (height, width) and take the window of `size` at `corner` (top, left)."""
    smooth = cv2.INTER_AREA if scaled[0] < sample.labels.shape[0] else cv2.INTER_LINEAR

    def window(picture: npt.NDArray[np.uint8], method: int, outside: tuple[int, ...]) -> npt.NDArray[np.uint8]:
        resized = np.asarray(cv2.resize(picture, scaled[::-1], interpolation=method), np.uint8)
        part = resized[corner[0] : corner[0] + size[0], corner[1] : corner[1] + size[1]]
        bottom, right = size[0] - part.shape[0], size[1] - part.shape[1]
        if bottom or right:
            padded = cv2.copyMakeBorder(part, 0, bottom, 0, right, cv2.BORDER_CONSTANT, value=outside)
            part = np.asarray(padded, np.uint8)
        return np.ascontiguousarray(part[:, ::-1] if mirrored else part)

    background = None
    if sample.background is not None:
        background = window(sample.background.view(np.uint8), cv2.INTER_NEAREST_EXACT, (0,)) > 0
    labels = window(sample.labels, cv2.INTER_NEAREST_EXACT, (IGNORE,))
    return TrainingSample(window(sample.image, smooth, PAD_BGR), labels, sample.name, background)


def mosaic(parts: list[TrainingSample], corner: tuple[int, int]) -> TrainingSample:
    """Four windows around the point `corner` (top, left): upper left, upper right, lower left, lower right."""

    def joined(pictures: list[npt.NDArray[np.uint8]]) -> npt.NDArray[np.uint8]:
        rows = [np.concatenate(pictures[:2], 1), np.concatenate(pictures[2:], 1)]
        return np.concatenate(rows, 0)

    assert parts[0].labels.shape == corner
    background = None
    if any(part.background is not None for part in parts):
        maps = [np.zeros(p.labels.shape, np.bool_) if p.background is None else p.background for p in parts]
        background = joined([part.view(np.uint8) for part in maps]).view(np.bool_)
    return TrainingSample(
        joined([part.image for part in parts]), joined([part.labels for part in parts]), parts[0].name, background
    )


def recolour(sample: TrainingSample, options: AugmentOptions, rng: np.random.Generator) -> TrainingSample:
    """The sample in other colours, see `jitter`, or without any."""
    image = jitter(sample.image, options, rng)
    if options.grey and rng.random() < options.grey:
        image = np.repeat(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)[..., None], 3, 2).astype(np.uint8)
    return TrainingSample(image, sample.labels, sample.name, sample.background)


def jitter(image: npt.NDArray[np.uint8], options: AugmentOptions, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Change brightness, contrast, saturation and hue of a BGR image."""
    brightness, contrast, saturation = 1 + rng.uniform(-options.colour, options.colour, 3)
    hsv = cv2.cvtColor(image, cv2.COLOR_BGR2HSV)
    hsv[..., 0] = (hsv[..., 0].astype(np.int16) + int(rng.integers(-options.hue, options.hue + 1))) % 180
    hsv[..., 1] = cv2.convertScaleAbs(hsv[..., 1], alpha=float(saturation))
    bgr = cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)
    shift = float(bgr.mean()) * (1 - contrast) * brightness
    # alpha and beta are positive or small: convertScaleAbs would fold negatives, so clip by hand.
    table = np.clip(np.arange(256) * (contrast * brightness) + shift, 0, 255).astype(np.uint8)
    return np.asarray(cv2.LUT(bgr, table), np.uint8)
