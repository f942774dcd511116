"""Bundles on disk: opened with every byte checked, written whole or not at all."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from ovs_edge.bundle import files
from ovs_edge.bundle.bundle import Bundle, written_whole
from ovs_edge.bundle.errors import BundleError, UsageError


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle, tmp_path / "copy.ovs"))


def test_a_sound_bundle_opens(bundle: Path) -> None:
    opened = Bundle.open(bundle)
    assert opened.graph("fp32") == bundle / "segmenter.onnx"
    assert len(opened.digest) == 64
    with pytest.raises(UsageError, match="it has: fp32"):
        opened.graph("int8")


@pytest.mark.parametrize("name", ["segmenter.onnx", "text_encoder.onnx", "tokenizer.json"])
def test_a_flipped_byte_is_found(bundle: Path, name: str) -> None:
    data = bytearray((bundle / name).read_bytes())
    data[len(data) // 2] ^= 1
    (bundle / name).write_bytes(data)
    with pytest.raises(BundleError, match=f"{name} was altered"):
        Bundle.open(bundle)


@pytest.mark.parametrize("name", ["segmenter.onnx", "text_encoder.onnx", "tokenizer.json", "manifest.json"])
def test_a_missing_file_is_named(bundle: Path, name: str) -> None:
    (bundle / name).unlink()
    with pytest.raises(BundleError, match=name):
        Bundle.open(bundle)


def test_a_file_without_digest_is_refused(bundle: Path) -> None:
    raw = json.loads((bundle / "manifest.json").read_text())
    del raw["digests"]["segmenter.onnx"]
    (bundle / "manifest.json").write_text(json.dumps(raw))
    with pytest.raises(BundleError, match="no digest for segmenter.onnx"):
        Bundle.open(bundle)


def test_the_digest_follows_the_files(bundle: Path) -> None:
    before = Bundle.open(bundle).digest
    raw = json.loads((bundle / "manifest.json").read_text())
    raw["digests"]["tokenizer.json"] = "0" * 64
    (bundle / "manifest.json").write_text(json.dumps(raw))
    assert Bundle.open(bundle, verify=False).digest != before


def test_nothing_appears_when_writing_fails(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="half way"), written_whole(tmp_path / "new.ovs") as work:
        (work / "manifest.json").write_text("{}")
        raise RuntimeError("half way")
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_is_replaced_but_nothing_else_is(bundle: Path, tmp_path: Path) -> None:
    with written_whole(bundle) as work:
        (work / "manifest.json").write_text("new")
    assert [file.name for file in bundle.iterdir()] == ["manifest.json"]
    (tmp_path / "photos").mkdir()
    with pytest.raises(UsageError, match="is not a bundle"), written_whole(tmp_path / "photos"):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy.ovs", "photos"]


@pytest.mark.parametrize("step", [1, 2])
@pytest.mark.parametrize("done", [False, True], ids=["refused", "done and interrupted"])
@pytest.mark.parametrize("cause", [KeyboardInterrupt, OSError])
def test_a_replacement_that_is_stopped_leaves_one_whole_bundle(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int, done: bool, cause: type[BaseException]
) -> None:
    rename, calls = os.rename, []

    def stopped(source: Any, target: Any) -> None:
        calls.append(target)
        if len(calls) != step or done:
            rename(source, target)
        if len(calls) == step:
            raise cause("stopped")

    before = Bundle.open(bundle).manifest.to_json()
    monkeypatch.setattr(files, "_exchanged", lambda one, other: False)  # as where names cannot be exchanged in one step
    monkeypatch.setattr(os, "rename", stopped)
    expected = BundleError if cause is OSError else cause
    with pytest.raises(expected), written_whole(bundle) as work:
        (work / "manifest.json").write_text("new")
    monkeypatch.undo()
    assert (bundle / "manifest.json").read_text() == ("new" if step == 2 and done else before)
    assert [path.name for path in tmp_path.iterdir()] == ["copy.ovs"]


def _made(path: Path, age: float = 60.0) -> Path:
    """A folder as a killed process leaves it, some time ago."""
    path.mkdir()
    (path / "manifest.json").write_text("half")
    os.utime(path, (time.time() - age,) * 2)
    return path


def test_what_a_killed_process_left_is_removed(bundle: Path, tmp_path: Path) -> None:
    _made(tmp_path / ".copy.ovs.abcd1234")
    young, other = _made(tmp_path / ".copy.ovs.abcd5678", age=0), _made(tmp_path / ".else.ovs.abcd1234")
    used = _made(tmp_path / ".copy.ovs.inuse123")
    handle = os.open(used, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    try:
        with written_whole(bundle) as work:
            (work / "manifest.json").write_text("new")
    finally:
        os.close(handle)
    assert (bundle / "manifest.json").read_text() == "new"
    assert {path for path in tmp_path.iterdir() if path.name.startswith(".")} == {young, other, used}


def test_a_kill_between_two_renames_loses_no_bundle(bundle: Path, tmp_path: Path) -> None:
    """The old bundle is put back at the next run, even if that one fails."""
    before = (bundle / "manifest.json").read_text()
    retired = tmp_path / ".copy.ovs.abcd1234.old"
    os.rename(bundle, retired)
    _made(tmp_path / ".copy.ovs.abcd1234")
    os.utime(retired, (0, 0))
    with pytest.raises(RuntimeError), written_whole(bundle):
        raise RuntimeError("half way")
    assert (bundle / "manifest.json").read_text() == before
    assert [path.name for path in tmp_path.iterdir()] == ["copy.ovs"]


def test_a_bundle_is_never_missing_while_it_is_replaced(bundle: Path) -> None:
    """On Linux two names are exchanged in one step."""
    other = bundle.with_name("other.ovs")
    other.mkdir()
    if not files._exchanged(bundle, other):
        pytest.skip("this system cannot exchange two names in one step")
    assert (other / "manifest.json").is_file() and not list(bundle.iterdir())
