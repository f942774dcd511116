"""Random crops of photos: scale, place, mirror, colour. Everything follows from the generator that is passed in."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from ..bundle.letterbox import PAD_BGR, Letterbox
from ..bundle.metrics import IGNORE
from ..data.datasets import Sample


@dataclass(frozen=True)
class AugmentOptions:
    """How far a crop may differ from what the deployed network sees."""

    crop: int  # pixels, both sides
    view: int = 384  # side of the input at deployment: scale 1 is a photo letterboxed to it
    scale: tuple[float, float] = (0.6, 1.8)  # log-uniform
    colour: float = 0.3  # largest relative change of brightness, contrast and saturation
    hue: int = 6  # largest change, in OpenCV's half degrees


def random_crop(sample: Sample, options: AugmentOptions, rng: np.random.Generator) -> Sample:
    """A square crop with its labels; what lies outside the photo is padded and not labelled."""
    crop = options.crop
    base = Letterbox.fit(sample.labels.shape[:2], (options.view, options.view)).scaled[0] / sample.labels.shape[0]
    factor = base * float(np.exp(rng.uniform(*np.log(options.scale))))
    height = max(1, round(sample.labels.shape[0] * factor))
    width = max(1, round(sample.labels.shape[1] * factor * rng.uniform(0.9, 1.1)))
    shrinking = factor < 1
    image = cv2.resize(sample.image, (width, height), interpolation=cv2.INTER_AREA if shrinking else cv2.INTER_LINEAR)
    labels = cv2.resize(sample.labels, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
    top, left = (int(rng.integers(0, max(1, side - crop + 1))) for side in (height, width))
    image, labels = image[top : top + crop, left : left + crop], labels[top : top + crop, left : left + crop]
    bottom, right = crop - image.shape[0], crop - image.shape[1]
    if bottom or right:
        image = cv2.copyMakeBorder(image, 0, bottom, 0, right, cv2.BORDER_CONSTANT, value=PAD_BGR)
        labels = cv2.copyMakeBorder(labels, 0, bottom, 0, right, cv2.BORDER_CONSTANT, value=(IGNORE,))
    if rng.random() < 0.5:
        image, labels = image[:, ::-1], labels[:, ::-1]
    return Sample(jitter(np.ascontiguousarray(image), options, rng), np.ascontiguousarray(labels), sample.name)


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
