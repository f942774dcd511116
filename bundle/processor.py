"""What this machine's processor can do, as far as files made for it or the work on it depend on that."""

from __future__ import annotations

import math
import os
import platform
from contextlib import suppress
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
    """Numbers of the hardware threads that this process may use: its affinity, cut to a container's CPU quota."""
    found = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
    quota = cpu_quota()
    return found if quota is None else found[: max(1, math.ceil(quota))]


@cache
def cpu_quota(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> float | None:
    """Processors' worth of time that the process's control group may use (`docker run --cpus 1.5`); None: no limit.

    Version 2 states it in `cpu.max` of the group and of each above it, version 1 in two files.
    """
    quotas = [quota for folder in _groups(root, own) if (quota := _quota(folder)) is not None]
    return min(quotas, default=None)


def _groups(root: Path, own: Path) -> list[Path]:
    """The process's control groups for CPU time, and those above them."""
    folders = {root, root / "cpu", root / "cpu,cpuacct"}
    with suppress(OSError, ValueError):
        for line in own.read_text(encoding="ascii", errors="replace").splitlines():
            _, controllers, path = line.split(":", 2)
            base = root if not controllers else root / controllers
            if not controllers or "cpu" in controllers.split(","):
                parts = Path(path.lstrip("/")).parts
                folders |= {base.joinpath(*parts[:count]) for count in range(len(parts) + 1)}
    return sorted(folders)


def _quota(folder: Path) -> float | None:
    with suppress(OSError, ValueError):
        if (folder / "cpu.max").is_file():
            allowed, period = (folder / "cpu.max").read_text(encoding="ascii").split()
        else:
            allowed, period = (
                (folder / f"cpu.cfs_{name}_us").read_text(encoding="ascii").strip() for name in ("quota", "period")
            )
        if allowed != "max" and int(allowed) > 0 and int(period) > 0:
            return int(allowed) / int(period)
    return None


def usable_cores() -> int:
    """Cores that this process may use; two hardware threads of one core count once, where the system tells."""
    processors = usable_processors()
    try:
        return len({Path(_SIBLINGS.format(number)).read_text(encoding="ascii") for number in processors})
    except OSError:
        return len(processors)
