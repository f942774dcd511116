"""Photos: one, a folder of them, or those a glob names."""

from __future__ import annotations

import glob
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ...bundle.errors import SourceError
from ..frame import Frame
from ..opencv import cv2
from ..status import PLAYING

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pnm"})


def read_photo(path: Path) -> npt.NDArray[np.uint8]:
    """Decode a picture to (H, W, 3) uint8 BGR, turned upright; grey, 16-bit and alpha are converted.

    Raises `SourceError` for what is no picture, or is cut short: decoders fill the missing part with grey.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SourceError(f"cannot read {path} ({error.strerror}); check the file and its permissions") from error
    if _cut_short(data):
        raise SourceError(f"{path} is cut short ({len(data)} bytes, no end mark); copy it again")
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    except cv2.error:
        image = None
    if image is None:
        raise SourceError(f"{path} does not decode as a picture ({len(data)} bytes); expected JPEG, PNG, BMP or such")
    decoded: npt.NDArray[np.uint8] = image
    return decoded


def _cut_short(data: bytes) -> bool:
    if data.startswith(b"\xff\xd8"):
        # End-of-image must follow the last start-of-scan. Cameras append other data, and thumbnails have marks too.
        return data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda") or b"\xff\xd9" not in data
    return data.startswith(b"\x89PNG\r\n\x1a\n") and b"IEND" not in data


class PhotoSource:
    """The photo at a path, or all photos of a folder or a glob ("shots/*.jpg") in the order of their names."""

    live = False
    moving = False
    state = PLAYING
    dropped = 0
    fps = 1.0  # a second for each photo

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        if path.is_dir():
            try:
                self._paths = sorted(
                    file for file in path.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES and file.is_file()
                )
            except OSError as error:
                raise SourceError(f"cannot list {path} ({error.strerror}); check its permissions") from error
            if not self._paths:
                kinds = " ".join(sorted(IMAGE_SUFFIXES))
                raise SourceError(f"the folder {path} holds no photos; expected files that end in {kinds}")
        elif not path.exists() and (named := sorted(glob.glob(str(path), recursive=True))):
            self._paths = [file for file in map(Path, named) if file.suffix.lower() in IMAGE_SUFFIXES]
            if not self._paths:
                kinds = " ".join(sorted(IMAGE_SUFFIXES))
                raise SourceError(f"{path} names {len(named)} files, no photo among them; expected {kinds}")
        else:
            self._paths = [path]
        self.total: int | None = len(self._paths)
        self._first: npt.NDArray[np.uint8] | None = read_photo(self._paths[0])

    def __iter__(self) -> Iterator[Frame]:
        stems = Counter(path.stem for path in self._paths)
        for index, path in enumerate(self._paths):
            image = self._first if self._first is not None else read_photo(path)
            self._first = None
            # a.jpg and a.png lie side by side: their annotated copies must not share a name.
            name = path.stem if stems[path.stem] == 1 else f"{path.stem}_{path.suffix[1:]}"
            yield Frame(image, index, index / self.fps, name)

    def close(self) -> None:
        """Nothing is held open."""
