"""Clips to measure on: folders of DAVIS or in a shorter layout of the same, and any video without truth."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..bundle.errors import DatasetError
from ..runtime.capture.registry import open_source
from ..runtime.frame import Frame
from .mask_files import decode_mask
from .text_files import read_json

# Folders of frames and of masks, each with a folder for every clip: the short layout, and DAVIS 2016's and 2017's own.
_LAYOUTS = ("frames", "masks"), ("JPEGImages/480p", "Annotations/480p")


@dataclass(frozen=True)
class Clip:
    """A video, and what is known of it."""

    name: str
    frames: Path  # a folder of pictures in the order of their names, or a video file
    masks: Path | None = None  # a folder with a mask for every frame, by the same names but .png; above 0: foreground
    foreground: str | None = None  # what the masks show

    def read(self, most: int | None) -> Iterator[tuple[Frame, npt.NDArray[np.bool_] | None]]:
        """At most so many frames, with their masks (H, W). Raises `SourceError`, `DatasetError`."""
        source = open_source(str(self.frames), None)
        try:
            for frame in islice(source, most):
                yield frame, None if self.masks is None else _mask(self.masks / f"{frame.name}.png", frame)
        finally:
            source.close()


def davis_clips(folder: Path) -> list[Clip]:
    """Clips of a folder: frames/CLIP/NAME.jpg, masks/CLIP/NAME.png, and foreground.json {"CLIP": "dog", …}.

    DAVIS itself has JPEGImages/480p and Annotations/480p in their place. Raises `DatasetError`.
    """
    images, annotations = next((pair for pair in _LAYOUTS if (folder / pair[0]).is_dir()), _LAYOUTS[0])
    try:
        foreground = read_json(folder / "foreground.json")
        names = sorted(path.name for path in (folder / images).iterdir() if path.is_dir())
    except (OSError, DatasetError) as error:
        raise DatasetError(
            f"{folder} holds no clips ({error}); expected frames/CLIP/ and masks/CLIP/, or DAVIS's JPEGImages/480p/"
            'CLIP/ and Annotations/480p/CLIP/, and foreground.json, such as {"CLIP": "dog"}'
        ) from error
    clips = []
    for name in names:
        what = foreground.get(name) if isinstance(foreground, dict) else None
        masks = folder / annotations / name
        if not isinstance(what, str) or not masks.is_dir():
            missing = f"no folder {masks}" if isinstance(what, str) else f"foreground.json does not name {name}"
            raise DatasetError(f"the clip {name} is incomplete: {missing}; expected its masks and what they show")
        clips.append(Clip(name, folder / images / name, masks, what))
    if not clips:
        raise DatasetError(f"{folder / images} is empty, expected a folder of frames for every clip")
    return clips


def _mask(path: Path, frame: Frame) -> npt.NDArray[np.bool_]:
    mask = decode_mask(path)
    shown = mask > 0 if mask.ndim == 2 else (mask > 0).any(-1)
    height, width = frame.image.shape[:2]
    if shown.shape != (height, width):
        raise DatasetError(
            f"the mask {path} is {shown.shape[1]}x{shown.shape[0]}, expected {width}x{height} pixels like its frame"
        )
    return np.asarray(shown, np.bool_)
