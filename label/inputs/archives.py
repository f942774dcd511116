"""Photos in tar and zip archives, read where they lie: nothing is unpacked to disk, so no member's name is ever a path."""

from __future__ import annotations

import bz2
import gzip
import lzma
import tarfile
import threading
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

from ...bundle.errors import SourceError
from ...bundle.image_files import MOST_BYTES, is_image_name
from .places import open_file, shown

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
_LONGEST_HEADER = 2**20  # bytes of a tar's header, which is read as a whole: 4 GiB of them pack into 4 MiB
_DAMAGED = (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError, zlib.error, lzma.LZMAError, NotImplementedError,
            RuntimeError, ValueError)  # fmt: skip


@dataclass(frozen=True)
class Member:
    """A photo in an archive."""

    name: str  # as the archive has it; never used as a path
    offset: int  # of its bytes in the unpacked stream of a tar; in a zip, where two may have one name, -1 - header's
    size: int  # bytes


def is_archive_name(name: str) -> bool:
    """Whether a file is an archive by its suffix."""
    return name.lower().endswith(SUFFIXES)


def is_archive(place: str) -> bool:
    """Whether a file is an archive by its content."""
    try:
        with open_file(place) as stream:
            if zipfile.is_zipfile(stream):
                return True
            stream.seek(0)
            with _open_tar(stream) as archive:
                return archive.next() is not None
    except _DAMAGED:
        return False


def list_members(place: str) -> tuple[list[Member], list[str]]:
    """The photos of an archive in its order, and why others were left out.

    An archive that breaks off gives what stands before the damage. Raises `SourceError` for what is no archive.
    """
    members: list[Member] = []
    left_out: list[str] = []
    title = shown(place)
    try:
        for member, problem in _entries(place):
            if problem is None:
                members.append(member)
            else:
                left_out.append(f"{title}: {member.name}: {problem}")
    except _DAMAGED as error:
        if not members:
            raise SourceError(f"cannot read the archive {title} ({error}); copy it again") from error
        left_out.append(f"{title} is damaged behind {members[-1].name} ({error}); copy it again")
    return members, left_out


def _entries(place: str) -> Iterator[tuple[Member, str | None]]:
    with open_file(place) as stream:
        if zipfile.is_zipfile(stream):
            with zipfile.ZipFile(stream) as archive:
                for entry in archive.infolist():
                    if not entry.is_dir() and is_image_name(entry.filename):
                        problem = "it is encrypted" if entry.flag_bits & 1 else _too_large(entry.file_size)
                        yield Member(entry.filename, -1 - entry.header_offset, entry.file_size), problem
            return
        stream.seek(0)
        if stream.read(4) == b"PK\3\4":
            raise zipfile.BadZipFile("its list of contents, which is at the end, is missing: it is cut short")
        stream.seek(0)
        with _open_tar(stream) as tar:
            for info in tar:
                tar.members.clear()  # type: ignore[attr-defined]  # else the list of all members stays in memory
                if is_image_name(info.name) and not info.isdir():
                    problem = _too_large(info.size) if info.isreg() and not info.issparse() else "it is no plain file"
                    yield Member(info.name, info.offset_data, info.size), problem


class _Headers:
    """What `tarfile` reads of an unpacked tar: a header that claims a giant size is damage, not memory."""

    def __init__(self, content: Any) -> None:
        self.content = content
        self.seek, self.tell, self.close = content.seek, content.tell, content.close

    def read(self, size: int) -> bytes:
        if size > _LONGEST_HEADER:
            raise tarfile.ReadError(f"a header claims {size} bytes")
        data: bytes = self.content.read(size)
        return data


def _open_tar(stream: IO[bytes]) -> tarfile.TarFile:
    """A tar, packed or not. Raises one of `_DAMAGED` for anything else."""
    begin = stream.read(6)
    stream.seek(0)
    content: Any = stream
    if begin[:2] == b"\x1f\x8b":
        content = gzip.GzipFile(fileobj=stream)
    elif begin[:3] == b"BZh":
        content = bz2.BZ2File(stream)
    elif begin == b"\xfd7zXZ\0":
        content = lzma.LZMAFile(stream)  # noqa: SIM115 - closed with the tar
    return tarfile.TarFile(fileobj=_Headers(content))  # type: ignore[arg-type]


def _too_large(size: int) -> str | None:
    return f"it has {size} bytes, at most {MOST_BYTES} are read" if size > MOST_BYTES else None


class ArchiveReader:
    """Reads members of one archive after another; the last archive stays open. For several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._place: str | None = None
        self._opened: list[IO[bytes] | zipfile.ZipFile | tarfile.TarFile] = []
        self._entries: dict[int, zipfile.ZipInfo] = {}  # of a zip, by the place of their headers

    def read(self, place: str, member: Member) -> bytes:
        """The bytes of a member. Raises `SourceError`."""
        with self._lock:
            try:
                data = self._read(place, member)
            except _DAMAGED as error:
                self.close()
                raise SourceError(
                    f"cannot read {member.name} of {shown(place)} ({error}); copy the archive again"
                ) from error
            except KeyError as error:
                raise SourceError(f"{shown(place)} has no {member.name} any more") from error
        if len(data) != member.size:
            raise SourceError(f"{member.name} of {shown(place)} is cut short; copy the archive again")
        return data

    def _read(self, place: str, member: Member) -> bytes:
        if self._place != place:
            self.close()
            stream = open_file(place)
            self._opened.append(stream)
            if member.offset < 0:
                listed = zipfile.ZipFile(stream)
                self._opened.append(listed)
                self._entries = {entry.header_offset: entry for entry in listed.infolist()}
            else:
                self._opened.append(_open_tar(stream))
            self._place = place
        archive: Any = self._opened[-1]
        if member.offset < 0:
            entry = self._entries.get(-1 - member.offset)
            with archive.open(entry if entry is not None and entry.filename == member.name else member.name) as content:
                unzipped: bytes = content.read(member.size + 1)
                return unzipped
        unpacked = archive.fileobj.content
        unpacked.seek(member.offset)  # of a compressed tar, forwards where members are read in their order
        data: bytes = unpacked.read(member.size)
        return data

    def close(self) -> None:
        """Close what is open."""
        for opened in reversed(self._opened):
            opened.close()
        self._opened, self._place = [], None
