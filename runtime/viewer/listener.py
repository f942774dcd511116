"""Where the web viewer listens, and who has to leave when more come than fit in.

A connection costs whoever makes it nothing, so a crowd of them that says nothing must not keep others out. Nobody is
turned away at the door: for one more to come in, one leaves whose turn it is to speak, first among those of the address
with the most connections, and there the one that has kept the server waiting longest.
"""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from typing import TYPE_CHECKING

from ...bundle.errors import SinkError
from .access import Address

if TYPE_CHECKING:
    from aiohttp import web

_MOST = 128  # connections
_FIRST_WORDS = 5.0  # seconds from a connection to the end of its first request's headers


class Connection(asyncio.Protocol):
    """One client's connection: all that comes goes on to `server`'s protocol for it."""

    def __init__(self, door: Door, inner: web.RequestHandler) -> None:
        self.inner = inner
        self.host = ""  # of the client
        self.since = 0.0  # the loop's time at which it came, was last heard, or last answered
        self.request: web.Request | None = None  # being answered
        self.spoke = False  # whether a request of it ever came
        self.stays = False  # whether it is never the one to leave
        self._door = door
        self._transport: asyncio.Transport | None = None

    @property
    def silent(self) -> bool:
        """Whether it is the client's turn: with a request, with the rest of one, or with a body."""
        if self.request is not None:
            return not self.request.content.is_eof()
        return self._transport is None or self._transport.get_write_buffer_size() == 0

    def leave(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It has come in."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self.host = str((transport.get_extra_info("peername") or ("",))[0])
        self._door.enter(self)
        self.inner.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """It has gone."""
        self._door.forget(self)
        self.inner.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """It says something."""
        self.inner.data_received(data)

    def eof_received(self) -> None:
        """It will say no more."""
        self.inner.eof_received()

    def pause_writing(self) -> None:
        """It takes less than it is sent."""
        self.inner.pause_writing()

    def resume_writing(self) -> None:
        """It takes more."""
        self.inner.resume_writing()


class Door:
    """Makes the protocol of each new connection to `server`; for use in one event loop."""

    def __init__(self, server: web.Server) -> None:
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._inside: dict[web.RequestHandler, Connection] = {}

    def __call__(self) -> Connection:
        """A protocol for one more."""
        return Connection(self, self._server())

    def enter(self, connection: Connection) -> None:
        """Let `connection` in, and another one out if need be."""
        if len(self._inside) >= _MOST:
            crowds = Counter(one.host for one in self._inside.values())
            leaving = min(
                (one for one in self._inside.values() if not one.stays),
                key=lambda one: (-crowds[one.host], not one.silent, one.since),
                default=connection,
            )
            self.forget(leaving)
            leaving.leave()
        connection.since = self._loop.time()
        self._inside[connection.inner] = connection
        self._loop.call_later(_FIRST_WORDS, self._expect_words, connection)

    def forget(self, connection: Connection) -> None:
        """It does not count any more."""
        self._inside.pop(connection.inner, None)

    def begin(self, request: web.Request) -> None:
        """A request's headers are here."""
        self._at(request, request)

    def end(self, request: web.Request) -> None:
        """The answer to a request is complete, though not all of it may have left."""
        self._at(request, None)

    def keep(self, request: web.Request) -> None:
        """Whoever made this request stays until it leaves by itself."""
        if (connection := self._inside.get(request.protocol)) is not None:
            connection.stays = True

    def _at(self, request: web.Request, answering: web.Request | None) -> None:
        if (connection := self._inside.get(request.protocol)) is not None:
            connection.request, connection.spoke, connection.since = answering, True, self._loop.time()

    def _expect_words(self, connection: Connection) -> None:
        if not connection.spoke and connection.inner in self._inside:
            connection.leave()


def bound_socket(address: Address) -> socket.socket:
    """A socket that listens at `address`; raises `SinkError` when that cannot be."""
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, kind, protocol)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port just left counts as free
            bound.bind(place)
            bound.listen(_MOST)
        except BaseException:
            bound.close()
            raise
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SinkError(
            f"the web viewer cannot listen at {address.host}:{address.port} ({reason}); "
            f"choose another port: --web {address.host}:{address.port + 1 if address.port else 8080}"
        ) from error
    return bound
