"""Which module opens which source: by a word, the scheme of a URL, or the suffix of a file.

To add a source, write a module with `open_source(request: SourceRequest) -> Source` and give it a line in one of the
tables below. A program that uses this package may put a function there instead:
`registry.SCHEMES["noise"] = open_noise`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

from ...bundle.addresses import redact_address, scheme_of
from ...bundle.errors import SourceError, UsageError, note
from ...bundle.files import told_while_waiting
from ...bundle.image_files import HEAD, IMAGE_SUFFIXES, image_kind
from .options import CaptureOptions
from .photo_source import open_photos
from .source import Opener, Source, SourceRequest

WORDS: dict[str, str | Opener] = {
    "demo": ".demo",
    "-": ".video_files.video_source",  # standard input
}
SCHEMES: dict[str, str | Opener] = {
    "csi": ".live.camera",
    "screen": ".live.screen",
    "http": ".web_address",
    "https": ".web_address",
    "rtsp": ".live.streams",
    "rtsps": ".live.streams",
    "rtmp": ".live.streams",
    "udp": ".live.streams",
    "tcp": ".live.streams",
    "srt": ".live.streams",
}
SUFFIXES: dict[str, str | Opener] = {
    **dict.fromkeys(IMAGE_SUFFIXES, ".photo_source"),
}
FOLDER_OR_PATTERN: str | Opener = ".photo_source"
OTHER_FILE: str | Opener = ".video_files.video_source"
DEVICE: str | Opener = ".live.camera"


def open_source(
    source: str | Sequence[str] | None = None,
    camera: str | None = None,
    options: CaptureOptions | None = None,
    warn: Callable[[str], None] = note,
) -> Source:
    """Open exactly one of a `source` and a `camera`; several sources must be photos, folders or globs of photos.

    Recordings: a photo, a folder or glob of photos, a video file or its http address, "-" for a video on standard
    input, "demo". Live: a camera ("0", "/dev/video0", "csi://0"), the URL of a stream (`SCHEMES`), "screen://".
    Either of the two takes either kind; only a bare number is a camera's alone. `options` are for live sources.
    `warn` is called with a line about each photo or frame that is skipped because it cannot be decoded.

    The first frame is read here, so that what cannot be read fails before anything is written.
    Raises `UsageError` for both or neither, `SourceError` for what cannot be read.
    """
    if (source is None) == (camera is None):
        found = "neither" if source is None else "both"
        raise UsageError(f"{found} of --source and --camera given, expected one: --source photo.jpg, or --camera 0")
    options = CaptureOptions() if options is None else options
    if source is not None and not isinstance(source, str):
        if len(source) != 1:
            return open_photos(source, options, warn)
        source = source[0]
    address = camera if camera is not None else source
    assert address is not None
    request = SourceRequest(address, camera is not None, options, warn)
    with told_while_waiting(address, "writes to"):
        return _load(_opener(request))(request)


def _opener(request: SourceRequest) -> str | Opener:
    """The entry of the tables for `request`."""
    address = request.address
    scheme = scheme_of(address)
    if scheme is not None:
        return _by_scheme(scheme, address)
    if request.live or address.startswith("/dev/video"):
        return DEVICE
    if address in WORDS:
        return WORDS[address]
    return _by_path(address)


def _by_scheme(scheme: str, address: str) -> str | Opener:
    if scheme not in SCHEMES:
        known = " ".join(f"{known}://" for known in sorted(SCHEMES))
        raise UsageError(f"{redact_address(address)[:80]!r} has an unknown scheme; expected one of {known}")
    return SCHEMES[scheme]


def _by_path(address: str) -> str | Opener:
    try:
        known, folder = os.path.exists(address), os.path.isdir(address)
    except ValueError as error:  # a NUL in the name
        raise SourceError(
            f"cannot read {address[:200]!r} ({error}); expected a photo, folder, video or 'demo'"
        ) from error
    if folder or (address and not known and any(sign in address for sign in "*?[")):
        return FOLDER_OR_PATTERN
    if not address or not known:
        raise SourceError(
            f"no such file or folder: {redact_address(address)[:200]!r}; expected a photo, a folder of photos, "
            "a video, a URL or 'demo'"
        )
    entry = SUFFIXES.get(Path(address).suffix.lower())
    if entry is not None:
        return entry
    return FOLDER_OR_PATTERN if _begins_like_photo(Path(address)) else OTHER_FILE


def _begins_like_photo(path: Path) -> bool:
    """Whether a file without a photo's suffix is one. A GIF may move, so it is a video."""
    try:
        if not path.is_file():  # of a pipe not a byte may be taken
            return False
        with path.open("rb") as stream:
            return image_kind(stream.read(HEAD)) not in (None, "GIF")
    except OSError:
        return False


def _load(entry: str | Opener) -> Opener:
    if callable(entry):
        return entry
    opener: Opener = import_module(entry, __package__).open_source
    return opener
