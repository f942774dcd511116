"""A folder with the annotated copy of every frame."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..frame import Frame
from ..inference.prediction import Prediction
from ..status import Status
from .picture import write_picture
from .sink import SinkRequest
from .staging import Staged


class FolderSink:
    """A folder with the annotated copy of every frame, under the frame's name."""

    wants_picture = True

    def __init__(self, path: Path, kind: str) -> None:
        """`kind` is the format, "jpg" or "png"."""
        self.place: str | None = f"{path}/"
        self._kind = kind
        self._staged = Staged(path, folder=True)

    def write(
        self, frame: Frame, prediction: Prediction, picture: npt.NDArray[np.uint8] | None, status: Status
    ) -> bool:
        """Encode the picture."""
        assert picture is not None
        write_picture(self._staged.work / f"{frame.name}.{self._kind}", picture, self._staged.target)
        return True

    def idle(self, picture: npt.NDArray[np.uint8] | None, status: Status) -> bool:
        """Files hold frames only."""
        return True

    def finish(self) -> None:
        """Let the pictures appear."""
        self._staged.commit()

    def close(self) -> None:
        """Unfinished, they are removed."""
        self._staged.discard()


def open_sink(request: SinkRequest) -> FolderSink:
    """JPEG for the frames of a video or camera, PNG for photos."""
    return FolderSink(Path(request.target), "jpg" if request.source.moving else "png")
