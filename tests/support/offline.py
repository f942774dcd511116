"""Runs a command in an empty network namespace and prints, as JSON, its exit code and the host names it looked up.

Usage: unshare -rnm python offline.py FOLDER COMMAND...   FOLDER is a scratch folder.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path

_SIOCSIFFLAGS, _UP_AND_RUNNING, _MS_BIND = 0x8914, 0x41, 4096


def main() -> None:
    folder, *command = sys.argv[1:]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sH14s", b"lo", _UP_AND_RUNNING, b""))
    resolver = Path(folder) / "resolv.conf"
    resolver.write_text("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
    if ctypes.CDLL(None, use_errno=True).mount(str(resolver).encode(), b"/etc/resolv.conf", None, _MS_BIND, None):
        sys.exit("cannot mount a resolv.conf")
    asked: list[str] = []
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 53))

    def serve() -> None:
        while True:
            asked.append(server.recv(2000)[12:].split(b"\0")[0].decode("ascii", "replace"))

    threading.Thread(target=serve, daemon=True).start()
    ran = subprocess.run(command, check=False, capture_output=True, text=True)
    print(json.dumps({"code": ran.returncode, "stderr": ran.stderr, "lookups": asked}))


if __name__ == "__main__":
    main()
