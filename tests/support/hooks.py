"""A webhook's other side: one that keeps what it was sent, and one that answers badly."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import Self

_PERIOD = 0.02  # seconds between two pieces of an answer


class Hook(ThreadingHTTPServer):
    """Answers with `statuses`, in turn, then with 204; keeps what it was sent."""

    def __init__(self, *statuses: int, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.statuses = list(statuses)
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.thread = threading.Thread(target=self.serve_forever, args=(0.01,))
        self.thread.start()

    @property
    def numbers(self) -> list[int]:
        """Of the events that were taken."""
        return [json.loads(body)["number"] for headers, body in self.got if headers["taken"] == "204"]

    def end(self) -> None:
        self.shutdown()
        self.server_close()
        self.thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hook

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        status = self.server.statuses.pop(0) if self.server.statuses else 204
        self.server.got.append(({**dict(self.headers.items()), "taken": str(status)}, body))
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *parts: Any) -> None: ...


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
