"""Outputs that appear whole: written beside their place under another name, and moved there when complete."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

from ...bundle.errors import SinkError


def cannot_write(target: Path, error: OSError | ValueError) -> SinkError:
    """The one line for an output that the system refuses, or whose name it does."""
    reason = getattr(error, "strerror", None) or error
    return SinkError(
        f"cannot write {str(target)[:200]!r} ({reason}); free some space or choose another place, "
        "in a folder you may write to"
    )


class Staged:
    """`work` is where to write; `commit` moves it to `target`; `discard` leaves no trace of it.

    For a folder, `commit` adds the files of `work` to those already in `target`, replacing equal names.
    """

    def __init__(self, target: Path, folder: bool = False) -> None:
        """Raises `SinkError` when something else stands at `target`, or nothing can be written beside it."""
        self.target = target
        self._folder = folder
        self._made: list[Path] = []
        try:
            # Through a link, the file it names is replaced, not the link.
            self._place = Path(os.path.realpath(target))
            if self._place.exists() and self._place.is_dir() != folder:
                kind = ("a folder", "a file") if folder is False else ("a file", "a folder")
                raise SinkError(f"{target} is {kind[0]}, expected {kind[1]} or nothing there; choose another name")
            self.work = self._place.with_name(f".{self._place.stem}.{os.getpid()}.partial{self._place.suffix}")
            self._make_parents(self._place.parent)
            if folder:
                self.work.mkdir()
            else:
                os.close(os.open(self.work, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        except (OSError, ValueError) as error:
            self._remove_parents()
            raise cannot_write(target, error) from error

    def commit(self) -> None:
        """Move everything to its place. Raises `SinkError`."""
        try:
            if not self._folder or not self._place.exists():
                os.replace(self.work, self._place)
            else:
                for file in sorted(self.work.iterdir()):
                    os.replace(file, self._place / file.name)
                self.work.rmdir()
        except OSError as error:
            self.discard()
            raise cannot_write(self.target, error) from error
        self._made.clear()

    def discard(self) -> None:
        """Remove what was written; nothing happens after `commit`."""
        if self._folder:
            shutil.rmtree(self.work, ignore_errors=True)
        else:
            with suppress(OSError):
                self.work.unlink()
        self._remove_parents()

    def _make_parents(self, folder: Path) -> None:
        missing = [path for path in (folder, *folder.parents) if not path.exists()]
        for path in reversed(missing):
            path.mkdir()
            self._made.append(path)

    def _remove_parents(self) -> None:
        for path in reversed(self._made):
            with suppress(OSError):  # not empty: someone else uses it by now
                path.rmdir()
        self._made.clear()
