"""Where the web viewer listens, and what it says when nobody more fits in."""

from __future__ import annotations

import asyncio
import socket

from ovs_edge.bundle.errors import SinkError
from ovs_edge.runtime.web_guard import Address


class Full(asyncio.Protocol):
    """Turns a connection away when there are too many."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
        transport.close()


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
            bound.listen(128)
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
