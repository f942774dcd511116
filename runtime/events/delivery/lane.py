"""One way of delivery: a receiver, the events that wait for it, and the thread that delivers them."""

from __future__ import annotations

import json
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from ....bundle.errors import SinkError
from ..event import EventKind
from ..rules import Rule
from .receiver import Receiver, ReceiverGone, Refused, Undelivered
from .spool import Spool, SpooledEvent

_FIRST_WAIT, _LONGEST_WAIT = 0.5, 60.0  # seconds between two attempts; each is twice the one before, within these
_ATTEMPTS = 5  # at an event whose delivery fails in a way that nobody has foreseen
_ADOPT = 60.0  # seconds between two looks at what runs that are gone have left
_AGAIN = 1.0  # seconds between two attempts to bring the disk up to date, while nothing else is to do
_TICK = 0.05  # seconds between two looks at whether the run has ended
_FIELDS = ("id", "camera", "rule")  # text, in every event


@dataclass(frozen=True)
class DeliveryState:
    """One way of delivery at one moment."""

    name: str
    delivered: int  # since the start
    waiting: int
    dropped: int  # that found no room, were refused or could not be read
    error: str | None  # why the last attempt failed; None if it did not


class Lane:
    """Whatever becomes of one event, the next one is delivered; whatever the receiver does, the lane can be ended."""

    def __init__(
        self,
        receiver: Receiver,
        folder: Path | None,
        limits: tuple[int, int],
        tell: Callable[[str], None],
        *,
        snapshots: bool,
    ) -> None:
        """`folder` is that of what waits on disk, None where `receiver` has no key.

        `limits` are events and bytes that wait at most; `snapshots`: whether the receiver sends pictures.

        Raises `SinkError` where events cannot be kept; then `receiver` is the caller's to close.
        """
        self.snapshots = snapshots
        self.gone = False  # whether the receiver will never be there again
        self._receiver = receiver
        self._tell = tell
        key = receiver.key
        self._place = folder, key  # where events wait
        self._spool = Spool(folder, key or "", *limits)
        self._unreadable: set[str] = set()  # what was told of files that cannot be taken over
        self._adopt()
        self._lock = threading.Lock()  # of what follows
        self._held: deque[tuple[str, bytes | None]] | None = None  # events that come while the lane is replaced
        self._successor: Lane | None = None
        self._left = 0  # events on disk when it ended, until that is told
        self._full = self._troubled = False  # what was told
        self._wake = threading.Event()
        self._deadline: float | None = None  # time.monotonic() from which nothing is attempted any more
        self._delivered = self._refused = 0
        self._error: str | None = None
        self._strange = 0  # failures in a row that nobody has foreseen
        self._wait = _FIRST_WAIT
        self._thread = threading.Thread(target=self._run, name=f"events to {receiver.name}", daemon=True)
        self._thread.start()

    @property
    def state(self) -> DeliveryState:
        """How the way is."""
        dropped = self._spool.dropped + self._refused
        return DeliveryState(self._receiver.name, self._delivered, len(self._spool), dropped, self._error)

    def append(self, text: str, snapshot: bytes | None) -> None:
        """Add an event; it is on disk afterwards, or in memory where the disk takes none."""
        with self._lock:  # so that the lane is not ended between the look and the act
            if self._held is not None:
                self._held.append((text, snapshot))
            elif self._successor is not None:
                self._successor.append(text, snapshot)
            elif not self.gone:
                self._spool.append(text, snapshot if self.snapshots else None)
                self._tell_room()
                self._wake.set()

    def reconfigure(self, cameras: Mapping[str, Mapping[str, Rule]]) -> None:
        """Tell a receiver that lists the rules (Home Assistant) of other ones."""
        change = getattr(self._receiver, "reconfigure", None)
        if change is not None:
            change(cameras)

    def stop(self, deadline: float, *, hold: bool = False) -> None:
        """Deliver what waits until `deadline`, a value of `time.monotonic()`, and end; returns at once.

        `hold`: events that come meanwhile wait for a successor.
        """
        if hold:
            with self._lock:
                self._held = deque()
        self._deadline = deadline
        self._wake.set()

    def join(self, seconds: float) -> None:
        """Wait for the end, up to `seconds`. A thread that does not end then is left behind, and that is told."""
        self._thread.join(seconds)
        if self._thread.is_alive():
            left = len(self._spool)
            self._tell(f"{self._receiver.name}: it does not come to an end and is left behind; {left} events wait")

    def hand_over(self, successor: Lane | None) -> None:
        """Give events that came since `stop`, and those that still come, to `successor`; None: nobody wants them."""
        with self._lock:
            held, self._held, self._successor = self._held, None, successor
            if successor is None or successor._place != self._place:
                self._tell_left("a run with the configuration of before delivers them")
            for text, snapshot in held or ():
                if successor is not None:
                    successor.append(text, snapshot)

    # -- the thread --------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        with closing(self._receiver):
            try:
                self._work()
            finally:
                self._end()

    def _work(self) -> None:
        look = time.monotonic() + _ADOPT
        while not self._stopped() and not self.gone:
            self._spool.store()
            self._tell_damage()
            with self._lock:
                self._tell_room()
            if time.monotonic() >= look:
                self._adopt()
                look = time.monotonic() + _ADOPT
            try:
                event = self._spool.first()
            except SinkError as error:
                self._failed(str(error))
                continue
            if event is not None:
                self._attempt(event)
            elif self._deadline is not None:
                break
            else:
                self._wake.wait(_ADOPT if self._spool.trouble is None else _AGAIN)
                self._wake.clear()

    def _attempt(self, event: SpooledEvent) -> None:
        """Deliver `event` and take it out; or drop it; or leave it for the next attempt."""
        try:
            _refuse_foreign(event.text)
            self._receiver.deliver(event, self._stopped)
        except Undelivered as error:
            self._failed(str(error), wait=error.wait, told=error.told)
            return
        except ReceiverGone:
            self.gone = True
            return
        except Refused as error:
            self._drop(str(error))
        except Exception as error:  # noqa: BLE001 - one event must not end the way
            said = f"{type(error).__name__}: {error}"
            self._strange += 1
            if self._strange < _ATTEMPTS:
                self._failed(said)
                return
            self._drop(said)
        else:
            self._delivered += 1
        self._spool.remove(event)
        if self._error is not None:
            self._tell(f"{self._receiver.name}: events arrive again; {len(self._spool)} still wait")
        self._error, self._wait, self._strange = None, _FIRST_WAIT, 0

    def _drop(self, reason: str) -> None:
        self._refused += 1
        self._tell(f"{self._receiver.name}: an event is dropped: {reason}")

    def _failed(self, reason: str, *, wait: bool = True, told: bool = False) -> None:
        """Tell of the first failure in a row, and wait longer after each."""
        if self._stopped():
            return  # it was ended by the end of the run
        if self._error is None and not told:
            self._tell(f"{self._receiver.name}: {reason}; events wait{' on disk' if self._spool.persistent else ''}")
        self._error = reason
        if wait:
            self._pause(self._wait * random.uniform(0.75, 1.25))
            self._wait = min(_LONGEST_WAIT, 2 * self._wait)

    def _end(self) -> None:
        """Close what waits, and tell how much that is; a successor that delivers it need not be told."""
        lost = self._spool.close()
        reason = self._spool.trouble if self._spool.persistent else "they were not taken in time"
        if lost and not self.gone:
            self._tell(f"{self._receiver.name}: {lost} events are lost: {reason}")
        with self._lock:
            self._left = len(self._spool) - lost
            if self._held is None:
                self._tell_left("the next run delivers them")

    def _tell_left(self, when: str) -> None:
        if self._left:
            self._tell(f"{self._receiver.name}: {self._left} events wait on disk; {when}")
        self._left = 0

    def _stopped(self) -> bool:
        return self._deadline is not None and time.monotonic() >= self._deadline

    def _pause(self, seconds: float) -> None:
        """Wait, though not past the end of the run."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0 and not self._stopped():
            time.sleep(min(left, _TICK))

    # ----------------------------------------------------------------------------------------------------------------

    def _adopt(self) -> None:
        try:
            self._spool.adopt()
        except SinkError as error:
            if str(error) not in self._unreadable:
                self._unreadable.add(str(error))
                self._tell(f"{self._receiver.name}: {error}")
        self._tell_damage()

    def _tell_damage(self) -> None:
        while self._spool.damage:
            self._tell(f"{self._receiver.name}: {self._spool.damage.pop(0)}")

    def _tell_room(self) -> None:
        """Tell, once, that the oldest events are dropped, and when events wait in memory alone; called with the lock."""
        trouble, name = self._spool.trouble, self._receiver.name
        if self._spool.dropped and not self._full:
            self._full = True
            self._tell(f"{name}: too many events wait; the oldest are dropped")
        if (trouble is not None) != self._troubled:
            self._troubled = trouble is not None
            self._tell(
                f"{name}: events are on disk again"
                if trouble is None
                else f"{name}: events cannot be kept on disk ({trouble}) and wait in memory; free some space"
            )


def _refuse_foreign(text: str) -> None:
    """Raise `Refused` for what is no event, from a damaged file."""
    try:
        event = json.loads(text)
    except (ValueError, RecursionError):
        event = None
    kinds = {kind.value for kind in EventKind}
    if (
        not isinstance(event, dict)
        or not all(isinstance(event.get(name), str) for name in _FIELDS)
        or event.get("kind") not in kinds
        or not (event["id"].isascii() and event["id"].isprintable())
    ):
        raise Refused("what waited on disk is no event")
