"""State of the machine that affects latency: clocks, governor, power mode, temperature, driver, throttling."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from .power import load_nvml

_NVML_SLOWED = {  # bits of nvmlDeviceGetCurrentClocksEventReasons that mean less speed than asked for
    0x4: "GPU slowed by its power cap",
    0x8: "GPU slowed by the hardware",
    0x20: "GPU slowed by its temperature",
    0x40: "GPU slowed by its temperature",
    0x80: "GPU slowed by the power supply",
}
_COOLERS = ("fan", "pwm")  # cooling devices that cool without slowing


@dataclass(frozen=True)
class SystemState:
    """What sysfs and the driver report; missing values are None or empty."""

    governor: str | None = None  # of CPU 0
    clocks_mhz: tuple[int, ...] = ()  # of each CPU, now
    highest_mhz: int | None = None  # maximum of the CPU
    temperature_c: float | None = None  # of the hottest zone
    power_mode: str | None = None  # of a Jetson, from nvpmodel
    jetson: str | None = None  # Jetson Linux release
    driver: str | None = None  # of an NVIDIA GPU
    gpu: str | None = None
    gpu_clock_mhz: int | None = None
    load_average: float | None = None  # of the last minute
    slowed: tuple[str, ...] = ()  # reasons for throttling at this moment
    throttle_counts: dict[str, int] = field(default_factory=dict)  # counters that grow with throttling


def read_system_state(root: Path = Path("/")) -> SystemState:
    """The state now. `root` replaces the root of the file system in tests. Never raises."""
    cpus = sorted((root / "sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq"))
    clocks = [_number(cpu / "scaling_cur_freq") for cpu in cpus]
    highest = [_number(cpu / "scaling_max_freq") for cpu in cpus]
    zones = [_number(zone / "temp") for zone in (root / "sys/class/thermal").glob("thermal_zone*")]
    # A zone that is powered down reports an impossible temperature.
    degrees = [zone / 1e3 for zone in zones if zone is not None and 0 < zone < 150_000]
    gpu = _gpu() if root == Path("/") else {}
    load = (_text(root / "proc/loadavg") or "").split()
    release = _text(root / "etc/nv_tegra_release")
    return SystemState(
        governor=_text(cpus[0] / "scaling_governor") if cpus else None,
        clocks_mhz=tuple(clock // 1000 for clock in clocks if clock is not None),
        highest_mhz=max((clock // 1000 for clock in highest if clock is not None), default=None),
        temperature_c=max(degrees, default=None),
        power_mode=_power_mode(root),
        jetson=release.splitlines()[0].lstrip("# ") if release else None,
        driver=gpu.get("driver") or _driver(root),
        gpu=gpu.get("name"),
        gpu_clock_mhz=int(gpu["clock"]) if "clock" in gpu else None,
        load_average=float(load[0]) if load else None,
        slowed=(*_cooling(root), *([gpu["slowed"]] if gpu.get("slowed") else [])),
        throttle_counts=_counts(root),
    )


def _power_mode(root: Path) -> str | None:
    """`0 (MAXN)`: number from nvpmodel's status, name from its configuration."""
    found = re.search(r"pmode:(\d+)", _text(root / "var/lib/nvpmodel/status") or "")
    if found is None:
        return None
    number = int(found[1])
    name = re.search(rf"<\s*POWER_MODEL\s+ID={number}\s+NAME=(\S+?)\s*>", _text(root / "etc/nvpmodel.conf") or "")
    return f"{number} ({name[1]})" if name else str(number)


def _driver(root: Path) -> str | None:
    found = re.search(r"Module\S*\s.*?(\d+\.\d+(?:\.\d+)?)", _text(root / "proc/driver/nvidia/version") or "")
    return found[1] if found else None


def _cooling(root: Path) -> list[str]:
    """Active cooling devices that lower clocks: a Jetson's `cpufreq-…`, `devfreq-…`, `…-throttle-alert`."""
    active = []
    for device in sorted((root / "sys/class/thermal").glob("cooling_device*")):
        kind = _text(device / "type") or ""
        if (_number(device / "cur_state") or 0) > 0 and not any(word in kind.lower() for word in _COOLERS):
            active.append(f"cooling device {kind} at work")
    return active


def _counts(root: Path) -> dict[str, int]:
    """Counters of throttling: x86 cores, a Jetson's over-current events, the quota of a container."""
    counts: dict[str, int] = {}
    patterns = {
        "core throttled by its temperature": "sys/devices/system/cpu/cpu[0-9]*/thermal_throttle/core_throttle_count",
        "over-current events": "sys/class/hwmon/hwmon*/oc*_event_cnt",
    }
    for what, pattern in patterns.items():
        values = [number for path in root.glob(pattern) if (number := _number(path)) is not None]
        if values:
            counts[what] = sum(values)
    for path in ("sys/fs/cgroup/cpu.stat", "sys/fs/cgroup/cpu/cpu.stat"):
        if found := re.search(r"^nr_throttled (\d+)", _text(root / path) or "", re.MULTILINE):
            counts["stopped by the container's CPU quota"] = int(found[1])
    return counts


def _gpu() -> dict[str, str]:
    """Name, driver, clock and throttling reasons of the first GPU; empty without NVML."""
    nvml = load_nvml()
    if nvml is None:
        return {}
    found = {}
    with suppress(Exception):  # a Jetson's NVML supports only some of these calls
        device = nvml.nvmlDeviceGetHandleByIndex(0)
        found["name"] = _decoded(nvml.nvmlDeviceGetName(device))
        found["driver"] = _decoded(nvml.nvmlSystemGetDriverVersion())
        found["clock"] = str(nvml.nvmlDeviceGetClockInfo(device, nvml.NVML_CLOCK_SM))
        reasons = nvml.nvmlDeviceGetCurrentClocksThrottleReasons(device)
        found["slowed"] = ", ".join(dict.fromkeys(text for bit, text in _NVML_SLOWED.items() if reasons & bit))
    return found


def memory_of_gpu() -> float | None:
    """MiB of GPU memory of this process; None if the driver does not report it."""
    nvml = load_nvml()
    if nvml is None:
        return None
    try:
        device = nvml.nvmlDeviceGetHandleByIndex(0)
        mine = [item for item in nvml.nvmlDeviceGetComputeRunningProcesses(device) if item.pid == os.getpid()]
        return sum(item.usedGpuMemory for item in mine) / 2**20 if mine else None
    except Exception:  # noqa: BLE001 - see _gpu
        return None


def _decoded(text: str | bytes) -> str:
    return text.decode() if isinstance(text, bytes) else text


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text().strip())
    except (OSError, ValueError):
        return None


def _text(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace").replace("\0", "").strip()
    except OSError:
        return None
