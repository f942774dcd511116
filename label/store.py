"""Where the outputs go: a folder of this machine, or of an object store. A file is there whole or not at all."""

from __future__ import annotations

import io
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Protocol

from ..bundle.errors import SinkError, require
from ..runtime.sinks.staging import cannot_write
from .inputs.places import file_system, is_remote, joined, shown

_PARTIAL = re.compile(r"\..+\.[0-9a-f]{8}\.partial")


class Store(Protocol):
    """Files by their names below one folder, `/` between folders."""

    place: str  # as the user named it

    def write(self, name: str, data: bytes) -> None:
        """Write a whole file, replacing it. Raises `SinkError`."""
        ...

    def put(self, name: str, path: Path | None, data: bytes) -> None:
        """Write a file whose content is `data`; it may be made a hard link of `path`, which has the same content."""
        ...

    @contextmanager
    def writing(self, name: str) -> Iterator[IO[str]]:
        """Write a text that does not fit in memory; the file is there when the block ends well."""
        ...

    def read(self, name: str) -> bytes | None:
        """A file's content, or None if there is no such file. Raises `SinkError`."""
        ...

    def names(self, folder: str) -> list[str]:
        """Names of the files in a folder, sorted; none if there is no such folder."""
        ...

    def remove(self, name: str) -> None:
        """Remove a file if there is one."""
        ...


class LocalStore:
    """A folder of this machine."""

    def __init__(self, folder: Path) -> None:
        self.place = str(folder)
        self.folder = folder
        self._made: set[str] = set()

    def path(self, name: str) -> Path:
        """Where a file lies; the folders above it are made."""
        return Path(self._path(name))

    def _path(self, name: str) -> str:
        """As `path`; text, since this is called several times for each picture."""
        folder = name.rpartition("/")[0]
        if folder not in self._made:
            parent = self.folder / folder
            try:
                parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise cannot_write(parent, error) from error
            self._made.add(folder)
        return f"{self.place}/{name}"

    def write(self, name: str, data: bytes) -> None:
        """See `Store`."""
        with self._replacing(name) as work:
            handle = os.open(work, os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_BINARY", 0), 0o666)
            try:
                rest = memoryview(data)
                while rest:
                    rest = rest[os.write(handle, rest) :]
            finally:
                os.close(handle)

    def put(self, name: str, path: Path | None, data: bytes) -> None:
        """See `Store`."""
        if path is None or not self._linked(name, path, len(data)):
            self.write(name, data)

    def _linked(self, name: str, path: Path, size: int) -> bool:
        """Whether a hard link to `path` could be made: on the same file system, and the file is as it was read."""
        target = self._path(name)
        try:
            real = os.path.realpath(path) if os.path.islink(path) else path
            with suppress(FileExistsError):
                os.link(real, target)
                if os.stat(target).st_size == size:
                    return True
                os.unlink(target)
                return False
            work = _work_name(target)
            try:
                os.link(real, work)
                if os.stat(work).st_size != size:
                    return False
                os.replace(work, target)
            finally:
                with suppress(FileNotFoundError):
                    os.unlink(work)  # also where both are the same file already: then nothing is renamed
        except OSError:
            return False
        return True

    @contextmanager
    def writing(self, name: str) -> Iterator[IO[str]]:
        """See `Store`."""
        with self._replacing(name) as work, open(work, "w", encoding="utf-8", newline="\n") as stream:
            yield stream

    @contextmanager
    def _replacing(self, name: str) -> Iterator[str]:
        path = self._path(name)
        work = _work_name(path)
        try:
            yield work
            os.replace(work, path)
        except BaseException as error:
            with suppress(OSError):
                os.unlink(work)
            if isinstance(error, OSError):
                raise cannot_write(Path(path), error) from error
            raise

    def read(self, name: str) -> bytes | None:
        """See `Store`."""
        try:
            return (self.folder / name).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise SinkError(f"cannot read {self.folder / name} ({error.strerror}); check its permissions") from error

    def names(self, folder: str) -> list[str]:
        """See `Store`."""
        with suppress(FileNotFoundError, NotADirectoryError):
            return sorted(entry.name for entry in os.scandir(self.folder / folder) if entry.is_file())
        return []

    def remove(self, name: str) -> None:
        """See `Store`."""
        with suppress(FileNotFoundError):
            (self.folder / name).unlink()

    def remove_partial(self) -> None:
        """Remove what killed processes left half written. Nobody else may be writing."""
        for place, _, names in os.walk(self.folder):
            for name in names:
                if _PARTIAL.fullmatch(name):
                    with suppress(OSError):
                        os.unlink(os.path.join(place, name))


def _work_name(path: str) -> str:
    folder, _, name = path.rpartition("/")
    return f"{folder}/.{name[:100]}.{secrets.token_hex(4)}.partial"


class RemoteStore:
    """A folder of an object store: a file appears when it is closed."""

    def __init__(self, place: str) -> None:
        self.place = shown(place)
        self._address = place

    def write(self, name: str, data: bytes) -> None:
        """See `Store`."""
        files, path = file_system(joined(self._address, name))
        try:
            with files.open_output_stream(path) as stream:
                stream.write(data)
        except OSError as error:
            raise SinkError(
                f"cannot write {self.place}/{name} ({error}); check the address and the credentials"
            ) from error

    def put(self, name: str, path: Path | None, data: bytes) -> None:
        """See `Store`."""
        self.write(name, data)

    @contextmanager
    def writing(self, name: str) -> Iterator[IO[str]]:
        """See `Store`."""
        files, path = file_system(joined(self._address, name))
        try:
            stream = files.open_output_stream(path)
            text = io.TextIOWrapper(stream, encoding="utf-8", newline="\n")
            try:
                yield text
            except BaseException:
                text.detach()  # not closed: what is not complete must not appear
                raise
            text.close()
        except OSError as error:
            raise SinkError(
                f"cannot write {self.place}/{name} ({error}); check the address and the credentials"
            ) from error

    def read(self, name: str) -> bytes | None:
        """See `Store`."""
        files, path = file_system(joined(self._address, name))
        try:
            with files.open_input_stream(path) as stream:
                data: bytes = stream.read()
                return data
        except FileNotFoundError:
            return None
        except OSError as error:
            raise SinkError(
                f"cannot read {self.place}/{name} ({error}); check the address and the credentials"
            ) from error

    def names(self, folder: str) -> list[str]:
        """See `Store`."""
        fs = require("pyarrow.fs", "label")
        files, path = file_system(joined(self._address, folder))
        try:
            entries = files.get_file_info(fs.FileSelector(path, allow_not_found=True))
        except OSError as error:
            raise SinkError(f"cannot list {self.place} ({error}); check the address and the credentials") from error
        return sorted(entry.base_name for entry in entries if entry.type == fs.FileType.File)

    def remove(self, name: str) -> None:
        """See `Store`."""
        files, path = file_system(joined(self._address, name))
        with suppress(FileNotFoundError):
            files.delete_file(path)


def open_store(place: str) -> LocalStore | RemoteStore:
    """The store at a folder or an address. Raises `UsageError`."""
    return RemoteStore(place) if is_remote(place) else LocalStore(Path(place))
