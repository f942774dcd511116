"""What a process has left on an MQTT broker for good (retained), remembered beside the events that wait.

A rule or a camera may be taken out of the configuration while nothing runs. The next run of the same configuration
finds here which topics it has to clear.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path

from .....bundle.errors import SinkError
from .....bundle.files import read_bounded, replacing

_MOST_PROCESSES = 16  # of one configuration at the same time
_LONGEST = 2**22  # bytes of the file


class AnnouncedTopics:
    """The topics of one configuration on one broker. A second process of the same configuration has a file of its own."""

    def __init__(self, folder: Path, broker: str, origin: str) -> None:
        """`origin` names the configuration: its file, or its cameras. Raises `SinkError`."""
        self._folder, self._broker = folder, broker
        self.digest = hashlib.sha256(f"{broker} {origin}".encode("utf-8", "surrogateescape")).hexdigest()[:8]
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.number, self._lock = self._locked()
        except OSError as error:
            raise SinkError(
                f"topics cannot be remembered in {folder} ({error}); choose another folder: [spool] folder = …"
            ) from error
        self._path = self._file(f"{self.digest}-{self.number}")
        self.topics = _read(self._path, broker)

    def remember(self, topics: Iterable[str]) -> None:
        """From now on `topics` are what is on the broker. Raises `OSError`."""
        topics = frozenset(topics)
        if topics == self.topics:
            return
        with replacing(self._path) as partial:
            partial.write_text(
                json.dumps({"broker": self._broker, "topics": sorted(topics)}, indent=1), encoding="utf-8"
            )
        self.topics = topics

    def elsewhere(self) -> frozenset[str]:
        """Topics on the same broker that other running processes of this user have announced."""
        found: frozenset[str] = frozenset()
        for path in self._folder.glob("announced-*.json"):
            if path != self._path and _is_locked(path.with_suffix(".lock")):
                found |= _read(path, self._broker)
        return found

    def close(self) -> None:
        """Let another process have the file; may be called more than once."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _file(self, name: str, suffix: str = "json") -> Path:
        return self._folder / f"announced-{name}.{suffix}"

    def _locked(self) -> tuple[int, int | None]:
        for number in range(_MOST_PROCESSES):
            path = self._file(f"{self.digest}-{number}", "lock")
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                os.close(handle)
                if not isinstance(error, BlockingIOError):
                    raise
            else:
                return number, handle
        raise OSError(f"{_MOST_PROCESSES} processes with the same configuration run already")


def _is_locked(path: Path) -> bool:
    """Whether a process runs that has locked the file at `path`; also where nobody can say, as with another user's."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False


def _read(path: Path, broker: str) -> frozenset[str]:
    """The topics in the file at `path`; none where it is not there, or of another broker, or broken."""
    try:
        found = json.loads(read_bounded(path, _LONGEST))
    except (OSError, ValueError, RecursionError):
        return frozenset()
    if not isinstance(found, dict) or found.get("broker") != broker or not isinstance(found.get("topics"), list):
        return frozenset()
    return frozenset(
        topic for topic in found["topics"] if isinstance(topic, str) and topic and not set(topic) & set("+#\0")
    )
