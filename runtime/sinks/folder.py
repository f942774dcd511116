"""A folder with the annotated copy of every frame."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from ...bundle.errors import SinkError
from ..frame import Frame
from ..inference.prediction import Prediction
from ..status import Status
from .output_files import is_ours
from .picture import write_picture
from .sink import SinkRequest
from .staging import Staged, made_folder, remove_stale


class FolderSink:
    """A folder with the annotated copy of every frame, under the frame's name; each is there as soon as it is made."""

    wants_picture = True

    def __init__(self, path: Path, kind: str, *, overwrite: bool = False) -> None:
        """`kind` is the format, "jpg" or "png". Without `overwrite` only outputs of earlier runs are replaced."""
        self.place: str | None = f"{path}/"
        self._path = path
        self._kind = kind
        self._overwrite = overwrite
        self._made = made_folder(path)
        remove_stale(path)
        self._staged: Staged | None = None

    def write(
        self, frame: Frame, prediction: Prediction, picture: npt.NDArray[np.uint8] | None, status: Status
    ) -> bool:
        """Encode the picture."""
        assert picture is not None
        target = self._path / f"{frame.name}.{self._kind}"
        if not self._overwrite and target.is_file() and not is_ours(target):
            raise SinkError(
                f"{target} exists, and this program did not write it; add --overwrite to replace it, or choose "
                "another folder"
            )
        self._staged = Staged(target, clean=False)
        write_picture(self._staged, picture)
        self._staged.commit()
        self._made.keep()
        self._staged = None
        return True

    def idle(self, picture: npt.NDArray[np.uint8] | None, status: Status) -> bool:
        """Files hold frames only."""
        return True

    def finish(self) -> None:
        """The pictures are there already."""
        self._made.keep()

    def close(self) -> None:
        """Pictures that are complete stay; a folder that was made for nothing goes."""
        if self._staged is not None:
            self._staged.discard()
        self._staged = None
        self._made.remove()


def open_sink(request: SinkRequest) -> FolderSink:
    """JPEG for the frames of a video or camera, PNG for photos."""
    kind = "jpg" if request.source.moving else "png"
    return FolderSink(Path(request.target), kind, overwrite=request.overwrite)
