"""One HTTP request and its answer, which can be given up at any moment."""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from urllib.parse import urlsplit

_TICK = 0.05  # seconds between two looks at whether the run has ended
_MOST = 64 * 1024  # bytes of an answer that are read


class HttpConnection:
    """A connection that another thread can cut. Everything but `cut` is for one thread at a time."""

    def __init__(self, url: str, timeout: float) -> None:
        """`timeout` in seconds is that of each step; nothing is connected yet."""
        parts = urlsplit(url)
        assert parts.hostname is not None
        self._host, self._timeout = parts.hostname, timeout
        self._context = ssl.create_default_context() if parts.scheme == "https" else None
        self._http = (
            http.client.HTTPConnection(self._host, parts.port or http.client.HTTP_PORT)
            if self._context is None
            else http.client.HTTPSConnection(self._host, parts.port or http.client.HTTPS_PORT, context=self._context)
        )
        self._socket: socket.socket | None = None
        self._is_cut = False

    @property
    def is_open(self) -> bool:
        """Whether a request goes over a connection that is there already."""
        return self._http.sock is not None

    def post(self, target: str, data: bytes, headers: Mapping[str, str], answered: Callable[[int], None]) -> None:
        """Send a request and read the answer; `answered` is called with its status once that is there.

        Raises `OSError`, `http.client.HTTPException`, `ValueError`.
        """
        if not self.is_open:
            self._open()
        self._http.request("POST", target, data, dict(headers))
        answer = self._http.getresponse()
        answered(answer.status)
        answer.read(_MOST)
        if answer.will_close or not answer.isclosed():
            self.close()

    def cut(self) -> None:
        """End what another thread waits for on this connection; that thread gets an `OSError`."""
        self._is_cut = True
        if (connection := self._socket) is not None:
            with suppress(OSError):
                socket.socket.shutdown(connection, socket.SHUT_RDWR)  # not TLS's own, which would wait

    def close(self) -> None:
        """Close the connection; the next request opens another one."""
        self._http.close()
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _open(self) -> None:
        """Connect, with every step on a socket that `cut` reaches."""
        plain = socket.create_connection((self._host, self._http.port), self._timeout)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._hold(plain)
        if self._context is not None:
            secure = self._context.wrap_socket(plain, server_hostname=self._host, do_handshake_on_connect=False)
            self._hold(secure)
            secure.do_handshake()
        self._http.sock = self._socket

    def _hold(self, connection: socket.socket) -> None:
        self._socket = connection
        if self._is_cut:
            raise ConnectionAbortedError("the request was given up")


class Exchange:
    """A request on its way, in a thread of its own: neither a name server nor a handshake nor an answer that comes byte
    by byte can hold up whoever waits for it."""

    def __init__(self, connection: HttpConnection, target: str, data: bytes, headers: Mapping[str, str]) -> None:
        """Sends the request; returns at once."""
        self.status: int | None = None  # of the answer; None: none has come
        self.error: Exception | None = None
        self._connection = connection
        self._given_up = False
        self._ended = threading.Event()
        self._thread = threading.Thread(
            target=self._run, args=(target, data, headers), name="webhook request", daemon=True
        )
        self._thread.start()

    def wait(self, seconds: float, stopped: Callable[[], bool]) -> bool:
        """Wait for the end, up to `seconds` or until `stopped`; False: it was given up, and the connection with it."""
        end = time.monotonic() + seconds
        while not self._ended.wait(_TICK):
            if stopped() or time.monotonic() >= end:
                self._given_up = True
                self._connection.cut()
                return False
        return True

    def _run(self, target: str, data: bytes, headers: Mapping[str, str]) -> None:
        try:
            reused = self._connection.is_open
            try:
                self._connection.post(target, data, headers, self._answered)
            except (ConnectionError, http.client.BadStatusLine):
                # A server closes a connection that was quiet for long; on a new one the request is the first.
                self._connection.close()
                if not reused or self._given_up or self.status is not None:
                    raise
                self._connection.post(target, data, headers, self._answered)
        except Exception as error:  # noqa: BLE001 - it is for the thread that waits
            self.error = error
            self._connection.close()
        finally:
            self._ended.set()
            if self._given_up:
                self._connection.close()

    def _answered(self, status: int) -> None:
        if not self._given_up:  # else it is half an answer, which ends where the connection was cut
            self.status = status
