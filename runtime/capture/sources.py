"""Where frames come from: what every source offers, and how a name on the command line becomes one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from ...bundle.errors import SourceError, UsageError
from ..frame import Frame
from .options import CaptureOptions

DEMO = "demo"


class Source(Protocol):
    """Frames in order. Iterated once; `close` may be called at any time, more than once, and ends the iteration."""

    name: str  # for messages
    total: int | None  # frames to come, where that is known
    fps: float  # nominal rate, at which a saved video of these frames plays
    live: bool  # a camera: frames that nobody fetched in time are gone
    moving: bool  # whether neighbouring frames belong together
    dropped: int  # frames of a live source that were passed over for newer ones

    @property
    def state(self) -> str:
        """`PLAYING`, or what is wrong with a live source and what is done about it, for people."""
        ...

    def __iter__(self) -> Iterator[Frame]: ...

    def close(self) -> None: ...


def open_source(source: str | None, camera: str | None, options: CaptureOptions | None = None) -> Source:
    """Open exactly one of a `source` and a `camera`.

    Recordings: a photo, a folder or glob of photos, a video file or its http address, "-" for a video on standard
    input, "demo". Live: a camera ("0", "/dev/video0", "csi://0"), a stream's URL (`streams.SCHEMES`), "screen://".
    Either of the two takes either kind; only a bare number is a camera's alone. `options` are for live sources.

    The first frame is read here, so that what cannot be read fails before anything is written.
    Raises `UsageError` for both or neither, `SourceError` for what cannot be read.
    """
    if (source is None) == (camera is None):
        found = "neither" if source is None else "both"
        raise UsageError(f"{found} of --source and --camera given, expected one: --source photo.jpg, or --camera 0")
    options = CaptureOptions() if options is None else options
    live = _live(source, camera, options)
    if live is not None:
        return live
    assert source is not None
    if options != CaptureOptions():
        raise UsageError(
            "--size, --rate, --mjpg, --flip and --no-reconnect are for cameras and streams; leave them out"
        )
    if source == DEMO:
        from .demo import DemoSource

        return DemoSource()
    from .photos import IMAGE_SUFFIXES, PhotoSource
    from .video import STDIN, VideoSource

    if source == STDIN or "://" in source:
        return VideoSource(source)
    path = Path(source)
    try:
        known, folder = path.exists(), path.is_dir()
    except (OSError, ValueError) as error:
        raise SourceError(f"cannot read {source!r} ({error}); expected a photo, folder, video or 'demo'") from error
    if source and not known and any(sign in source for sign in "*?["):
        return PhotoSource(path)
    if not source or not known:
        raise SourceError(
            f"no such file or folder: {source!r}; expected a photo, a folder of photos, a video, a URL or 'demo'"
        )
    if folder or path.suffix.lower() in IMAGE_SUFFIXES:
        return PhotoSource(path)
    return VideoSource(source)


def _live(source: str | None, camera: str | None, options: CaptureOptions) -> Source | None:
    """The live source that is named, or None for a recording."""
    from .camera import CSI, camera_source
    from .screen import SCREEN, screen_source
    from .streams import SCHEMES, is_recording, scheme_of, stream_source

    name = camera if camera is not None else source
    assert name is not None
    scheme = scheme_of(name)
    if name.startswith(SCREEN):
        return screen_source(name, options)
    if scheme in SCHEMES:
        if is_recording(name) and camera is None:
            return None
        return stream_source(name, options)
    if scheme is not None and not name.startswith(CSI):
        known = " ".join(f"{known}://" for known in sorted(SCHEMES | {"csi", "screen"}))
        raise UsageError(f"{name[:80]!r} has an unknown scheme; expected one of {known}")
    if camera is not None or name.startswith((CSI, "/dev/video")):
        return camera_source(name, options)
    return None
