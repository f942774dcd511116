"""The annotated copy of one photo."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from ...bundle.errors import SinkError, UsageError
from ..frame import Frame
from ..inference.prediction import Prediction
from ..opencv import cv2
from ..status import Status
from .output_files import marked
from .sink import SinkRequest
from .staging import Staged, cannot_write

_JPEG_QUALITY = 92
# Other names of a format, which OpenCV's encoder does not know.
_ENCODED_AS = {".jfif": ".jpg", ".jpe": ".jpg", ".jpeg": ".jpg", ".dib": ".bmp", ".pnm": ".ppm"}


def encode_picture(picture: npt.NDArray[np.uint8], suffix: str) -> bytes:
    """`picture` (H, W, 3) BGR in the format of a file's `suffix`, marked as this program's. Raises `SinkError`."""
    # Encoded in memory first: cv2.imwrite reports a full disk as nothing at all.
    kind = _ENCODED_AS.get(suffix.lower(), suffix.lower())
    try:
        encoded, data = cv2.imencode(kind, picture, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    except cv2.error:
        encoded, data = False, None
    if not encoded:
        size = f"{picture.shape[1]}x{picture.shape[0]}"
        raise SinkError(f"OpenCV cannot encode a picture of {size} as {suffix}; save as .png or .jpg")
    return marked(data.tobytes(), kind)


def write_picture(staged: Staged, picture: npt.NDArray[np.uint8]) -> None:
    """Encode `picture` to the output file by its suffix; messages name its target. Raises `SinkError`."""
    data = encode_picture(picture, staged.target.suffix)
    try:
        staged.work.write_bytes(data)
    except OSError as error:
        raise cannot_write(staged.target, error) from error


class PictureSink:
    """The annotated copy of a single photo; the name's suffix chooses the format."""

    wants_picture = True

    def __init__(self, path: Path) -> None:
        self.place: str | None = str(path)
        self._staged = Staged(path)

    def write(
        self, frame: Frame, prediction: Prediction, picture: npt.NDArray[np.uint8] | None, status: Status
    ) -> bool:
        """Encode the picture."""
        assert picture is not None
        write_picture(self._staged, picture)
        return True

    def idle(self, picture: npt.NDArray[np.uint8] | None, status: Status) -> bool:
        """Files hold frames only."""
        return True

    def finish(self) -> None:
        """Let it appear."""
        self._staged.commit()

    def close(self) -> None:
        """Unfinished, it is removed."""
        self._staged.discard()


def open_sink(request: SinkRequest) -> PictureSink:
    """For a source of one photo."""
    target, source = request.target, request.source
    if source.total != 1:
        folder = Path(target).stem
        raise UsageError(f"{target} is one picture, {source.name} has more; save to a folder: --save {folder}")
    return PictureSink(Path(target))
