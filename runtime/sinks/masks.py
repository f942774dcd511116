"""A folder with the label map of every frame as an index PNG, and the names in `classes.json`.

A pixel's value is its class's position in `classes.json`; 255 (65535 in a 16-bit PNG, used from 255 classes on) is none
of them. So the folder can serve as the `masks/` of a data set: names and values are those that ovs-train reads.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...bundle.errors import SinkError
from ...bundle.files import replacing
from ..frame import Frame
from ..inference.prediction import NOTHING, Prediction
from ..status import Status
from .output_files import is_ours
from .picture import write_picture
from .sink import SinkRequest
from .staging import Staged, cannot_write, made_folder, remove_stale

NAMES = "classes.json"
_MOST_IN_A_BYTE = 255  # classes; 255 itself is no class


class MaskSink:
    """Writes DIR/NAME.png for every frame and DIR/classes.json; each file is there as soon as it is made."""

    wants_picture = False

    def __init__(self, path: Path, *, overwrite: bool = False) -> None:
        """Without `overwrite` only outputs of earlier runs are replaced."""
        self.place: str | None = f"{path}/"
        self._path = path
        self._overwrite = overwrite
        self._made = made_folder(path)
        remove_stale(path)
        self._names: list[str] = []  # every class that was in use so far: its position is its value for good
        self._staged: Staged | None = None

    def write(
        self, frame: Frame, prediction: Prediction, picture: npt.NDArray[np.uint8] | None, status: Status
    ) -> bool:
        """Encode the label map."""
        self._take_names(prediction.classes)
        target = self._path / f"{frame.name}.png"
        if not self._overwrite and target.is_file() and not is_ours(target):
            raise SinkError(
                f"{target} exists, and this program did not write it; add --overwrite to replace it, or choose "
                "another folder"
            )
        wide = len(self._names) > _MOST_IN_A_BYTE
        none = 65535 if wide else _MOST_IN_A_BYTE
        values = [self._names.index(label) for label in prediction.classes]
        table = np.array([*values, none], np.uint16 if wide else np.uint8)  # the last entry is for NOTHING, -1
        assert NOTHING == -1
        values_of_pixels: Any = table[prediction.labels]  # 8 or 16 bits: PNG holds both
        self._staged = Staged(target, clean=False)
        write_picture(self._staged, values_of_pixels)
        self._staged.commit()
        self._made.keep()
        self._staged = None
        return True

    def _take_names(self, classes: tuple[str, ...]) -> None:
        new = [label for label in classes if label not in self._names]
        if not new:
            return
        self._names += new
        try:
            with replacing(self._path / NAMES) as work:
                work.write_text(json.dumps(self._names, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        except OSError as error:
            raise cannot_write(self._path / NAMES, error) from error
        self._made.keep()

    def idle(self, picture: npt.NDArray[np.uint8] | None, status: Status) -> bool:
        """Files hold frames only."""
        return True

    def finish(self) -> None:
        """The files are there already."""
        self._made.keep()

    def close(self) -> None:
        """Files that are complete stay; a folder that was made for nothing goes."""
        if self._staged is not None:
            self._staged.discard()
        self._staged = None
        self._made.remove()


def open_sink(request: SinkRequest) -> MaskSink:
    """The sink of `--save-masks`."""
    return MaskSink(Path(request.target), overwrite=request.overwrite)
