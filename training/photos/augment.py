"""Random crops of photos: scale, place, mirror, colour. Everything follows from the generator that is passed in."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from ...bundle.letterbox import PAD_BGR, Letterbox
from ...bundle.metrics import IGNORE
from ...data.datasets import TrainingSample


@dataclass(frozen=True)
class AugmentOptions:
    """How far a crop may differ from what the deployed network sees."""

    crop: int  # pixels, both sides
    view: int = 384  # side of the input at deployment: scale 1 is a photo letterboxed to it
    scale: tuple[float, float] = (0.6, 1.8)  # log-uniform
    colour: float = 0.3  # largest relative change of brightness, contrast and saturation
    hue: int = 6  # largest change, in OpenCV's half degrees


def random_crop(sample: TrainingSample, options: AugmentOptions, rng: np.random.Generator) -> TrainingSample:
    """A square crop with its labels and background; what lies outside the photo is padded and not labelled."""
    crop = options.crop
    base = Letterbox.fit(sample.labels.shape[:2], (options.view, options.view)).scaled[0] / sample.labels.shape[0]
    factor = base * float(np.exp(rng.uniform(*np.log(options.scale))))
    height = max(1, round(sample.labels.shape[0] * factor))
    width = max(1, round(sample.labels.shape[1] * factor * rng.uniform(0.9, 1.1)))
    shrinking = factor < 1
    smooth = cv2.INTER_AREA if shrinking else cv2.INTER_LINEAR
    image = np.asarray(cv2.resize(sample.image, (width, height), interpolation=smooth), np.uint8)
    top, left = (int(rng.integers(0, max(1, side - crop + 1))) for side in (height, width))
    mirrored = bool(rng.random() < 0.5)

    def window(picture: npt.NDArray[np.uint8], outside: tuple[int, ...]) -> npt.NDArray[np.uint8]:
        picture = picture[top : top + crop, left : left + crop]
        bottom, right = crop - picture.shape[0], crop - picture.shape[1]
        if bottom or right:
            padded = cv2.copyMakeBorder(picture, 0, bottom, 0, right, cv2.BORDER_CONSTANT, value=outside)
            picture = np.asarray(padded, np.uint8)
        return np.ascontiguousarray(picture[:, ::-1] if mirrored else picture)

    def resized(marks: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        return np.asarray(cv2.resize(marks, (width, height), interpolation=cv2.INTER_NEAREST_EXACT), np.uint8)

    labels = window(resized(sample.labels), (IGNORE,))
    background = None
    if sample.background is not None:
        background = window(resized(sample.background.astype(np.uint8)), (0,)) > 0
    return TrainingSample(jitter(window(image, PAD_BGR), options, rng), labels, sample.name, background)


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
