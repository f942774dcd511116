"""Names to vectors, and the cache between runs."""

from __future__ import annotations

import dataclasses
import json
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from support.tiny_bundle import COLOURS, build

from ovs_edge.bundle.bundle import Bundle, sha256
from ovs_edge.bundle.errors import BundleError
from ovs_edge.bundle.manifest import TEXT_ENCODER, VECTORS
from ovs_edge.runtime.vocabulary.cache import packed
from ovs_edge.runtime.vocabulary.text_encoder import TextEncoder, clean


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("  a   photo\tof a  cat ", "a photo of a cat"),
        ("salt &amp;amp; pepper", "salt & pepper"),
        ("the dogâ€™s bowl", "the dog's bowl"),
        ("ﬁsh", "fish"),
    ],
)
def test_clip_cleaning_is_that_of_open_clip(text: str, cleaned: str) -> None:
    assert clean(text, "clip") == cleaned
    assert clean(text, "none") == text


def test_vectors_are_unit_and_averaged_over_templates(tiny_bundle: Path) -> None:
    names = ["red", "YELLOW", "grey", "red"]
    vectors = TextEncoder(Bundle.open(tiny_bundle)).encode(names)
    assert vectors.dtype == np.float32 and vectors.shape == (4, 3)
    expected = np.array([COLOURS[name.lower()] for name in names], np.float32)
    np.testing.assert_allclose(vectors, expected / np.linalg.norm(expected, axis=1, keepdims=True), atol=1e-6)


def test_an_unknown_word_is_no_name(tiny_bundle: Path) -> None:
    assert not TextEncoder(Bundle.open(tiny_bundle)).encode(["🦄"]).any()


def test_braces_in_a_name_are_letters(tiny_bundle: Path) -> None:
    assert TextEncoder(Bundle.open(tiny_bundle)).encode(["{} red {0}"]).shape == (1, 3)


def test_a_long_name_is_cut(tiny_bundle: Path) -> None:
    assert TextEncoder(Bundle.open(tiny_bundle)).encode(["red " * 70])[0].tolist() == [0, 0, 1]


def test_known_names_need_no_encoder_in_the_next_run(tiny_bundle: Path, private_cache: Path) -> None:
    bundle = Bundle.open(tiny_bundle)
    first = TextEncoder(bundle).encode(["red", "sky"])
    (file,) = (private_cache / "ovs-edge" / "vectors").iterdir()
    again = TextEncoder(bundle)
    np.testing.assert_array_equal(again.encode(["sky", "red"]), first[::-1])
    assert again._session is None
    assert file.suffix == ".npz"


def test_other_templates_mean_other_vectors(tiny_bundle: Path, tmp_path: Path) -> None:
    text = Bundle.open(tiny_bundle).manifest.text
    other = type(text)(**{**text.__dict__, "templates": ("blue {}",)})
    first = TextEncoder(Bundle.open(tiny_bundle)).encode(["red"])
    second = TextEncoder(Bundle.open(build(tmp_path / "other.ovs", text=other))).encode(["red"])
    assert first.tolist() == [[0, 0, 1]]
    np.testing.assert_allclose(second, [[0.5**0.5, 0, 0.5**0.5]], atol=1e-6)


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 not a zip", b"\x80\x04pickle", None])
def test_a_damaged_cache_is_ignored(tiny_bundle: Path, private_cache: Path, damage: bytes | None) -> None:
    bundle = Bundle.open(tiny_bundle)
    expected = TextEncoder(bundle).encode(["red"])
    (file,) = (private_cache / "ovs-edge" / "vectors").iterdir()
    file.write_bytes(file.read_bytes()[:-40] if damage is None else damage)
    np.testing.assert_array_equal(TextEncoder(bundle).encode(["red"]), expected)


@pytest.mark.parametrize("wrong", ["dimension", "count", "type", "infinite"])
def test_a_foreign_cache_is_ignored(tiny_bundle: Path, private_cache: Path, wrong: str) -> None:
    bundle = Bundle.open(tiny_bundle)
    expected = TextEncoder(bundle).encode(["red"])
    (file,) = (private_cache / "ovs-edge" / "vectors").iterdir()
    vectors = {
        "dimension": np.ones((1, 4), np.float32),
        "count": np.ones((2, 3), np.float32),
        "type": np.ones((1, 3), np.float64),
        "infinite": np.full((1, 3), np.inf, np.float32),
    }[wrong]
    np.savez(file, names=np.frombuffer(json.dumps(["red"]).encode(), np.uint8), vectors=vectors)
    np.testing.assert_array_equal(TextEncoder(bundle).encode(["red"]), expected)


def test_an_unwritable_cache_is_ignored(tiny_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    assert TextEncoder(Bundle.open(tiny_bundle), cache_folder=tmp_path / "file" / "cache").encode(["red"]).any()


def test_cached_names_cost_nothing(tiny_bundle: Path) -> None:
    encoder = TextEncoder(Bundle.open(tiny_bundle))
    encoder.encode(["red", "green"])
    start = time.perf_counter()
    for _ in range(100):
        encoder.encode(["red", "green"])
    assert (time.perf_counter() - start) / 100 < 0.002


def test_a_tokenizer_without_padding_is_named(tiny_bundle: Path, tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    folder = build(tmp_path / "ragged.ovs")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.save(str(folder / "tokenizer.json"))
    raw = json.loads((folder / "manifest.json").read_text())
    raw["digests"]["tokenizer.json"] = sha256(folder / "tokenizer.json")
    (folder / "manifest.json").write_text(json.dumps(raw))
    with pytest.raises(BundleError, match="padding or truncation is not set"):
        TextEncoder(Bundle.open(folder)).encode(["red", "red red"])


def test_names_that_the_bundle_brings_are_not_encoded(tiny_bundle: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_bundle, tmp_path / "with.ovs"))
    (folder / TEXT_ENCODER).write_bytes(b"never opened")
    stored = np.array([[0.0, 0.6, 0.8]], np.float32)
    (folder / VECTORS).write_bytes(packed(["zebra"], stored))
    manifest = Bundle.open(tiny_bundle).manifest
    manifest = dataclasses.replace(manifest, digests={**manifest.digests, VECTORS: sha256(folder / VECTORS)})
    encoder = TextEncoder(Bundle(folder, manifest))
    assert np.array_equal(encoder.encode(["zebra"]), stored)
    with pytest.raises(BundleError, match="onnxruntime cannot load"):
        encoder.encode(["zebra", "red"])
