"""No name is called that a version of TensorRT, or pycuda, does not have."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support import fake_gpu, tensorrt_used

from ovs_edge.runtime.engines.tensorrt_api import MSDA_PLUGIN, Log, TensorRT, load

SURFACES = json.loads((Path(__file__).parents[2] / "support" / "tensorrt_surface.json").read_text())
VERSIONS = [version for version in SURFACES if version.startswith("tensorrt")]


def _members(version: str) -> dict[str, set[str]]:
    return {name: set(members.split()) for name, members in SURFACES[version]["members"].items()}


def test_the_record_has_every_generation() -> None:
    generations = {" ".join((name, version.split(".")[0])) for name, version in map(str.split, VERSIONS)}
    assert generations >= {"tensorrt 10", "tensorrt 11", "tensorrt_rtx 1"}
    # What made a second code path tempting is gone from 11, and is used nowhere.
    assert "INT8" in _members("tensorrt 10.3.0")["BuilderFlag"]
    assert "INT8" not in _members(next(name for name in VERSIONS if " 11." in name))["BuilderFlag"]


@pytest.mark.parametrize("version", VERSIONS)
def test_every_version_has_what_is_used(version: str) -> None:
    have = _members(version)
    used = tensorrt_used.protocols()
    assert len(used) > 10 and sum(map(len, used.values())) > 30 and len(tensorrt_used.TENSORRT) > 10
    assert {name: missing for name, wanted in used.items() if (missing := set(wanted) - have[name])} == {}
    for name in tensorrt_used.TENSORRT:
        kind, _, member = name.partition(".")
        assert kind in have and (not member or member in have[kind]), name


@pytest.mark.parametrize("version", VERSIONS)
def test_the_fake_has_nothing_that_tensorrt_lacks(version: str) -> None:
    have = _members(version)
    for name, kind in fake_gpu.CLASSES.items():
        public = {member for member in vars(kind) if not member.startswith("_")}
        assert public and public <= have[name], name


def test_plugins_are_looked_up_and_not_taken_for_granted() -> None:
    def version(**module: Any) -> str | None:
        trt: Any = SimpleNamespace(__name__="tensorrt", __version__="10.3.0", **module)
        return TensorRT(trt).plugin_version("A", None)

    creators = [SimpleNamespace(name=name, plugin_version=number) for name, number in ("A1", "A2", "B3")]
    registry = {"get_plugin_registry": lambda: SimpleNamespace(all_creators=creators)}
    assert version() is None and version(**registry) is None
    assert version(init_libnvinfer_plugins=lambda logger, namespace: False, **registry) is None
    assert version(init_libnvinfer_plugins=lambda logger, namespace: True, **registry) == "2"
    creators.clear()
    assert version(init_libnvinfer_plugins=lambda logger, namespace: True, **registry) is None


def test_rtx_has_no_plugin_for_deformable_attention() -> None:
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed")
    trt = load("tensorrt_rtx")
    assert trt.plugin_version(MSDA_PLUGIN, trt.logger(Log())) is None
    assert trt.plugin_version("ROIAlign_TRT", trt.logger(Log())) is not None  # so it is looked for in the right place


def test_pycuda_has_what_is_used() -> None:
    (version,) = [name for name in SURFACES if name.startswith("pycuda")]
    have = _members(version)["all"]
    used = {part for name in tensorrt_used.PYCUDA for part in name.split(".")} | tensorrt_used.PYCUDA_METHODS
    assert len(used) > 15 and used <= have
    assert "autoinit" not in used


def test_the_record_is_of_the_installed_module() -> None:
    """Where `tensorrt_rtx` is installed in the recorded version, the record is what it has."""
    rtx = pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed")
    recorded = f"tensorrt_rtx {rtx.__version__}"
    if recorded not in SURFACES:
        pytest.skip(f"{recorded} is not recorded; scripts/tensorrt-surface records it")
    for name, members in _members(recorded).items():
        assert members == {member for member in dir(getattr(rtx, name)) if not member.startswith("_")}, name
