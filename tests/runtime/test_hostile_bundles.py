"""Bundles that come from anywhere: each is refused in one line before it costs memory or time, and runs no code."""

from __future__ import annotations

import io
import json
import os
import resource
import shutil
import time
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ovs_edge.bundle.bundle import Bundle, sha256
from ovs_edge.bundle.errors import BundleError
from ovs_edge.runtime.engines.memory import MemorySession
from ovs_edge.runtime.segmenter import Segmenter, SegmenterOptions
from ovs_edge.runtime.vocabulary.cache import VectorCache
from ovs_edge.runtime.vocabulary.text_encoder import TextEncoder

Raw = dict[str, Any]


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(tiny_bundle, tmp_path / "copy.ovs"))


def changed(bundle: Path, change: Callable[[Raw], object]) -> Path:
    """`bundle` with its manifest changed, and the digests of its files as they are now."""
    file = bundle / "manifest.json"
    raw = json.loads(file.read_text())
    change(raw)
    raw["digests"] = {name: sha256(bundle / name) for name in raw["digests"]}
    file.write_text(json.dumps(raw))
    return bundle


def shape_of_image(raw: Raw, shape: list[Any]) -> None:
    next(spec for spec in raw["graph"]["inputs"] if spec["name"] == "image")["shape"] = shape


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda raw: shape_of_image(raw, [1, 10**6, 10**6, 3]), "longer side is 1000000"),
        (lambda raw: shape_of_image(raw, [1, 16000, 16000, 3]), "pixels is 256000000"),
        (lambda raw: shape_of_image(raw, [10**9, 48, 64, 3]), "expected .N, H, W, 3"),
        (lambda raw: shape_of_image(raw, [1, 48, 64, 10**9]), "expected .N, H, W, 3"),
        (lambda raw: raw["text"].update(dim=10**9), "text vectors' length"),
        (lambda raw: raw["text"].update(context_length=10**9), "context is"),
        (lambda raw: raw["text"].update(templates=["a {}"] * 10_000), "templates is 10000"),
        (lambda raw: raw["text"].update(templates=["{}" + "x" * 10**6]), "longest prompt template"),
        (lambda raw: raw["graph"].update(max_classes=10**30), "number of classes"),
        (lambda raw: raw.update(training_vocabulary=[["cat"]] * 300_000), "number of names"),
        (lambda raw: raw.update(training_vocabulary=[["\ud800"]]), "cannot be printed"),
        (lambda raw: raw.update(name="x\x1b[2J"), "cannot be printed"),
        (lambda raw: raw.update(related={"cat": ["\udfff"]}), "cannot be printed"),
    ],
)
def test_sizes_and_characters(bundle: Path, change: Callable[[Raw], object], says: str) -> None:
    start = time.process_time()
    with pytest.raises(BundleError, match=says) as raised:
        Segmenter.load(changed(bundle, change))
    assert "\n" not in str(raised.value) and str(raised.value).isprintable() and time.process_time() - start < 5


@pytest.mark.parametrize("name", ["manifest.json", "segmenter.onnx", "tokenizer.json"])
@pytest.mark.parametrize("kind", ["fifo", "device", "folder"])
def test_files_that_are_none(bundle: Path, name: str, kind: str) -> None:
    (bundle / name).unlink()
    if kind == "fifo":
        os.mkfifo(bundle / name)
    elif kind == "device":
        (bundle / name).symlink_to("/dev/zero")
    else:
        (bundle / name).mkdir()
    with pytest.raises(BundleError, match="no regular file"):
        Bundle.open(bundle)


def _tokenizer(bundle: Path, change: Callable[[Raw], object]) -> None:
    file = bundle / "tokenizer.json"
    raw = json.loads(file.read_text())
    change(raw)
    file.write_text(json.dumps(raw))
    changed(bundle, lambda raw: None)


@pytest.mark.parametrize(
    "change",
    [
        lambda raw: raw.update(padding={**raw["padding"], "strategy": {"Fixed": 10**9}}),
        lambda raw: raw.update(padding={**raw["padding"], "pad_to_multiple_of": 10**9}),
        lambda raw: raw.update(truncation={**(raw["truncation"] or {}), "max_length": 10**9}),
        lambda raw: raw.update(padding=[1, 2]),
    ],
)
def test_a_tokenizer_without_bounds(bundle: Path, tmp_path: Path, change: Callable[[Raw], object]) -> None:
    _tokenizer(bundle, change)
    encoder = TextEncoder(Bundle.open(bundle), cache_folder=tmp_path)
    with pytest.raises(BundleError, match=r"tokenizer\.json") as raised:
        encoder.encode(["a new word"])
    assert "\n" not in str(raised.value)


def test_a_tokenizer_without_an_unknown_token(bundle: Path, tmp_path: Path) -> None:
    _tokenizer(bundle, lambda raw: raw["model"].update(unk_token="[NONE]"))
    encoder = TextEncoder(Bundle.open(bundle), cache_folder=tmp_path)
    with pytest.raises(BundleError, match=r"tokenizer\.json"):
        encoder.encode(["zzqx🙂"])


def _bomb(path: Path, header_only: bool) -> None:
    """An `.npz` that unpacks to gigabytes, or whose header says so."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("names", "vectors"):
            header = io.BytesIO()
            shape = (2**32,)
            np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
            with archive.open(f"{name}.npy", "w", force_zip64=True) as stream:
                stream.write(header.getvalue())
                for _ in range(1 if header_only else 200):
                    stream.write(bytes(2**20))


@pytest.mark.parametrize("header_only", [True, False])
def test_a_zip_bomb_is_no_cache(tmp_path: Path, header_only: bool) -> None:
    _bomb(tmp_path / "key.npz", header_only)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    cache = VectorCache("key", 3, tmp_path)
    assert "cat" not in cache
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024  # KiB


def _vectors(path: Path, names: Any, vectors: Any) -> None:
    np.savez(path, names=np.frombuffer(json.dumps(names).encode(), np.uint8), vectors=np.asarray(vectors))


@pytest.mark.parametrize(
    ("write", "says"),
    [
        (partial(_bomb, header_only=True), "larger than what is stored"),
        (partial(_bomb, header_only=False), "MiB unpacked, at most 64"),
        (lambda path: path.write_bytes(b"no archive"), "not a zip file"),
        (lambda path: _vectors(path, ["cat"], np.zeros((1, 4), np.float32)), "float32"),
        (lambda path: _vectors(path, ["cat"], np.full((1, 3), np.nan, np.float32)), "not finite"),
        (lambda path: _vectors(path, ["cat", "cat"], np.zeros((2, 3), np.float32)), "1 different names for 2 vectors"),
        (lambda path: _vectors(path, [7], np.zeros((1, 3), np.float32)), "no list of text"),
    ],
)
def test_a_bundle_s_vectors_that_are_none(tmp_path: Path, write: Callable[[Path], object], says: str) -> None:
    write(path := tmp_path / "names.npz")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(BundleError, match=f"names.npz does not hold vectors of names .*{says}"):
        VectorCache("key", 3, tmp_path, path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024  # KiB


@pytest.mark.parametrize(
    ("label", "confidence", "says"),
    [(-1, 0.5, "labels from 0"), (0, np.nan, "not a number"), (9, 0.5, "labels from 0")],
)
def test_what_a_graph_may_not_give(bundle: Path, label: int, confidence: float, says: str) -> None:
    def answer(image: Any, vectors: Any) -> tuple[Any, Any]:
        return np.full((1, 48, 64), label, np.int32), np.full((1, 48, 64), confidence, np.float32)

    opened = Bundle.open(bundle)
    options = SegmenterOptions("none")
    with Segmenter(opened.manifest, MemorySession(answer), TextEncoder(opened), options) as segmenter:
        segmenter.set_classes("red,green")
        with pytest.raises(BundleError, match=says):
            segmenter.predict(np.zeros((48, 64, 3), np.uint8))
