"""Machine and software of a measurement."""

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
    "ovs-edge", "onnxruntime", "onnxruntime-gpu", "tensorrt", "tensorrt-rtx", "numpy", "opencv-python-headless",
    "torch",
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
    packages: dict[str, str]  # packages that affect latency
    board: SystemState  # clocks, power mode, temperature, driver, as far as the system reports them

    @classmethod
    def here(cls) -> Environment:
        """This machine, now."""
        packages = {name: found for name in _PACKAGES if (found := _version(name)) is not None}
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


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    """Model name and vector extensions, from /proc where available."""
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
