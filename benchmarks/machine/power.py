"""Power draw during a measurement: from jtop's service, INA3221 monitors or the NVIDIA driver.

All of them are optional, and nothing is changed: the power mode stays as it is.
"""

from __future__ import annotations

import importlib
import re
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import Self

_PERIOD = 0.1  # seconds between two readings; the monitors themselves average over some tens of milliseconds
_SETTLE = 1.5  # warm-up seconds before power is read: clocks adapt, and GPUs report the mean of the last second
_SUPPLY = re.compile(r"(^|_)V?IN$|_IN$")  # rails that supply the whole module: VDD_IN, POM_5V_IN, 5V_IN


@dataclass(frozen=True)
class Power:
    """Power drawn during a measurement."""

    watts: float  # mean
    source: str  # source of the reading, and its rails


@dataclass(frozen=True)
class Reader:
    """One way to read the power."""

    source: str
    watts: Callable[[], float]  # now; raises OSError, or what the library raises
    close: Callable[[], None] = lambda: None


class Meter:
    """Reads the power in the background during a `with` block. Does nothing without a reader."""

    def __init__(self, reader: Reader | None) -> None:
        self._reader = reader
        self._samples: list[float] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._read, name="power", daemon=True)

    def __enter__(self) -> Self:
        if self._reader is not None:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        if self._thread.ident is not None:
            self._thread.join()

    @property
    def power(self) -> Power | None:
        """Mean over the block; None if nothing could be read."""
        if self._reader is None or not self._samples:
            return None
        return Power(sum(self._samples) / len(self._samples), self._reader.source)

    def _read(self) -> None:
        assert self._reader is not None
        while not self._over.is_set():
            with suppress(Exception):  # a failed reading is skipped
                self._samples.append(self._reader.watts())
            self._over.wait(_PERIOD)


def find_reader(root: Path = Path("/")) -> Reader | None:
    """The best available reader, or None. `root` replaces the root of the file system in tests."""
    for find in (_jtop, lambda: _ina3221(root), _nvml):
        with suppress(Exception):  # a stopped service or an incompatible driver: try the next one
            reader = find()
            if reader is not None:
                reader.watts()
                return reader
    return None


def _jtop() -> Reader | None:
    """The service of jetson-stats, which knows the rails of all Jetson modules."""
    try:
        service: Any = importlib.import_module("jtop").jtop()
    except ImportError:
        return None
    service.start()
    try:
        service.power["tot"]["power"]
    except BaseException:
        service.close()
        raise
    return Reader("jtop, total", lambda: service.power["tot"]["power"] / 1e3, service.close)


def _ina3221(root: Path) -> Reader | None:
    """The kernel's driver: in[123]_label, in[123]_input in mV, curr[123]_input in mA (Documentation/hwmon/ina3221)."""
    rails: dict[str, tuple[Path, Path]] = {}
    for folder in sorted((root / "sys/class/hwmon").glob("hwmon*")):
        if _text(folder / "name") != "ina3221":
            continue
        for channel in (1, 2, 3):
            label = _text(folder / f"in{channel}_label")
            paths = folder / f"in{channel}_input", folder / f"curr{channel}_input"
            if label and label != "NC" and all(path.is_file() for path in paths):
                rails[label] = paths
    supply = [label for label in rails if _SUPPLY.search(label)]
    chosen = supply or list(rails)
    if not chosen:
        return None

    def watts() -> float:
        return sum(float(volt.read_text()) * float(ampere.read_text()) for volt, ampere in map(rails.get, chosen)) / 1e6  # type: ignore[misc]

    return Reader(f"INA3221, {' + '.join(chosen)}", watts)


def _nvml() -> Reader | None:
    """The first GPU only, without the CPU."""
    nvml = load_nvml()
    if nvml is None:
        return None
    device = nvml.nvmlDeviceGetHandleByIndex(0)
    return Reader("NVML, the GPU alone", lambda: float(nvml.nvmlDeviceGetPowerUsage(device)) / 1e3)


def load_nvml() -> Any | None:
    """The initialised module `pynvml`; None without it or without a driver."""
    try:
        nvml: Any = importlib.import_module("pynvml")
        nvml.nvmlInit()
    except Exception:  # noqa: BLE001 - no module, no driver, another version: all the same here
        return None
    return nvml


def energy_per_frame(
    run: Callable[[], object], reader: Reader | None, seconds: float, settle: float = _SETTLE
) -> tuple[float, str] | None:
    """Joules of one `run`, measured over at least `seconds`, and the source of the reading; None without a reader.

    It runs for `settle` seconds first, so that earlier work does not affect the figure.
    """
    if reader is None:
        return None
    _repeat(run, settle)
    with Meter(reader) as meter:
        frames, passed = _repeat(run, seconds)
    power = meter.power
    return None if power is None or not frames else (power.watts * passed / frames, power.source)


def _repeat(run: Callable[[], object], seconds: float) -> tuple[int, float]:
    """Number of runs, and seconds passed."""
    frames = 0
    start = time.perf_counter()
    while (passed := time.perf_counter() - start) < seconds:
        run()
        frames += 1
    return frames, passed


def _text(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace").replace("\0", "").strip()
    except OSError:
        return None
