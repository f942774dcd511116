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
from .sink import SinkRequest
from .staging import Staged, cannot_write

_JPEG_QUALITY = 92


def write_picture(path: Path, picture: npt.NDArray[np.uint8], shown_as: Path) -> None:
    """Encode `picture` (H, W, 3) BGR to `path` by its suffix; messages call it `shown_as`. Raises `SinkError`."""
    # Encoded in memory first: cv2.imwrite reports a full disk as nothing at all.
    try:
        encoded, data = cv2.imencode(path.suffix.lower(), picture, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    except cv2.error:
        encoded, data = False, None
    if not encoded:
        size = f"{picture.shape[1]}x{picture.shape[0]}"
        raise SinkError(f"OpenCV cannot encode a picture of {size} as {path.suffix}; save as .png or .jpg")
    try:
        path.write_bytes(data.tobytes())
    except OSError as error:
        raise cannot_write(shown_as, error) from error


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
        write_picture(self._staged.work, picture, self._staged.target)
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
