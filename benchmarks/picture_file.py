"""Pictures that benchmarks write: contact sheets, comparisons, plots."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..bundle.errors import SinkError
from ..bundle.files import replacing
from ..runtime.opencv import cv2
from ..runtime.sinks.staging import Staged, cannot_write

_QUALITY = 85  # of a JPEG


def write_picture_file(path: Path, picture: npt.NDArray[np.uint8]) -> None:
    """Write a picture (H, W, 3) BGR in the format that the suffix names, whole or not at all. Raises `SinkError`."""
    staged = Staged(path)
    try:
        _, data = cv2.imencode(path.suffix or ".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
        staged.work.write_bytes(data.tobytes())
    except OSError as error:
        staged.discard()
        raise cannot_write(path, error) from error
    except BaseException:
        staged.discard()
        raise
    staged.commit()


def write_figure_file(path: Path, figure: Any) -> None:
    """Write a figure of Matplotlib as PNG, whole or not at all, and close it. Raises `SinkError`."""
    from matplotlib import pyplot

    try:
        with replacing(path) as work:
            figure.savefig(work, format="png")
    except OSError as error:
        raise SinkError(f"cannot write {path} ({error}); free some space or choose another place") from error
    finally:
        pyplot.close(figure)
