"""Files and folders that appear whole or not at all, and the user's cache."""

from __future__ import annotations

import ctypes
import errno
import os
import re
import shutil
import stat
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from .addresses import redact_address
from .errors import BundleError, UsageError, note

try:
    import fcntl
except ImportError:  # not on Windows, where stale folders stay
    fcntl = None  # type: ignore[assignment]

_BEGIN = 65536  # bytes in which a result's mark stands
_YOUNG = 5.0  # seconds: an unlocked folder may be one that its owner is just about to lock
_QUIET = 2.0  # seconds that a pipe is waited for without a word
_RETIRED = ".old"  # ends the name of a folder that is about to be replaced
_EXCHANGE, _HERE = 2, -100  # RENAME_EXCHANGE and AT_FDCWD of Linux


@contextmanager
def replacing(path: Path, tag: str = "partial") -> Iterator[Path]:
    """A name beside `path` to write to, which takes its place when the block ends well and is removed when it does not.

    `tag` tells apart processes that may write the same file at once. What the system refuses raises its own `OSError`.
    """
    work = path.with_name(f".{path.name}.{tag}")
    try:
        yield work
        os.replace(work, path)
    except BaseException:
        with suppress(OSError):
            work.unlink(missing_ok=True)
        raise


@contextmanager
def replacing_folder(target: Path, marker: str, kind: str) -> Iterator[Path]:
    """A temporary folder beside `target` that becomes it when the block ends well, and is removed when it does not.

    A folder at `target` that holds a file `marker` is replaced; anything else there is refused with `UsageError`, which
    calls the folder a `kind`, so that a mistyped `-o` deletes nothing. The temporary folder is locked while it is in
    use; those whose owner was killed are removed here. Raises `BundleError` where the system refuses to write.
    """
    refuse_address(target, "the output")
    _recover(target, marker)
    refuse_occupied(target, marker, kind)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        lock = _locked(work)
    except OSError as error:
        raise BundleError(f"cannot write beside {target} ({error}); choose a writable folder with -o") from error
    try:
        yield work
        work.chmod(0o755)
        if target.exists():
            _exchange(target, work)
        else:
            os.rename(work, target)
    except OSError as error:
        raise BundleError(f"cannot write {target} ({error}); free some space or choose another folder") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def refuse_occupied(target: Path, marker: str, kind: str) -> None:
    """Raise `UsageError` for a `target` that holds something else than a folder with the file `marker`."""
    if target.exists() and not (target / marker).is_file():
        raise UsageError(f"{target} exists and is not a {kind}; choose another output or move it away")


def _exchange(target: Path, work: Path) -> None:
    """Put the folder `work` where the folder `target` is, and remove the latter: in one step where Linux can.

    Elsewhere there are two steps; what a kill between them leaves is put back by `_recover`.
    """
    if _exchanged(target, work):
        return
    retired = work.with_name(work.name + _RETIRED)
    try:
        os.rename(target, retired)
        os.rename(work, target)
    finally:
        if retired.exists():
            shutil.rmtree(retired) if target.exists() else os.rename(retired, target)


def _exchanged(one: Path, other: Path) -> bool:
    """Exchange two names in one step (renameat2); False where the system or the file system cannot."""
    try:
        call = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):
        return False
    return bool(call(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE) == 0)


def _recover(target: Path, marker: str) -> None:
    """Remove temporary folders of `target` that no process uses; put the old folder back if a kill left nothing else."""
    pattern = re.compile(rf"\.{re.escape(target.name)}\.[a-z0-9_]{{8}}({re.escape(_RETIRED)})?")
    with suppress(OSError):
        found = [Path(entry.path) for entry in os.scandir(target.parent) if pattern.fullmatch(entry.name)]
        for folder in sorted(found, key=lambda path: not path.name.endswith(_RETIRED)):
            if not folder.is_dir() or folder.is_symlink() or not _is_stale(folder):
                continue
            if folder.name.endswith(_RETIRED) and not target.exists() and (folder / marker).is_file():
                os.rename(folder, target)
            else:
                shutil.rmtree(folder, ignore_errors=True)


def _is_stale(folder: Path) -> bool:
    """Whether no process holds the folder's lock. Without locks nothing is known to be stale."""
    if fcntl is None or time.time() - folder.stat().st_mtime < _YOUNG:
        return False
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(handle)
    return True


def _locked(folder: Path) -> int | None:
    """The open, locked folder; the system lets go of the lock when the process ends, however it ends."""
    if fcntl is None:
        return None
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):  # another process looks whether it is stale
            fcntl.flock(handle, fcntl.LOCK_EX)
    return handle


def refuse_address(output: str | Path, option: str) -> None:
    """Raise `UsageError` for an output that is a URL, which would become folders of that name."""
    found = re.match(r"([A-Za-z][A-Za-z0-9+.-]+):/", str(output))
    if found is not None and not os.path.exists(found[0]):
        raise UsageError(f"{option} is {redact_address(str(output))}, expected a file or folder of this machine")


def refuse_other_file(output: Path, mark: bytes, option: str = "-o") -> None:
    """Raise `UsageError` if a file stands at `output` that does not begin as the command's results do.

    `mark` stands in the first bytes of every result. An address is refused, too.
    """
    refuse_address(output, option)
    try:
        if not output.is_file():
            return
        with output.open("rb") as stream:
            begin = stream.read(_BEGIN)
    except (OSError, ValueError):
        return  # whoever writes says what is wrong with the name
    if begin and mark not in begin:
        raise UsageError(f"{output} exists and is no result of this command; choose another name with {option}")


def read_bounded(path: Path, most: int) -> bytes:
    """The content of a file of at most `most` bytes; a device or pipe is read no further. Raises `OSError` (EFBIG)."""
    with told_while_waiting(path, "writes to"), path.open("rb") as stream:
        return at_most(stream.read(most + 1), most)


def is_named_pipe(path: str | Path) -> bool:
    """Whether a pipe stands at `path`, which hangs whoever opens it until another program opens its other end.

    The pipe of a process substitution, `<(command)`, has its program already and is none.
    """
    try:
        return stat.S_ISFIFO(os.stat(path).st_mode) and os.path.exists(os.path.realpath(path))
    except (OSError, ValueError):
        return False


def refuse_pipe(path: str | Path, what: str) -> None:
    """Raise `UsageError` for a named pipe at `path`; `what` is the option or the file, for the message."""
    if is_named_pipe(path):
        raise UsageError(f"{what}: {str(path)!r} is a pipe, expected a file; give a file's path")


@contextmanager
def told_while_waiting(path: str | Path, does: str) -> Iterator[None]:
    """A note, if opening and reading a named pipe at `path` takes long; `does` is what its other end is waited for."""
    if not is_named_pipe(path):
        yield
        return
    timer = threading.Timer(
        _QUIET, note, (f"waiting for a program that {does} the pipe {str(path)!r}; Ctrl-C ends it",)
    )
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def at_most(content: bytes, most: int) -> bytes:
    """`content`; raises `OSError` (EFBIG) where it has more than `most` bytes."""
    if len(content) > most:
        raise OSError(errno.EFBIG, f"it is larger than {most >> 20} MiB" if most >> 20 else f"more than {most} bytes")
    return content


def cache_folder(name: str) -> Path:
    """`$XDG_CACHE_HOME/ovs-edge/NAME`, or the same under `~/.cache`.

    A user without a home, as in `docker run --user 12345`, gets a folder of their own under the system's temporary one.
    """
    root = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(root):  # the XDG specification has relative paths ignored
        return Path(root) / "ovs-edge" / name
    home = os.path.expanduser("~")
    if os.path.isabs(home):
        return Path(home) / ".cache" / "ovs-edge" / name
    return _private_folder() / name


@cache
def _private_folder() -> Path:
    """A folder under the temporary one that only this user can write to: others must not plant engines in it."""
    user = os.getuid() if hasattr(os, "getuid") else 0
    folder = Path(tempfile.gettempdir()) / f"ovs-edge-{user}"
    with suppress(OSError):
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        if stat.S_ISDIR(found.st_mode) and found.st_uid == user and not found.st_mode & 0o022:
            return folder
    return Path(tempfile.mkdtemp(prefix="ovs-edge-"))
