"""Photos as a source: one, a folder of them, or those a glob names."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ...bundle.addresses import redact_address, scheme_of
from ...bundle.errors import SourceError, UsageError, note
from ...bundle.image_files import IMAGE_SUFFIXES, is_image_file, is_image_name
from ..frame import Frame
from ..status import PLAYING
from .names import unique_names
from .options import CaptureOptions, refuse_live_options
from .photos import Image, read_photo
from .source import Sound, SourceRequest

_NAMED = 5  # files that a message lists by name


class PhotoSource:
    """Photos in the given order, each a frame. One that cannot be decoded is skipped, counted, and told of."""

    live = False
    moving = False
    state = PLAYING
    dropped = 0
    truncated: str | None = None
    sound: Sound | None = None

    def __init__(
        self,
        paths: Sequence[Path],
        name: str = "",
        fps: float = 1.0,
        warn: Callable[[str], None] = note,
        read: Callable[[Path, Callable[[str], None]], Image] = read_photo,
    ) -> None:
        """`fps` is the rate at which they count as frames; `read` decodes one.

        Raises `SourceError` when none of them can be decoded.
        """
        self.name = name or str(paths[0])
        self.fps = fps
        self.total: int | None = len(paths)
        self.skipped = 0
        self.files = tuple(paths)
        self._paths = list(paths)
        self._warn = warn
        self._decode = read
        self._read = iter(self._decoded(only=len(paths) == 1))
        self._first: tuple[int, Image] | None = next(self._read, None)
        if self._first is None:
            raise SourceError(f"none of the {len(paths)} photos in {self.name} can be decoded; see the notes above")

    def _decoded(self, *, only: bool) -> Iterator[tuple[int, Image]]:
        for index, path in enumerate(self._paths):
            try:
                image = self._decode(path, self._warn)
            except SourceError as error:
                if only:
                    raise
                self.skipped += 1
                self._warn(f"skipped: {error}")
                continue
            yield index, image

    def __iter__(self) -> Iterator[Frame]:
        names = unique_names(self._paths)
        while self._first is not None:
            index, image = self._first
            yield Frame(image, index, index / self.fps, names[index])
            self._first = next(self._read, None)

    def close(self) -> None:
        """Nothing is held open."""


def open_source(request: SourceRequest) -> PhotoSource:
    """The photo at a path, or all photos of a folder or a glob ("shots/*.jpg") in the order of their names."""
    options = request.options
    refuse_live_options(options)
    paths = find_photos(request.address, request.warn, recursive=options.recursive)
    return PhotoSource(paths, request.address, options.fps or 1.0, request.warn)


def open_photos(addresses: Sequence[str], options: CaptureOptions, warn: Callable[[str], None] = note) -> PhotoSource:
    """The photos at several paths: files, folders and globs. Raises `UsageError` for what is no photo among them."""
    refuse_live_options(options)
    paths: list[Path] = []
    for address in addresses:
        if scheme_of(address) is not None or (os.path.isfile(address) and not is_image_file(Path(address))):
            raise UsageError(
                f"{redact_address(address)[:200]!r} is not a photo; several sources must be photos or folders: run a "
                "video or camera by itself"
            )
        if not os.path.lexists(address) and not any(sign in address for sign in "*?["):
            raise SourceError(f"no such file or folder: {redact_address(address)[:200]!r}; expected photos and folders")
        paths += find_photos(address, warn, recursive=options.recursive)
    unique = list(dict.fromkeys(paths))
    return PhotoSource(unique, f"{len(unique)} photos", options.fps or 1.0, warn)


def find_photos(address: str, warn: Callable[[str], None] = note, *, recursive: bool = False) -> list[Path]:
    """The photos that `address` (a file, a folder or a glob) names, sorted. Raises `SourceError` if there are none.

    In a folder, a file is a photo by its suffix or by how it begins; so are links to nothing and pipes with such a
    suffix, which the reader then refuses. Hidden files never are; `warn` gets a line about those with a photo's suffix.
    `recursive` looks into sub-folders too.
    """
    path = Path(address)
    if path.is_dir():
        files = sorted(_files(path, recursive=recursive))
        found = [file for file in files if is_image_file(file)]
        hidden = [file for file in files if file.name.startswith(".") and is_image_name(file.name.lstrip("._"))]
        if hidden:
            warn(f"hidden files in {path} are left out: {_listed(hidden)}")
        if not found:
            kinds = " ".join(sorted(IMAGE_SUFFIXES))
            hint = "" if recursive or not _has_folders(path) else "; --recursive looks into its sub-folders"
            raise SourceError(f"the folder {path} holds no photos; expected files that end in {kinds}{hint}")
        return found
    if path.exists():
        return [path]
    named = [Path(name) for name in sorted(glob.glob(address, recursive=True))]
    found = [file for file in named if not file.is_dir() and is_image_file(file)]
    if not found and named:
        raise SourceError(
            f"{address} names {len(named)} files, no photo among them ({_listed(named)}); expected "
            f"{' '.join(sorted(IMAGE_SUFFIXES))}"
        )
    if not found:
        raise SourceError(f"cannot read {address} (no file has such a name); check the pattern")
    return found


def _files(folder: Path, *, recursive: bool) -> Iterator[Path]:
    def fail(error: OSError) -> None:
        raise SourceError(f"cannot list {error.filename} ({error.strerror}); check its permissions") from error

    for place, folders, names in os.walk(folder, onerror=fail):
        folders[:] = sorted(name for name in folders if recursive and not name.startswith("."))
        yield from (Path(place, name) for name in names)


def _has_folders(path: Path) -> bool:
    return any(entry.is_dir() for entry in path.iterdir())


def _listed(paths: Sequence[Path]) -> str:
    names = ", ".join(path.name for path in paths[:_NAMED])
    return names + (f" and {len(paths) - _NAMED} more" if len(paths) > _NAMED else "")
