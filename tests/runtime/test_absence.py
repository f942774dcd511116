"""The device has no torch, no onnx, no TensorRT: every module of `runtime` must do without."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

_BLOCK = """
import importlib, pkgutil, sys

ABSENT = {"torch", "torchvision", "open_clip", "onnx", "onnxscript", "tensorrt", "tensorrt_rtx", "pycuda", "scipy", "PIL"}

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ABSENT:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        if name.startswith(("ovs_edge.segmenter", "ovs_edge.training", "ovs_edge.export", "ovs_edge.calibration")):
            raise ModuleNotFoundError(f"{name} is not for the device", name=name)

sys.meta_path.insert(0, Absent())
import ovs_edge.runtime

modules = [module.name for module in pkgutil.walk_packages(ovs_edge.runtime.__path__, "ovs_edge.runtime.")]
for module in modules:
    importlib.import_module(module)
assert len(modules) > 20, modules
"""

_RUN = """
import numpy as np
from ovs_edge.runtime.segmenter import Segmenter

with Segmenter.load(sys.argv[1]) as segmenter:
    segmenter.set_classes("red,green")
    image = np.zeros((40, 80, 3), np.uint8)
    image[:, :40] = (0, 0, 255)
    image[:, 40:] = (255, 0, 0)
    labels = segmenter.predict(image).labels
    assert (labels[:, :39] == 0).all() and (labels[:, 41:] == -1).all(), labels

sys.argv = ["ovs-run", "--model", sys.argv[1], "--source", "demo", "--classes", "red,sky", "--save", sys.argv[2]]
from ovs_edge.runtime.cli import main
main()
"""

_LAZY = """
assert not {"onnxruntime", "skimage"} & set(sys.modules), "opened too early"
"""


def _python(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env=dict(os.environ),
    )


def test_every_module_imports_and_the_demo_runs(tiny_bundle: Path, tmp_path: Path) -> None:
    ran = _python(_BLOCK + _LAZY + _RUN, tiny_bundle, tmp_path / "out.mp4")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.startswith("100 frames") and (tmp_path / "out.mp4").is_file()


def test_a_missing_engine_names_its_extra(tiny_bundle: Path, tmp_path: Path) -> None:
    for absent, extra in (("onnxruntime", "cpu"), ("cv2", "cpu"), ("skimage", "demo")):
        code = f"""
import sys
sys.modules[{absent!r}] = None
if {absent!r} == "skimage":
    del sys.modules["skimage"]
    import importlib.util
    found = importlib.util.find_spec
    importlib.util.find_spec = lambda name, package=None: None if name == "skimage" else found(name, package)
from ovs_edge.runtime.cli import main
sys.argv = ["ovs-run", "--model", sys.argv[1], "--source", "demo", "--classes", "red", "--save", sys.argv[2]]
main()
"""
        ran = _python(code, tiny_bundle, tmp_path / "out.mp4")
        assert ran.returncode == 2, ran
        assert ran.stderr.count("\n") == 1 and f"ovs-edge[{extra}]" in ran.stderr
    assert list(tmp_path.iterdir()) == []
