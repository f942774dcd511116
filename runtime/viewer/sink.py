"""The web viewer as a sink: frames go to the connected viewers, and none of them can delay the pipeline."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..frame import Frame
from ..inference.prediction import Prediction
from ..interaction import Interaction
from ..sinks.video_files.recorder import Recorder
from ..status import Status
from .access import DEFAULT_ADDRESS, Guard, parse_address
from .broadcast import PublishedFrame


@dataclass(frozen=True)
class WebOptions:
    """Options of the web viewer."""

    address: str = DEFAULT_ADDRESS  # HOST:PORT
    token: str | None = None  # None: generated if other machines can connect
    recordings: Path = Path("recordings")  # folder for what is recorded from the page; made when needed
    title: str = ""  # the source's name, for the page's heading


class WebSink:
    """Serves the page at `url` until closed."""

    def __init__(self, options: WebOptions, interaction: Interaction) -> None:
        """Raises `UsageError` for an invalid address or token, `SinkError` for a port in use,
        `MissingExtraError` where the extra `web` is not installed."""
        from .server import WebServer
        from .view import View

        address = parse_address(options.address)
        guard = Guard(address, options.token)
        self.place: str | None = None  # the folder of the recordings, once there are any
        self._folder = options.recordings
        self._recorder = Recorder(options.recordings)
        self._server = WebServer(address, guard)
        self._view = View(interaction, self._recorder, options.title)
        self._server.add(self._view)
        interaction.vocabulary.start()
        self.url = address.url(self._server.port, guard.token)

    @property
    def wants_picture(self) -> bool:
        """Whether a viewer is connected or a recording is running: drawing costs time."""
        return self._view.watched or self._recorder.seconds is not None

    def write(
        self, frame: Frame, prediction: Prediction, picture: npt.NDArray[np.uint8] | None, status: Status
    ) -> bool:
        """Show the frame; returns at once."""
        self._view.publish(PublishedFrame(frame, prediction, picture, status))
        if picture is not None:
            self._recorder.write(frame, prediction, picture, status)
        return True

    def idle(self, picture: npt.NDArray[np.uint8] | None, status: Status) -> bool:
        """Show the state of the source on the page."""
        self._view.publish_status(status)
        return True

    def finish(self) -> None:
        """Complete a recording."""
        self._recorder.stop()
        if self._recorder.made:
            self.place = f"{self._folder}/"

    def close(self) -> None:
        """Disconnect the viewers and free the port."""
        self._recorder.close()
        self._server.close()
