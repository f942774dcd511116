"""Power, clocks and throttling as a Jetson's and a desktop's files show them, on made-up file systems."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from ovs_edge.benchmarks.machine.conditions import ConditionMonitor
from ovs_edge.benchmarks.machine.power import Meter, find_reader
from ovs_edge.benchmarks.machine.system_state import SystemState, read_system_state

Write = Callable[[str, object], None]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Puts a file into the made-up file system at `tmp_path`; this machine's own services are out of reach."""
    monkeypatch.setitem(sys.modules, "jtop", None)
    monkeypatch.setitem(sys.modules, "pynvml", None)

    def write(path: str, text: object) -> None:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(f"{text}\n")

    return write


def _monitor(write: Write, number: int, rails: dict[str, tuple[int, int]]) -> None:
    folder = f"sys/class/hwmon/hwmon{number}"
    write(f"{folder}/name", "ina3221")
    for channel, (label, (millivolts, milliamperes)) in enumerate(rails.items(), 1):
        write(f"{folder}/in{channel}_label", label)
        write(f"{folder}/in{channel}_input", millivolts)
        write(f"{folder}/curr{channel}_input", milliamperes)
    write(f"{folder}/in7_label", "sum of shunt voltages")


def test_nothing_is_required(tmp_path: Path, write: Write) -> None:
    assert find_reader(tmp_path) is None
    assert read_system_state(tmp_path) == SystemState()
    with Meter(None) as meter:
        pass
    assert meter.power is None


def test_the_supply_rail_stands_for_the_module(tmp_path: Path, write: Write) -> None:
    write("sys/class/hwmon/hwmon0/name", "pwmfan")
    _monitor(write, 3, {"VDD_IN": (5000, 1600), "VDD_CPU_GPU_CV": (5000, 700), "VDD_SOC": (5000, 300)})
    reader = find_reader(tmp_path)
    assert reader is not None
    assert reader.source == "INA3221, VDD_IN"
    with Meter(reader) as meter:
        while meter.power is None:
            pass
    assert meter.power.watts == pytest.approx(8.0)


def test_without_one_the_rails_are_added(tmp_path: Path, write: Write) -> None:
    _monitor(write, 2, {"VDD_GPU_SOC": (20000, 300), "VDD_CPU_CV": (20000, 200), "NC": (0, 0)})
    _monitor(write, 4, {"VIN_SYS_5V0": (5000, 1000)})
    reader = find_reader(tmp_path)
    assert reader is not None
    assert reader.watts() == pytest.approx(15.0)
    assert reader.source == "INA3221, VDD_GPU_SOC + VDD_CPU_CV + VIN_SYS_5V0"


def test_a_service_comes_first_and_a_broken_one_is_passed_over(
    tmp_path: Path, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    _monitor(write, 1, {"VDD_IN": (5000, 1000)})
    service = SimpleNamespace(start=lambda: None, close=lambda: None, power={"tot": {"power": 7500}})
    module = ModuleType("jtop")
    module.jtop = lambda: service  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "jtop", module)
    reader = find_reader(tmp_path)
    assert reader is not None
    assert (reader.source, reader.watts()) == ("jtop, total", 7.5)
    service.power = {}
    reader = find_reader(tmp_path)
    assert reader is not None
    assert reader.source == "INA3221, VDD_IN"


def test_a_desktop_gpu(tmp_path: Path, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = ModuleType("pynvml")
    answers = {"nvmlInit": None, "nvmlDeviceGetHandleByIndex": 0, "nvmlDeviceGetPowerUsage": 61500}
    for name, answer in answers.items():
        setattr(nvml, name, lambda *_, answer=answer: answer)
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    reader = find_reader(tmp_path)
    assert reader is not None
    assert (reader.source, reader.watts()) == ("NVML, the GPU alone", 61.5)


def _jetson(write: Write) -> None:
    for cpu in range(4):
        folder = f"sys/devices/system/cpu/cpu{cpu}/cpufreq"
        write(f"{folder}/scaling_governor", "schedutil")
        write(f"{folder}/scaling_cur_freq", 1510400)
        write(f"{folder}/scaling_max_freq", 1510400)
    write("sys/class/thermal/thermal_zone0/temp", 61500)
    write("sys/class/thermal/thermal_zone1/temp", -256000)  # powered down
    write("sys/class/thermal/cooling_device0/type", "pwm-fan")
    write("sys/class/thermal/cooling_device0/cur_state", 2)
    write("sys/class/thermal/cooling_device1/type", "cpufreq-cpu0")
    write("sys/class/thermal/cooling_device1/cur_state", 0)
    write("sys/class/hwmon/hwmon5/oc1_event_cnt", 3)
    write("etc/nv_tegra_release", "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic")
    write(
        "etc/nvpmodel.conf", "< POWER_MODEL ID=0 NAME=15W >\nCPU_ONLINE CORE_0 1\n< POWER_MODEL ID=2 NAME=MAXN_SUPER >"
    )
    write("var/lib/nvpmodel/status", "pmode:0002")
    write("proc/loadavg", "0.31 0.20 0.10 1/300 1234")
    write("proc/driver/nvidia/version", "NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  540.4.0  Release")


def test_a_jetson(tmp_path: Path, write: Write) -> None:
    _jetson(write)
    assert read_system_state(tmp_path) == SystemState(
        governor="schedutil",
        clocks_mhz=(1510,) * 4,
        highest_mhz=1510,
        temperature_c=61.5,
        power_mode="2 (MAXN_SUPER)",
        jetson="R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic",
        driver="540.4.0",
        load_average=0.31,
        throttle_counts={"over-current events": 3},
    )


def test_a_throttled_busy_machine_is_told(tmp_path: Path, write: Write) -> None:
    _jetson(write)
    write("proc/stat", "cpu  1000 0 500 8000 0 0 0 0 0 0")
    write(f"proc/{os.getpid()}/stat", f"{os.getpid()} (a name) R " + "0 " * 10 + "100 50 0 0")
    watch = ConditionMonitor(tmp_path)
    with watch:
        # 1000 ticks: 400 busy, 250 of them ours, 50 stolen.
        write("proc/stat", "cpu  1300 0 600 8550 0 0 0 50 0 0")
        write(f"proc/{os.getpid()}/stat", f"{os.getpid()} (a name) R " + "0 " * 10 + "300 100 0 0")
        write("sys/class/thermal/cooling_device1/cur_state", 3)
        write("sys/class/hwmon/hwmon5/oc1_event_cnt", 5)
        for cpu in range(4):
            write(f"sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_cur_freq", 1190400)
    found = watch.conditions
    assert found is not None
    assert (found.others, found.stolen) == (pytest.approx(0.15), pytest.approx(0.05))
    assert (found.clocks_mhz, found.hottest_c) == ((1190, 1510), 61.5)
    for words in (
        "other processes used 15%",
        "hypervisor gave 5%",
        "cooling device cpufreq-cpu0",
        "over-current events (+2)",
        "between 1190 and 1510 MHz",
    ):
        assert any(words in warning for warning in found.warnings), words


def test_a_quiet_one_is_not(tmp_path: Path, write: Write) -> None:
    _jetson(write)
    write("proc/stat", "cpu  1000 0 500 8000 0 0 0 0 0 0")
    watch = ConditionMonitor(tmp_path)
    with watch:
        write("proc/stat", "cpu  1010 0 500 8990 0 0 0 0 0 0")
    assert watch.conditions is not None
    assert watch.conditions.warnings == ()


def test_what_a_peer_starts_is_measured_too(tmp_path: Path, write: Write) -> None:
    """`bash -c …` sleeps while its child, and the children of that which have ended, do the work."""

    def times(child: int, ended: int) -> None:
        for pid, parent, used, waited in ((70, 1, 5, 0), (71, 70, child, ended), (72, 1, 900 if child else 0, 0)):
            write(f"proc/{pid}/stat", f"{pid} (a (name) R {parent} " + "0 " * 9 + f"{used} 0 {waited} 0")

    write("proc/stat", "cpu  0 0 0 0 0 0 0 0 0 0")
    times(0, 0)
    watch = ConditionMonitor(tmp_path)
    watch.own(70)
    with watch:
        write("proc/stat", "cpu  1600 0 0 8400 0 0 0 0 0 0")  # 900 of 1600 busy ticks are a stranger's
        times(400, 300)
    assert watch.conditions is not None
    assert watch.conditions.others == pytest.approx(0.09)
