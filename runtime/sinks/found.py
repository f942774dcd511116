"""What was found, as text on standard output: for photos whose results go nowhere else."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..frame import Frame
from ..inference.prediction import Prediction
from ..status import Status


class FoundSink:
    """One line a photo: its name and the classes found in it, with their share of the picture and their confidence."""

    wants_picture = False
    place: str | None = None

    def write(
        self, frame: Frame, prediction: Prediction, picture: npt.NDArray[np.uint8] | None, status: Status
    ) -> bool:
        """Print the line."""
        found = ", ".join(
            f"{region.label} {region.share:.1%} (confidence {region.confidence:.2f})" for region in prediction.regions()
        )
        print(f"{frame.name}: {found or 'none of the classes'}", flush=True)
        return True

    def idle(self, picture: npt.NDArray[np.uint8] | None, status: Status) -> bool:
        """Nothing to print while no frame comes."""
        return True

    def finish(self) -> None:
        """All is printed."""

    def close(self) -> None:
        """Nothing is held open."""
