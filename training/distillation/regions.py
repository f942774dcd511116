"""A segment of a photo as its teacher sees it: alone on grey, cropped to its box."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
import numpy.typing as npt

from ...bundle.metrics import IGNORE
from ...data.datasets import TrainingSample

GREY = 128  # what stands where the segment is not
LEAST_PIXELS = 64  # of a smaller segment a classifier sees nothing


def region_crop(image: npt.NDArray[np.uint8], mask: npt.NDArray[np.bool_], size: int) -> npt.NDArray[np.uint8]:
    """BGR (H, W, 3) and mask (H, W), true somewhere -> BGR (size, size, 3): the mask's box, grey outside the mask."""
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    crop = np.where(mask[box][..., None], image[box], np.uint8(GREY))
    shrinking = max(crop.shape[:2]) > size
    resized = cv2.resize(crop, (size, size), interpolation=cv2.INTER_AREA if shrinking else cv2.INTER_LINEAR)
    return np.asarray(resized, np.uint8)


def class_regions(sample: TrainingSample, size: int) -> Iterator[tuple[int, npt.NDArray[np.uint8]]]:
    """Class index and crop of every class in the photo, all its pixels together, as the segmenter is trained."""
    present, counts = np.unique(sample.labels, return_counts=True)
    for index, count in zip(present.tolist(), counts.tolist(), strict=True):
        if index != IGNORE and count >= LEAST_PIXELS:
            yield index, region_crop(sample.image, sample.labels == index, size)
