"""What the sources of a job name: photos, archives with their members, videos."""

from __future__ import annotations

import fnmatch
import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ...bundle.errors import SourceError
from ...bundle.image_files import is_image_file, is_image_name
from .archives import Member, is_archive, is_archive_name, list_members
from .places import is_remote, list_remote, shown

VIDEO_SUFFIXES = frozenset(
    [".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".wmv", ".flv", ".3gp",
     ".ogv", ".gif", ".mjpeg"]
)  # fmt: skip


@dataclass
class Listing:
    """Everything that is to be labelled, in order, and what was left out."""

    photos: list[str] = field(default_factory=list)  # places
    archives: list[tuple[str, list[Member]]] = field(default_factory=list)
    videos: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)  # one line each: what, and why

    def __len__(self) -> int:
        return len(self.photos) + sum(len(members) for _, members in self.archives) + len(self.videos)


def list_inputs(sources: Sequence[str], *, recursive: bool, without: Path | None) -> Listing:
    """The photos, archives and videos of `sources`: files, folders and patterns, each once.

    In folders, archives and videos are known by their suffix, photos also by how they begin; what lies in the folder
    `without`, the output, is passed over. Raises `SourceError` for a source that is not there.
    """
    found = Listing()
    seen: set[str] = set()
    outside = None if without is None else os.path.realpath(without)
    for source in sources:
        for place, named in _files(source, recursive=recursive):
            if place in seen or (outside is not None and _within(place, outside)):
                continue
            seen.add(place)
            _classify(found, place, named=named)
    return found


def _within(place: str, folder: str) -> bool:
    return not is_remote(place) and os.path.realpath(place).startswith(folder + os.sep)


def _files(source: str, *, recursive: bool) -> Iterator[tuple[str, bool]]:
    """Files of a source, and whether it names them itself."""
    if is_remote(source):
        yield from _remote_files(source, recursive=recursive)
        return
    try:
        folder, there = os.path.isdir(source), os.path.lexists(source)
    except ValueError as error:
        raise SourceError(f"cannot read {source[:200]!r} ({error}); expected photos, archives or videos") from error
    if folder:
        yield from ((path, False) for path in _walk(source, recursive=recursive))
    elif there:
        yield source, True
    else:
        names = sorted(glob.glob(source, recursive=True)) if any(sign in source for sign in "*?[") else []
        if not names:
            raise SourceError(
                f"no such file or folder: {source[:200]!r}; expected photos, folders, archives, videos or a pattern"
            )
        yield from ((name, False) for name in names if os.path.isfile(name))


def _remote_files(source: str, *, recursive: bool) -> Iterator[tuple[str, bool]]:
    base = source.partition("?")[0]
    signs = [at for at in map(base.find, "*[") if at >= 0]
    if not signs:
        found = list_remote(source, recursive=recursive)
        if not found:
            raise SourceError(f"there is nothing at {shown(source)}; check the address")
        yield from ((place, place == source) for place in found)
        return
    fixed = base[: base.rfind("/", 0, min(signs)) + 1]
    query = source[len(base) :]
    pattern = base.partition("://")[2]
    for place in list_remote(fixed + query, recursive=True):
        if fnmatch.fnmatchcase(place.partition("?")[0].partition("://")[2], pattern):
            yield place, False


def _walk(folder: str, *, recursive: bool) -> Iterator[str]:
    def fail(error: OSError) -> None:
        raise SourceError(f"cannot list {error.filename} ({error.strerror}); check its permissions") from error

    for place, folders, names in os.walk(folder, onerror=fail):
        folders[:] = sorted(name for name in folders if recursive and not name.startswith("."))
        paths = (os.path.join(place, name) for name in sorted(names) if not name.startswith("."))
        yield from (path for path in paths if os.path.isfile(path))  # a pipe would be waited for


def _classify(found: Listing, place: str, *, named: bool) -> None:
    base = place.partition("?")[0] if is_remote(place) else place
    suffix = os.path.splitext(base)[1].lower()
    local = not is_remote(place)
    if is_image_name(base):
        found.photos.append(place)
    elif is_archive_name(base) or (named and suffix not in VIDEO_SUFFIXES and is_archive(place)):
        try:
            members, left_out = list_members(place)
        except SourceError as error:
            found.left_out.append(str(error))
            return
        found.left_out += left_out
        if members:
            found.archives.append((place, members))
        else:
            found.left_out.append(f"{shown(place)}: the archive holds no photos")
    elif suffix in VIDEO_SUFFIXES:
        found.videos.append(place)
    elif local and os.path.isfile(place) and suffix not in VIDEO_SUFFIXES and is_image_file(Path(place)):
        found.photos.append(place)
    elif named:  # whatever it is: a decoder has the last word
        found.videos.append(place)
