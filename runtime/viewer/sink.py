"""The web viewer as a sink: frames go to the connected viewers, and none of them can delay the pipeline."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ..frame import Frame
from ..inference.prediction import Prediction
from ..interaction import Interaction
from ..sinks.video_files.recorder import Recorder
from ..status import Status
from .access import DEFAULT_ADDRESS, Guard, parse_address
from .broadcast import PublishedFrame

if TYPE_CHECKING:
    from .view import View


@dataclass(frozen=True)
class WebOptions:
    """Options of the web viewer."""

    address: str = DEFAULT_ADDRESS  # HOST:PORT
    token: str | None = None  # None: generated if other machines can connect
    recordings: Path = Path("recordings")  # folder for what is recorded from the page; made when needed
    title: str = ""  # the source's name, for the page's heading


class ViewSink:
    """Shows one stream of frames in a view of the web viewer, and records it on demand."""

    def __init__(self, view: View, recorder: Recorder, recordings: Path) -> None:
        """`recordings` is the recorder's folder."""
        self.place: str | None = None  # the folder of the recordings, once there are any
        self._folder = recordings
        self._recorder = recorder
        self._view = view

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
        """Complete a recording as far as it got."""
        self._recorder.close()


class WebSink(ViewSink):
    """Serves the page at `url` until closed."""

    def __init__(self, options: WebOptions, interaction: Interaction) -> None:
        """Raises `UsageError` for an invalid address or token, `SinkError` for a port in use,
        `MissingExtraError` where the extra `web` is not installed."""
        from .server import WebServer
        from .view import View

        address = parse_address(options.address)
        guard = Guard(address, options.token)
        recorder = Recorder(options.recordings)
        super().__init__(View(interaction, recorder, options.title), recorder, options.recordings)
        self._server = WebServer(address, guard)
        self._server.add(self._view)
        interaction.vocabulary.start()
        self.url = address.url(self._server.port, guard.token)

    def close(self) -> None:
        """Disconnect the viewers and free the port."""
        super().close()
        self._server.close()
