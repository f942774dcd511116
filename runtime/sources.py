"""Where frames come from: what every source offers, and how a name on the command line becomes one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from ovs_edge.bundle.errors import SourceError, UsageError
from ovs_edge.runtime.frame import Frame

DEMO = "demo"


class Source(Protocol):
    """Frames in order. Iterated once; `close` may be called at any time, more than once, and ends the iteration."""

    name: str  # for messages
    total: int | None  # frames to come, where that is known
    fps: float  # nominal rate, at which a saved video of these frames plays
    live: bool  # a camera: frames that nobody fetched in time are gone
    moving: bool  # whether neighbouring frames belong together
    state: str  # PLAYING, or what a live source is doing about its loss, for people
    dropped: int  # frames of a live source that were passed over for newer ones

    def __iter__(self) -> Iterator[Frame]: ...

    def close(self) -> None: ...


def open_source(source: str | None, camera: str | None) -> Source:
    """Open exactly one of a `source` (photo, folder of photos, video file, or "demo") and a `camera` ("0", a device).

    The first frame of a file is read here, so that what cannot be read fails before anything is written.
    Raises `UsageError` for both or neither, `SourceError` for what cannot be read.
    """
    if (source is None) == (camera is None):
        found = "neither" if source is None else "both"
        raise UsageError(f"{found} of --source and --camera given, expected one: --source photo.jpg, or --camera 0")
    if camera is not None:
        from ovs_edge.runtime.camera import CameraSource

        return CameraSource(camera)
    assert source is not None
    if source == DEMO:
        from ovs_edge.runtime.demo import DemoSource

        return DemoSource()
    path = Path(source)
    try:
        known, folder = path.exists(), path.is_dir()
    except (OSError, ValueError) as error:
        raise SourceError(f"cannot read {source!r} ({error}); expected a photo, folder, video or 'demo'") from error
    if not source or not known:
        raise SourceError(
            f"no such file or folder: {source!r}; expected a photo, a folder of photos, a video or 'demo'"
        )
    from ovs_edge.runtime.photos import IMAGE_SUFFIXES, PhotoSource
    from ovs_edge.runtime.video import VideoSource

    if folder or path.suffix.lower() in IMAGE_SUFFIXES:
        return PhotoSource(path)
    return VideoSource(path)
