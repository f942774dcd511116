"""A webhook's other side that answers badly."""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Self

_PERIOD = 0.02  # seconds between two pieces of an answer


class SlowHook:
    """Answers every request with `before`, then with `again` for ever; silent where that is empty."""

    def __init__(self, before: bytes, again: bytes) -> None:
        self.requests = 0
        self._before, self._again = before, again
        self._ended = threading.Event()
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}"
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
        with connection:
            try:
                connection.recv(1 << 20)
                self.requests += 1
                connection.sendall(self._before)
                while not self._ended.wait(_PERIOD):
                    connection.sendall(self._again)
            except OSError:
                pass
