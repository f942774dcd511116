"""What a figure was measured on: a figure without it says nothing."""

from __future__ import annotations

import datetime
import os
import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ...bundle.processor import usable_processors
from .system_state import SystemState, read_system_state

_PACKAGES = (
    "ovs-edge", "onnxruntime", "onnxruntime-gpu", "tensorrt", "tensorrt-rtx", "numpy", "opencv-python-headless", "torch",
)  # fmt: skip


@dataclass(frozen=True)
class Environment:
    """Machine and software of a measurement."""

    date: str  # ISO, UTC
    processor: str
    cores: int  # that this process may use
    memory_gib: float
    system: str
    python: str
    packages: dict[str, str]  # those that decide speed
    board: SystemState  # clocks, power mode, temperature, driver: what the system says of them

    @classmethod
    def here(cls) -> Environment:
        """This machine, now."""
        packages = {}
        for name in _PACKAGES:
            try:
                packages[name] = version(name)
            except PackageNotFoundError:
                continue
        return cls(
            date=datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d"),
            processor=_processor(),
            cores=len(usable_processors()),
            memory_gib=round(_memory() / 2**30, 1),
            system=f"{platform.system()} {platform.machine()}",
            python=platform.python_version(),
            packages=packages,
            board=read_system_state(),
        )


def _processor() -> str:
    """Model name and the vector extensions that matter, from /proc where there is one."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    fields = dict(line.split(":", 1) for line in reversed(lines) if ":" in line)
    known = {key.strip(): value.strip() for key, value in fields.items()}
    flags = known.get("flags", "").split()
    extensions = [flag for flag in ("avx2", "avx512f", "avx_vnni", "avx512_vnni") if flag in flags]
    name = known.get("model name") or known.get("Hardware") or platform.machine()
    return f"{name} ({', '.join(extensions)})" if extensions else name


def _memory() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return 0
