"""A webhook's other side that answers badly."""

from __future__ import annotations

import socket
import ssl
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Self

_PERIOD = 0.02  # seconds between two pieces of an answer


class SlowHook:
    """Answers every request with `before`, then with `again` for ever; silent where that is empty.

    `context` is that of TLS.
    """

    def __init__(self, before: bytes, again: bytes, context: ssl.SSLContext | None = None) -> None:
        self.requests = 0
        self._before, self._again = before, again
        self._ended = threading.Event()
        self._server = socket.create_server(("127.0.0.1", 0))
        self._context = context
        self.url = f"http{'' if context is None else 's'}://127.0.0.1:{self._server.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._serve)]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        for thread in self._threads:
            thread.join()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            self._threads.append(threading.Thread(target=self._answer, args=(connection,)))
            self._threads[-1].start()

    def _answer(self, connection: socket.socket) -> None:
        with ExitStack() as closing:
            closing.enter_context(connection)
            try:
                if self._context is not None:
                    connection = closing.enter_context(self._context.wrap_socket(connection, server_side=True))
                if not connection.recv(1 << 20):
                    return
                self.requests += 1
                connection.sendall(self._before)
                while not self._ended.wait(_PERIOD):
                    connection.sendall(self._again)
            except OSError:
                pass
