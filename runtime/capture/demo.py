"""`--source demo`: real photos that come with scikit-image, panned as a clip: something to see at once.

The photos and their terms are scikit-image's (skimage/data/README.txt). Only files are read; scikit-image itself is
not imported, which would take longer than the first frames.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ...bundle.errors import MissingExtraError
from ..frame import Frame
from ..opencv import cv2
from ..status import PLAYING
from .options import refuse_live_options, refuse_photo_options
from .photos import read_photo
from .source import Sound, SourceRequest

PHOTOS = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "motorcycle_left.png")
FRAMES_EACH = 20
SIZE = (480, 640)  # height, width
_VIEW = 0.94  # of the largest 4:3 window: what is left over is the way to pan


def photo_folder() -> Path:
    """Folder of the photos; raises `MissingExtraError` when scikit-image, or one of them, is not installed."""
    spec = importlib.util.find_spec("skimage")
    folders = list(spec.submodule_search_locations or ()) if spec is not None else []
    for folder in folders:
        data = Path(folder) / "data"
        if all((data / name).is_file() for name in PHOTOS):
            return data
    found = "scikit-image lacks the demo photos" if folders else "scikit-image is not installed"
    raise MissingExtraError(f"{found}; the demo's photos come with the extra 'demo': pip install 'ovs-edge[demo]'")


def view(photo: npt.NDArray[np.uint8], progress: float) -> npt.NDArray[np.uint8]:
    """A window (480, 640, 3) on a photo (H, W, 3), at `progress` 0..1 of its way from top left to bottom right."""
    height, width = photo.shape[:2]
    zoom = min(height / SIZE[0], width / SIZE[1]) * _VIEW
    left = (width - SIZE[1] * zoom) * progress
    top = (height - SIZE[0] * zoom) * progress
    # Window pixel (x, y) shows photo point (left + zoom * x, top + zoom * y): moves of part of a pixel stay smooth.
    window: npt.NDArray[np.uint8] = cv2.warpAffine(
        photo,
        np.array([[zoom, 0, left], [0, zoom, top]], np.float32),
        (SIZE[1], SIZE[0]),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return window


class DemoSource:
    """The photos one after the other, each panned over `FRAMES_EACH` frames."""

    name = "demo"
    live = False
    moving = True
    state = PLAYING
    dropped = 0
    fps = 20.0
    skipped = 0
    truncated: str | None = None
    sound: Sound | None = None
    files: tuple[Path, ...] = ()
    total: int | None = FRAMES_EACH * len(PHOTOS)

    def __init__(self) -> None:
        self._folder = photo_folder()

    def __iter__(self) -> Iterator[Frame]:
        index = 0
        for name in PHOTOS:
            photo = read_photo(self._folder / name)
            for step in range(FRAMES_EACH):
                # A cosine starts and stops gently.
                progress = 0.5 - 0.5 * float(np.cos(np.pi * step / (FRAMES_EACH - 1)))
                yield Frame(view(photo, progress), index, index / self.fps, f"{Path(name).stem}_{step:02d}")
                index += 1

    def close(self) -> None:
        """Nothing is held open."""


def open_source(request: SourceRequest) -> DemoSource:
    """The demo; there is only one."""
    refuse_live_options(request.options)
    refuse_photo_options(request.options)
    return DemoSource()
