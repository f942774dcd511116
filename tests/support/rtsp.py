"""An RTSP server for one viewer at a time (RFC 2326, RTP interleaved in the TCP connection), fed by an ffmpeg."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.ffmpeg import sender


class Camera:
    """Forwards the RTP packets that arrive at a UDP port to whoever plays."""

    def __init__(self, packets: socket.socket, description: Path) -> None:
        self._packets = packets
        self._description = description
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._viewer: socket.socket | None = None
        self._playing = False
        self.url = f"rtsp://user:secret@127.0.0.1:{self._listener.getsockname()[1]}/live"
        self.sessions = 0
        for work in (self._serve, self._forward):
            threading.Thread(target=work, daemon=True).start()

    def cut(self) -> None:
        """Drop the viewer without a word."""
        viewer, self._viewer, self._playing = self._viewer, None, False
        if viewer is not None:
            with contextlib.suppress(OSError):  # it may have left by itself
                viewer.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End the server."""
        self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts; closing alone does not
        self._listener.close()
        self.cut()
        self._packets.close()

    def _forward(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                packet = self._packets.recv(65536)
                if self._playing and self._viewer is not None:
                    with contextlib.suppress(OSError):
                        self._viewer.sendall(b"$\0" + len(packet).to_bytes(2, "big") + packet)

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                viewer, _ = self._listener.accept()
                with viewer, contextlib.suppress(OSError, ValueError), viewer.makefile("rb") as requests:
                    self._viewer = viewer
                    while request := self._next(requests):
                        viewer.sendall(self._answer(request).encode())
                        if request.startswith("PLAY"):
                            self._playing = True

    @staticmethod
    def _next(requests: object) -> str:
        """The head of the next request; the viewer's own RTCP packets are passed over."""
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            byte = requests.read(1)  # type: ignore[attr-defined]
            if not byte:
                return ""
            if byte == b"$" and not head:
                size = int.from_bytes(requests.read(3)[1:], "big")  # type: ignore[attr-defined]
                requests.read(size)  # type: ignore[attr-defined]
                continue
            head += byte
        return head.decode()

    def _answer(self, request: str) -> str:
        number = re.search(r"CSeq: *(\d+)", request)
        assert number is not None
        lines, body = ["RTSP/1.0 200 OK", f"CSeq: {number[1]}"], ""
        method = request.split()[0]
        if method == "OPTIONS":
            lines.append("Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN")
        elif method == "DESCRIBE":
            kept = [line for line in self._description.read_text().splitlines() if line.startswith(("v=", "a=", "m="))]
            body = "\r\n".join(re.sub(r"m=video \d+", "m=video 0", line) for line in kept) + "\r\na=control:track\r\n"
            lines += ["Content-Type: application/sdp", f"Content-Length: {len(body)}"]
        elif method == "SETUP":
            lines += ["Transport: RTP/AVP/TCP;unicast;interleaved=0-1", "Session: 1"]
        elif method == "PLAY":
            self.sessions += 1
            lines.append("Session: 1")
        return "\r\n".join(lines) + "\r\n\r\n" + body


@contextmanager
def camera(folder: Path) -> Iterator[Camera]:
    """A camera of 160x120 at 25 frames a second, MPEG-4, for the time of the block."""
    packets = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    packets.bind(("127.0.0.1", 0))
    packets.settimeout(10)
    description = folder / "live.sdp"
    target = f"rtp://127.0.0.1:{packets.getsockname()[1]}"
    with sender("-c:v", "mpeg4", "-g", "5", "-sdp_file", str(description), "-f", "rtp", target):
        packets.recv(65536)  # the first packet: the description is written by now
        server = Camera(packets, description)
        try:
            yield server
        finally:
            server.close()
