"""The listening socket of the web viewer or of `ovs-serve`, and a limit on its connections.

Connections cost a client nothing, so many idle ones must not keep others out. A new connection is always accepted; at
the limit another one is closed for it: one that is waiting for its client, first among those of the address with the
most connections, and there the one that has been waiting longest.
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
_FIRST_REQUEST = 5.0  # seconds from a connection to the end of its first request's headers


class Connection(asyncio.Protocol):
    """One client's connection: passes everything on to `server`'s protocol for it."""

    def __init__(self, limiter: ConnectionLimiter, inner: web.RequestHandler) -> None:
        self.inner = inner
        self.host = ""  # of the client
        self.since = 0.0  # the loop's time at which it was opened, last sent a request, or was last answered
        self.request: web.Request | None = None  # being answered
        self.has_sent_request = False
        self.exempt = False  # never closed to make room
        self._limiter = limiter
        self._transport: asyncio.Transport | None = None

    @property
    def awaits_client(self) -> bool:
        """Whether the server waits for the client: for a request, the rest of one, or a body."""
        if self.request is not None:
            return not self.request.content.is_eof()
        return self._transport is None or self._transport.get_write_buffer_size() == 0

    def abort(self) -> None:
        """Close the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio when the connection is open."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self.host = str((transport.get_extra_info("peername") or ("",))[0])
        self._limiter.add(self)
        self.inner.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by asyncio when the connection is closed."""
        self._limiter.remove(self)
        self.inner.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Called by asyncio with what the client sent."""
        self.inner.data_received(data)

    def eof_received(self) -> None:
        """Called by asyncio when the client has closed its side."""
        self.inner.eof_received()

    def pause_writing(self) -> None:
        """Called by asyncio when the write buffer is full."""
        self.inner.pause_writing()

    def resume_writing(self) -> None:
        """Called by asyncio when the write buffer has room again."""
        self.inner.resume_writing()


class ConnectionLimiter:
    """A protocol factory for `server` that keeps the number of connections below a limit; for use in one event loop."""

    def __init__(self, server: web.Server) -> None:
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._open: dict[web.RequestHandler, Connection] = {}

    def __call__(self) -> Connection:
        """The protocol of a new connection."""
        return Connection(self, self._server())

    def add(self, connection: Connection) -> None:
        """Count `connection`, and close another one if there are too many."""
        if len(self._open) >= _MOST:
            per_host = Counter(one.host for one in self._open.values())
            closed = min(
                (one for one in self._open.values() if not one.exempt),
                key=lambda one: (-per_host[one.host], not one.awaits_client, one.since),
                default=connection,
            )
            self.remove(closed)
            closed.abort()
        connection.since = self._loop.time()
        self._open[connection.inner] = connection
        self._loop.call_later(_FIRST_REQUEST, self._require_request, connection)

    def remove(self, connection: Connection) -> None:
        """Stop counting `connection`."""
        self._open.pop(connection.inner, None)

    def request_received(self, request: web.Request) -> None:
        """The headers of a request are here."""
        self._set_request(request, request)

    def request_answered(self, request: web.Request) -> None:
        """The answer to a request is complete, though not all of it may have been sent."""
        self._set_request(request, None)

    def exempt(self, request: web.Request) -> None:
        """Never close the connection of this request to make room."""
        if (connection := self._open.get(request.protocol)) is not None:
            connection.exempt = True

    def _set_request(self, request: web.Request, answering: web.Request | None) -> None:
        if (connection := self._open.get(request.protocol)) is not None:
            connection.request, connection.has_sent_request = answering, True
            connection.since = self._loop.time()

    def _require_request(self, connection: Connection) -> None:
        if not connection.has_sent_request and connection.inner in self._open:
            connection.abort()


def bound_socket(address: Address, program: str = "the web viewer", option: str = "--web {}") -> socket.socket:
    """A socket that listens at `address`; raises `SinkError`, with the program's name and how `option` is given,
    otherwise."""
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
        host = f"[{address.host}]" if ":" in address.host else address.host
        other = option.format(f"{host}:{address.port + 1 if 0 < address.port < 65535 else 8080}")
        raise SinkError(
            f"{program} cannot listen at {host}:{address.port} ({reason}); choose another port: {other}"
        ) from error
    return bound
