"""What this machine's processor can do, as far as files made for it depend on that."""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path
from typing import Literal

Processor = Literal["vnni", "x86", "arm"]
_CPUINFO = Path("/proc/cpuinfo")


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
