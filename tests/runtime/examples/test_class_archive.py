"""Files of shown classes: what is saved is loaded, and whatever else is in a file is one line."""

from __future__ import annotations

import dataclasses
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ovs_edge.bundle.errors import UsageError
from ovs_edge.bundle.vocabulary import ClassNames
from ovs_edge.runtime.examples.class_archive import expanded, load, pack, save, unpack
from ovs_edge.runtime.examples.fitting import FittedVector
from ovs_edge.runtime.examples.shown_classes import Example, ShownClass, ShownClasses
from ovs_edge.runtime.examples.text_space import TextSpace

DIM = 5
CLASSES = (ClassNames("my mug", ("my mug", "beaker"), 0.25), ClassNames("person", ("person",)))


def _shown() -> ShownClass:
    vectors = np.random.default_rng(0).standard_normal((3, DIM)).astype(np.float32)
    examples = [
        Example(vectors[0], near=("cup",), thumbnail=b"\xff\xd8picture"),
        Example(vectors[1], fitted=FittedVector(vectors[2], 0.75, 0.5)),
        Example(vectors[2], positive=False),
    ]
    return ShownClass.of("my mug", examples, TextSpace())


def _packed(identity: str = "model") -> bytes:
    return pack(CLASSES, [_shown()], "mini", identity)


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    save(tmp_path / "mugs.npz", _packed())
    save(tmp_path / "mugs.npz", _packed())  # over its own kind
    found = load(tmp_path / "mugs.npz", "model", DIM)
    assert found.classes == CLASSES
    (mug,) = found.shown
    np.testing.assert_array_equal(mug.rows, _shown().rows)
    np.testing.assert_array_equal(mug.opposites, _shown().opposites)
    assert [(one.positive, one.near, one.thumbnail) for one in mug.examples] == [
        (True, ("cup",), b"\xff\xd8picture"), (True, (), b""), (False, (), b"")
    ]  # fmt: skip
    np.testing.assert_array_equal(mug.examples[1].vector, _shown().examples[1].vector)
    first, second, third = mug.examples
    assert first.fitted is third.fitted is None
    assert second.fitted is not None
    np.testing.assert_array_equal(second.fitted.vector, third.vector)
    assert (second.fitted.found, second.fitted.found_plain) == (0.75, 0.5)
    assert [path.name for path in tmp_path.iterdir()] == ["mugs.npz"]


def test_files_from_before_vectors_were_fitted() -> None:
    def without(header: dict[str, Any]) -> None:
        for example in header["classes"][0]["examples"]:
            del example["found"]

    (mug,) = unpack(_changed(fitted=None, h=without), "mugs.npz", "model", DIM).shown
    assert [one.fitted for one in mug.examples] == [None] * 3
    np.testing.assert_array_equal(mug.rows, _shown().rows)


def test_a_list_with_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mugs, old.npz"  # a comma in its name, alone
    save(path, _packed())
    shown = ShownClasses()
    assert expanded(f"@{path}", shown, lambda: "model", DIM) == ["my mug|beaker:0.25", "person"]
    assert len(shown) == 1
    path.rename(tmp_path / "mugs.npz")
    names = tmp_path / "names.txt"
    names.write_text("cat\ndog\n")
    found = expanded(f" @{tmp_path}/mugs.npz, tree ,@{names}", shown, lambda: "model", DIM)
    assert found == ["my mug|beaker:0.25", "person", "tree", "cat", "dog"]
    assert expanded("tree,cat", shown, lambda: 1 / 0, DIM) == "tree,cat"  # type: ignore[arg-type,return-value]


def test_other_files_are_not_overwritten(tmp_path: Path) -> None:
    for name, content in (("photo.npz", b"holiday"), ("arrays.npz", _npz(other=np.zeros(3)))):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UsageError, match="holds no classes"):
            save(tmp_path / name, _packed())
        assert (tmp_path / name).read_bytes() == content
    with pytest.raises(UsageError, match="cannot write"):
        save(tmp_path / "no" / "mugs.npz", _packed())


def test_vectors_of_another_model_are_refused() -> None:
    with pytest.raises(UsageError, match=r"another model \(mini\)"):
        unpack(_packed("other"), "mugs.npz", "model", DIM)


def _npz(**arrays: Any) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def _changed(**changes: Any) -> bytes:
    """The file with other arrays, or with another header where a function is given."""
    with np.load(io.BytesIO(_packed())) as file:
        arrays = {name: file[name] for name in file.files}
    for name, change in changes.items():
        if callable(change):
            header = json.loads(arrays["header"].tobytes())
            change(header)
            arrays["header"] = np.frombuffer(json.dumps(header).encode(), np.uint8)
        elif change is None:
            del arrays[name]
        else:
            arrays[name] = change
    return _npz(**arrays)


NAN = np.full((3, DIM), np.nan, np.float32)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "holds no saved classes"),
        (b"PK\x03\x04", "holds no saved classes"),
        (_packed()[:-40], "holds no saved classes"),
        (_npz(other=np.zeros(3)), "holds no saved classes"),
        (_changed(vectors=NAN), "no vectors"),
        (_changed(vectors=np.zeros((3, DIM), np.float32)), "no vectors"),
        (_changed(vectors=np.zeros((2, DIM), np.float32)), "expected float32 with 3 rows"),
        (_changed(vectors=np.zeros((3, DIM))), "expected float32"),
        (_changed(fitted=NAN[:1]), "no vectors"),
        (_changed(fitted=None), "expected float32 with 1 rows"),
        (_changed(fitted=np.ones((1, DIM + 1), np.float32)), "expected 5"),
        (_changed(h=lambda header: header["classes"][0]["examples"][1].update(found=[0.5, 2.0])), "out of range"),
        (_changed(h=lambda header: header["classes"][0]["examples"][1].update(found=[0.5])), "out of range"),
        (_changed(rows=NAN[:2]), "no vectors"),
        (_changed(rows=np.ones((2, DIM + 1), np.float32)), "expected 5"),
        (_changed(thumbnails=np.zeros(3, np.uint8)), "thumbnails"),
        (_changed(h=lambda header: header.update(version=2)), "version 2"),
        (_changed(h=lambda header: header.update(format="else")), "'else'"),
        (_changed(h=lambda header: header.pop("model")), "missing entries"),
        (_changed(h=lambda header: header.update(classes=[])), "0 classes"),
        (_changed(h=lambda header: header["classes"][0].update(names=[])), "without a name"),
        (_changed(h=lambda header: header["classes"][0].update(names=["a\x1b[2J"])), "a name that is none"),
        (_changed(h=lambda header: header["classes"][0].update(names=["person"])), "twice"),
        (_changed(h=lambda header: header["classes"][0].update(threshold=2.0)), "threshold"),
        (_changed(h=lambda header: header["classes"][0].update(rows=-1)), "vectors without examples"),
        (_changed(h=lambda header: header["classes"][1].update(rows=1)), "vectors without examples"),
        (_changed(h=lambda header: header["classes"][0]["examples"][0].update(thumbnail=-5)), "out of range"),
        (_changed(h=lambda header: header["classes"][0].update(rows=10**9)), "rows"),
        (_changed(header=np.frombuffer(b"[" * 100000, np.uint8)), "holds no saved classes"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_file_is_one_line(content: bytes, reason: str) -> None:
    with pytest.raises(UsageError, match=reason) as caught:
        unpack(content, "mugs.npz", "model", DIM)
    assert "\n" not in str(caught.value)
    assert "mugs.npz" in str(caught.value)


def test_objects_are_not_unpickled(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "ran",))

    for name in ("header", "vectors", "fitted", "rows", "thumbnails"):
        content = _changed(**{name: np.array([Evil()], dtype=object)})
        with pytest.raises(UsageError):
            unpack(content, "mugs.npz", "model", DIM)
    assert not (tmp_path / "ran").exists()


def test_sizes_are_not_believed() -> None:
    """A header that states terabytes, and a compressed file that unpacks to more than it may hold."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f4", "fortran_order": False, "shape": (10**6, 10**6)})
    for content in (_rewritten("vectors.npy", stream.getvalue()), _rewritten("vectors.npy", bytes(80 * 2**20))):
        assert len(content) < 2**20
        with pytest.raises(UsageError):
            unpack(content, "mugs.npz", "model", DIM)


def _rewritten(name: str, data: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(_packed())) as old, zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.namelist():
            new.writestr(entry, data if entry == name else old.read(entry))
    return stream.getvalue()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_damaged_bytes_are_one_line_or_the_same_classes(data: st.DataObject) -> None:
    content = bytearray(_packed())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = unpack(bytes(content), "mugs.npz", "model", DIM)
    except UsageError as error:
        assert "\n" not in str(error)
    else:
        assert all(dataclasses.is_dataclass(entry) for entry in found.classes)
        assert all(np.isfinite(entry.rows).all() for entry in found.shown)
