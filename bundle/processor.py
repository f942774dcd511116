"""What this machine's processor can do, as far as files made for it or the work on it depend on that."""

from __future__ import annotations

import os
import platform
from functools import cache
from pathlib import Path
from typing import Literal

Processor = Literal["vnni", "x86", "arm"]
_CPUINFO = Path("/proc/cpuinfo")
_SIBLINGS = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"


@cache
def has_vnni() -> bool:
    """Whether products of bytes are added in 32 bits; where nothing tells (only Linux does), they are not."""
    try:
        lines = _CPUINFO.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return False
    flags = next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), [])
    return bool({"avx_vnni", "avx512_vnni"} & set(flags))


def processor() -> Processor:
    """The kind of this machine's processor."""
    if platform.machine().lower() in ("aarch64", "arm64", "armv7l"):
        return "arm"
    return "vnni" if has_vnni() else "x86"


def usable_processors() -> list[int]:
    """Numbers of the hardware threads that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def usable_cores() -> int:
    """Cores that this process may use; two hardware threads of one core count once, where the system tells."""
    processors = usable_processors()
    try:
        return len({Path(_SIBLINGS.format(number)).read_text(encoding="ascii") for number in processors})
    except OSError:
        return len(processors)
