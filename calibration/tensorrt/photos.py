"""Images that a plan is compared on: those given, the demo's photos, or generated ones."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from itertools import islice

import numpy as np
import numpy.typing as npt

from ...bundle.errors import MissingExtraError, SourceError
from ...runtime.capture.demo import PHOTOS, photo_folder
from ...runtime.capture.photos import read_photo
from ...runtime.capture.registry import open_source
from ...runtime.inference.preprocess import to_input

DEMO, GENERATED = "demo", "generated"
_PICTURES = 4
_WAVES = (2, 4, 8, 16, 32)  # noise values along the longer side, from broad patches to small ones

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Pictures:
    """A few images as the network takes them."""

    images: tuple[Bytes, ...]  # each (1, H, W, 3) BGR
    source: str  # as given, or DEMO, or GENERATED

    @property
    def digest(self) -> str:
        """Identity of their pixels, in order."""
        state = hashlib.sha256()
        for image in self.images:
            state.update(repr(image.shape).encode())
            state.update(image.tobytes())
        return state.hexdigest()


def read_pictures(source: str | None, size: tuple[int, int]) -> Pictures:
    """A few images of `source` (see `ovs-run --source`), scaled to `size` (height, width).

    Without a source the demo's photos; where those are not installed, generated images. Raises `SourceError`.
    """
    if source is None:
        try:
            folder = photo_folder()
        except MissingExtraError:  # a device need not have them
            return Pictures(tuple(smooth_picture(size, seed) for seed in range(_PICTURES)), GENERATED)
        return Pictures(tuple(to_input(read_photo(folder / name), size)[0] for name in PHOTOS[:_PICTURES]), DEMO)
    opened = open_source(source, None)
    try:
        every = max(1, (opened.total or _PICTURES) // _PICTURES)
        frames = islice(opened, 0, every * _PICTURES, every)
        images = tuple(to_input(frame.image, size)[0] for frame in frames)
    finally:
        opened.close()
    if not images:
        raise SourceError(f"{source} gives no images; name a folder of photos, or a video, with --images")
    return Pictures(images, source)


def smooth_picture(size: tuple[int, int], seed: int) -> Bytes:
    """Random patches of colour (1, height, width, 3), large and small; the same for the same seed."""
    rng = np.random.default_rng(seed)
    total = np.zeros((*size, 3))
    for count in _WAVES:
        rows, columns = (max(2, round(count * side / max(size))) for side in size)
        total += _stretched(_stretched(rng.standard_normal((rows, columns, 3)), size[0], 0), size[1], 1) / count**0.5
    low, high = total.min((0, 1)), total.max((0, 1))
    picture: Bytes = np.rint((total - low) / np.maximum(high - low, 1e-9) * 255).astype(np.uint8)[None]
    return picture


def _stretched(values: npt.NDArray[np.float64], length: int, axis: int) -> npt.NDArray[np.float64]:
    """`values` with `length` entries along `axis`, interpolated linearly; the ends stay."""
    place = np.linspace(0, values.shape[axis] - 1, length)
    low = np.minimum(place.astype(int), values.shape[axis] - 2)
    share = (place - low).reshape([-1 if index == axis else 1 for index in range(values.ndim)])
    result: npt.NDArray[np.float64] = values.take(low, axis) * (1 - share) + values.take(low + 1, axis) * share
    return result
