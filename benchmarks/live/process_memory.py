"""Memory of a server and of every process that it started, by what they are."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ServerMemory:
    """Resident memory in MiB, without what processes share."""

    server_mib: float  # the HTTP server
    replicas_mib: float
    ray_mib: float  # everything else


def server_memory(server: int) -> ServerMemory:
    """Of the process `server` and its descendants, from /proc; zeros where there is none."""
    parents: dict[int, int] = {}
    for place in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, ValueError):  # processes come and go
            # After the name, which may hold anything: state, parent, …
            parents[int(place.name)] = int((place / "stat").read_text().rpartition(")")[2].split()[1])
    mine = replicas = rest = 0.0
    for process in parents:
        if process == server:
            mine += _own_mib(process)
        elif _descends(process, server, parents):
            size = _own_mib(process)
            if "ServeReplica" in _command(process):
                replicas += size
            else:
                rest += size
    return ServerMemory(round(mine, 1), round(replicas, 1), round(rest, 1))


def _descends(process: int, ancestor: int, parents: dict[int, int]) -> bool:
    while process in parents and process != ancestor:
        process = parents[process]
    return process == ancestor


def _own_mib(process: int) -> float:
    with suppress(OSError, ValueError):
        for line in Path(f"/proc/{process}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) / 1024
    return 0.0


def _command(process: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
    return ""
