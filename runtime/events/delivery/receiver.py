"""What every way of delivery offers, and how its failures are told apart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol
from urllib.parse import urlsplit, urlunsplit

from .spool import SpooledEvent


class Undelivered(Exception):
    """The receiver cannot be reached or is busy: the event is tried again.

    `wait`: whether to wait longer and longer before that; False where the receiver has waited itself. `told`: whether
    the receiver has told the reason itself.
    """

    def __init__(self, reason: str, *, wait: bool = True, told: bool = False) -> None:
        super().__init__(reason)
        self.wait = wait
        self.told = told


class Refused(Exception):
    """The receiver will never take this event: it is dropped, and the reason is told."""


class ReceiverGone(Exception):
    """There will never be a receiver again: standard output, whose reader has left."""


class Receiver(Protocol):
    """One way of delivery. `deliver` and `close` are called by one thread, one event at a time."""

    @property
    def name(self) -> str:
        """For messages, without secrets: "webhook https://example.org/hook"."""
        ...

    @property
    def key(self) -> str | None:
        """What names the receiver on disk: events that wait for the same key go to the same receiver.

        None: it is there for this run alone, and so events for it wait in memory.
        """
        ...

    def deliver(self, event: SpooledEvent, stopped: Callable[[], bool]) -> None:
        """Return once the receiver has the event, whatever it does within a bounded time.

        Raises `Undelivered`, also soon after `stopped` became true, `Refused`, `ReceiverGone`.
        """
        ...

    def close(self) -> None:
        """Free everything, within a bounded time."""
        ...


def without_login(url: str) -> str:
    """`url` without user and password: events that wait stay where they are when a password is corrected."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
