"""A window on a desktop. Nothing here touches the GUI before a display is known to be there."""

from __future__ import annotations

import os
import re
import sys

import numpy as np
import numpy.typing as npt

from ovs_edge.bundle.errors import SinkError
from ovs_edge.runtime.frame import Frame
from ovs_edge.runtime.opencv import cv2
from ovs_edge.runtime.prediction import Prediction
from ovs_edge.runtime.status import Status

_TITLE = "ovs-run (q quits)"
_QUIT = (ord("q"), 27)  # q, escape


def missing() -> str | None:
    """Why no window can be opened here, or None. Asks the environment only: a GUI toolkit aborts on a wrong guess."""
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return "there is no display (DISPLAY is not set)"
    found = re.search(r"GUI:\s*(\S+)", cv2.getBuildInformation())
    if found is None or found.group(1) == "NONE":
        return "this OpenCV has no windows (pip uninstall opencv-python-headless && pip install 'ovs-edge[window]')"
    return None


class WindowSink:
    """Shows each frame; `q` or escape stops."""

    wants_picture = True
    place: str | None = None

    def __init__(self, wait: bool) -> None:
        """`wait`: each picture stays until a key is pressed, as photos do. Raises `SinkError` without a display."""
        if reason := missing():
            raise SinkError(f"cannot open a window: {reason}; use --no-show with --save out.mp4")
        self._delay = 0 if wait else 1
        try:
            cv2.namedWindow(_TITLE, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO)
        except cv2.error as error:
            raise SinkError(f"cannot open a window ({error}); use --no-show with --save out.mp4") from error

    def write(
        self, frame: Frame, prediction: Prediction, picture: npt.NDArray[np.uint8] | None, status: Status
    ) -> bool:
        """Show the picture; False once the user quits or closes the window."""
        cv2.imshow(_TITLE, picture)
        return self._goes_on()

    def idle(self, picture: npt.NDArray[np.uint8] | None, status: Status) -> bool:
        """Show the banner, and keep the window alive."""
        if picture is not None:
            cv2.imshow(_TITLE, picture)
        return self._goes_on()

    def _goes_on(self) -> bool:
        key = cv2.waitKey(self._delay) & 0xFF
        return key not in _QUIT and cv2.getWindowProperty(_TITLE, cv2.WND_PROP_VISIBLE) >= 1

    def finish(self) -> None:
        """A window keeps nothing."""

    def close(self) -> None:
        """Close the window."""
        cv2.destroyAllWindows()
