"""Nothing leaves the machine: in an empty network namespace, no host is looked up and no telemetry file is written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

OFFLINE = Path(__file__).parents[1] / "support" / "offline.py"
SESSION = "onnxruntime.InferenceSession(sys.argv[1] + '/segmenter.onnx', providers=['CPUExecutionProvider'])"
CODE = {
    "ovs-run": "from ovs_edge.runtime.cli import main; main()",
    "ovs-doctor": "from ovs_edge.runtime.doctor import main; main()",
    # Whatever part of the package comes first, the variable is set before ONNX Runtime is imported.
    "submodule": f"import sys, ovs_edge.bundle.errors, onnxruntime; {SESSION}",
    "api": f"import sys, ovs_edge, onnxruntime; {SESSION}",
    "child": "import subprocess, sys, ovs_edge; subprocess.run([sys.executable, '-c', "
    f"'import sys, onnxruntime; {SESSION.replace(chr(39), chr(34))}', sys.argv[1]], check=True)",
}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    tried = subprocess.run(["unshare", "-rnm", "true"], capture_output=True, check=False)
    if tried.returncode:
        pytest.skip("network namespaces are not allowed here")
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def _run(home: Path, code: str, *arguments: object, **variables: str) -> dict[str, Any]:
    unset = ("CI", "XDG_CACHE_HOME", "ORT_DISABLE_TELEMETRY", "DISPLAY", "GITHUB_ACTIONS")
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    ran = subprocess.run(
        ["unshare", "-rnm", sys.executable, str(OFFLINE), str(home.parent), sys.executable, "-c", code,
         *map(str, arguments)],
        capture_output=True, text=True, check=True, timeout=120, env={**environment, "HOME": str(home), **variables},
    )  # fmt: skip
    found: dict[str, Any] = json.loads(ran.stdout)
    return found


@pytest.mark.parametrize("name", sorted(CODE))
def test_no_file_and_no_lookup(home: Path, tiny_bundle: Path, name: str) -> None:
    options: tuple[object, ...] = (tiny_bundle,)
    if name == "ovs-run":
        out = home.parent / "out.jsonl"
        options = ("--model", tiny_bundle, "--source", "demo", "--classes", "red", "--json", out, "--max-frames", 3)
    elif name == "ovs-doctor":
        options = ("--json",)
    ran = _run(home, CODE[name], *options)
    assert (ran["code"], ran["lookups"]) == (0, []), ran
    files = [str(path.relative_to(home)) for path in home.rglob("*") if path.is_file()]
    assert [file for file in files if not file.startswith(".cache/ovs-edge/")] == []


def test_a_lookup_would_be_noticed(home: Path) -> None:
    code = "import contextlib, socket\nwith contextlib.suppress(OSError): socket.getaddrinfo('telemetry.example', 443)"
    assert any("telemetry" in name for name in _run(home, code)["lookups"])


def test_a_user_s_own_setting_stays(home: Path) -> None:
    code = "import os, ovs_edge; assert os.environ['ORT_DISABLE_TELEMETRY'] == '0'"
    assert _run(home, code, ORT_DISABLE_TELEMETRY="0")["code"] == 0


def test_a_program_that_a_benchmark_starts_has_the_setting_too(home: Path) -> None:
    child = (
        "import json, os; input(); print(json.dumps({'total': 0, 'infer': float(os.environ['ORT_DISABLE_TELEMETRY'])}))"
    )
    code = (
        "import shlex, sys; from types import SimpleNamespace; from ovs_edge.benchmarks.speed.peer import CommandPeer\n"
        f"peer = CommandPeer(shlex.join([sys.executable, '-u', '-c', {child!r}]))\n"
        "assert peer.frame(SimpleNamespace(path='a.jpg'))['infer'] == 1, 'not set'; peer.close()"
    )
    assert _run(home, code)["code"] == 0
