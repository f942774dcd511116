"""`ovs-doctor`: what this machine has for `ovs-run`, what is missing, and what to do about it.

Every probe fails softly, and whatever might crash or hang when imported is imported in a child process.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from .command_line import run_command
from .engines.engine import PATIENCE, Finding, examined, import_in_child
from .engines.registry import engines

_EXTRAS = {  # of the device, and what each is for
    "cpu": "inference on the CPU, and OpenCV",
    "window": "windows",
    "web": "the web viewer",
    "screen": "screen:// as a source",
    "demo": "--source demo",
}

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


def examine(root: Path = Path("/")) -> list[Finding]:
    """Everything there is to say; `root` stands in for the file system's in tests. Never raises."""
    opencv = import_in_child("cv2", "print(cv2.__version__); print(cv2.getBuildInformation())")
    probes: list[tuple[str, Callable[[], Iterator[Finding]]]] = [
        ("system", lambda: _system(root)),
        ("model", _model),
        ("OpenCV", lambda: _opencv(imported=opencv[0], build=opencv[1])),
        ("display", lambda: _display(opencv[1])),
        ("cameras", lambda: _cameras(root)),
        ("engines", _engines),
        ("GPU", lambda: _gpu(root)),
        ("extras", _extras),
    ]
    return [finding for topic, probe in probes for finding in examined(topic, probe)]


def _read(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace").replace("\0", "").strip()
    except OSError:
        return None


def _system(root: Path) -> Iterator[Finding]:
    release = _read(root / "proc/device-tree/model") or f"{platform.system()} {platform.release()}"
    memory = re.search(r"MemTotal:\s+(\d+)", _read(root / "proc/meminfo") or "")
    size = f", {int(memory[1]) / 2**20:.1f} GiB" if memory else ""
    yield Finding("system", "ok", f"{release}, {platform.machine()}, {os.cpu_count()} cores{size}")
    yield Finding("system", "ok", f"Python {platform.python_version()} at {sys.executable}")
    tegra = _read(root / "etc/nv_tegra_release")
    if tegra is None:
        return
    yield Finding("system", "ok", f"Jetson Linux: {tegra.splitlines()[0].lstrip('# ')}")
    mode = re.search(r"pmode:(\d+)", _read(root / "var/lib/nvpmodel/status") or "")
    if mode is None:
        yield Finding("system", "note", "the power mode is unknown", "sudo nvpmodel -q")
    else:
        full = "sudo nvpmodel -m 0 && sudo jetson_clocks (full clocks; mode 0 is MAXN on most boards)"
        yield Finding("system", "ok", f"power mode {int(mode[1])}", full if int(mode[1]) else None)


def _model() -> Iterator[Finding]:
    from ..models import default_bundle

    folder = default_bundle()
    whole = (folder / "manifest.json").is_file()
    text = f"embedded model {folder}" if whole else f"no embedded model at {folder}"
    yield Finding(
        "model", "ok" if whole else "missing", text, None if whole else "pip install --force-reinstall ovs-edge"
    )


def _build(build: str, word: str) -> str:
    """The answer of OpenCV's build information to a word, "NO" where it says nothing."""
    found = re.search(rf"^\s*{re.escape(word)}:\s*(.*)$", build, re.MULTILINE)
    return found[1].strip() if found and found[1].strip() else "NO"


def _opencv(*, imported: bool, build: str) -> Iterator[Finding]:
    names = ("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless")
    installed = [name for name in names if _version(name)]
    if not imported:
        yield Finding(
            "OpenCV", "missing", build, "pip install 'ovs-edge[cpu]', or on a Jetson: apt install libopencv-python"
        )
        return
    gui = _build(build, "GUI")
    parts = [f"FFmpeg {_build(build, 'FFMPEG')}", f"GStreamer {_build(build, 'GStreamer')}", f"windows {gui}"]
    yield Finding("OpenCV", "ok", f"OpenCV {build.splitlines()[0]}: {', '.join(parts)}")
    if len(installed) > 1:
        yield Finding(
            "OpenCV", "note", f"several packages overwrite each other's cv2: {' '.join(installed)}",
            f"pip uninstall -y {' '.join(installed)}, then install one of them",
        )  # fmt: skip
    if not _build(build, "GStreamer").startswith("YES"):
        yield Finding(
            "OpenCV", "note", "without GStreamer: no CSI cameras, and network streams are decoded on the CPU",
            "on a Jetson use JetPack's OpenCV: pip uninstall -y opencv-python opencv-python-headless",
        )  # fmt: skip


def _display(build: str) -> Iterator[Finding]:
    shown = os.environ.get("WAYLAND_DISPLAY") or os.environ.get("DISPLAY")
    if not shown:
        yield Finding(
            "display", "note", "no display (DISPLAY is not set)", "ovs-run --web shows the picture in a browser"
        )
    elif _build(build, "GUI") in ("NO", "NONE"):
        remedy = "pip uninstall -y opencv-python-headless && pip install 'ovs-edge[window]'"
        yield Finding("display", "note", f"display {shown}, but this OpenCV has no windows", remedy)
    else:
        yield Finding("display", "ok", f"display {shown}")


def _cameras(root: Path) -> Iterator[Finding]:
    devices = sorted((root / "dev").glob("video*"), key=lambda path: (len(path.name), path.name))
    if not devices:
        yield Finding("cameras", "note", "no /dev/video*", "plug a camera in; network streams need none")
    for device in devices:
        name = _read(root / "sys/class/video4linux" / device.name / "name") or "unnamed"
        if os.access(device, os.R_OK | os.W_OK):
            yield Finding("cameras", "ok", f"/dev/{device.name}: {name}")
        else:
            remedy = "sudo usermod -aG video $USER, then log in again"
            yield Finding("cameras", "missing", f"/dev/{device.name}: {name}, but you may not open it", remedy)


def _engines() -> Iterator[Finding]:
    """What each engine says of its packages."""
    for engine in engines():
        yield from engine.examine()


def _gpu(root: Path) -> Iterator[Finding]:
    program = shutil.which("nvidia-smi")
    if program is not None:
        query = "--query-gpu=name,driver_version,memory.total,power.limit"
        ran = subprocess.run(
            [program, query, "--format=csv,noheader"],
            capture_output=True, text=True, timeout=PATIENCE, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        if ran.returncode == 0 and ran.stdout.strip():
            for line in ran.stdout.strip().splitlines():
                yield Finding("GPU", "ok", line.strip())
            return
        reason = (ran.stdout + ran.stderr).strip().splitlines()[:1] or [f"exit code {ran.returncode}"]
        yield Finding("GPU", "note", f"nvidia-smi: {reason[0]}", "install the driver, or restart after its update")
    elif (root / "etc/nv_tegra_release").is_file():
        yield Finding("GPU", "ok", "the Jetson's own")
    else:
        yield Finding("GPU", "note", "no NVIDIA GPU (no nvidia-smi)", "none is needed: inference runs on the CPU")


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _extras() -> Iterator[Finding]:
    """Extras whose packages are not all here, by what the installed distribution says of itself."""
    try:
        requirements = importlib.metadata.requires("ovs-edge") or []
    except importlib.metadata.PackageNotFoundError:
        yield Finding("extras", "note", "ovs-edge runs from a folder, not installed", "pip install -e '.[cpu]'")
        return
    yield Finding("extras", "ok", f"ovs-edge {_version('ovs-edge')}")
    # Another package may bring the same module: OpenCV has four, onnxruntime two, and a Jetson its own of each.
    present = {"opencv-python-headless": "cv2", "opencv-python": "cv2", "onnxruntime": "onnxruntime"}
    for extra, purpose in _EXTRAS.items():
        named = [line for line in requirements if re.search(rf"extra == ['\"]{extra}['\"]", line)]
        packages = [re.split(r"[\s<>=!~;\[(]", line, maxsplit=1)[0] for line in named]
        missing = [name for name in packages if not _version(name)]
        if extra == "cpu":
            missing = [name for name in missing if not importlib.util.find_spec(present[name])]
        if missing:
            remedy = f"pip install 'ovs-edge[{extra}]'"
            yield Finding("extras", "note", f"without {' '.join(missing)}, for {purpose}", remedy)


@app.command()
def doctor(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON list, for a bug report or a program.")] = False,
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Also try a configuration of ovs-run --config and all that it names: cameras, outputs, broker. Exit "
            "code 2 if something is missing or cannot be examined.",
        ),
    ] = None,
) -> None:
    """Say what this machine has for ovs-run, what is missing, and what to install."""
    findings, checked = examine(), []
    if config is not None:
        from .cameras.check import check_config

        checked = list(check_config(config))
    _print([*findings, *checked], as_json=as_json)
    if any(finding.state == "missing" for finding in checked):
        sys.exit(2)


def _print(findings: list[Finding], *, as_json: bool) -> None:
    if as_json:
        values: list[dict[str, Any]] = [asdict(finding) for finding in findings]
        print(json.dumps(values, indent=2, ensure_ascii=False))
        return
    width = max(len(finding.topic) for finding in findings)
    marks = {"ok": " ", "note": "!", "missing": "x"}
    for finding in findings:
        print(f"{marks[finding.state]} {finding.topic:{width}}  {finding.text}")
        if finding.remedy:
            print(f"  {'':{width}}  -> {finding.remedy}")


def main() -> None:
    """Console command; its exit code is 0 whatever it finds, except of a configuration."""
    run_command(app)
