"""The parts of `ovs-serve` by themselves: lists of classes, sizes of pictures, the cache, the limits."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from ovs_edge.bundle.errors import UsageError
from ovs_edge.runtime.vocabulary.cache import VectorCache
from ovs_edge.serving.admission import Admission, Overloaded
from ovs_edge.serving.class_cache import ClassCache
from ovs_edge.serving.messages import parse_class_list
from ovs_edge.serving.openapi import openapi
from ovs_edge.serving.options import ServeOptions
from ovs_edge.serving.picture_size import picture_size


def test_lists_of_classes() -> None:
    assert parse_class_list("person,bike|bicycle") == ("person", "bike|bicycle")
    assert parse_class_list(' ["sofa, couch", "cat:0.2"]') == ("sofa, couch", "cat:0.2")
    assert parse_class_list("@/etc/passwd") == ("@/etc/passwd",)  # a name, never a file
    for text, told in (("[1]", "something else than text"), ("[", "begin like a JSON list"), ("a" * 70_000, "70000")):
        with pytest.raises(UsageError, match=told):
            parse_class_list(text)
    with pytest.raises(UsageError, match="begin like a JSON list"):
        parse_class_list("[" * 60_000)


@pytest.mark.parametrize("size", [(1, 1), (64, 48), (300, 7)])
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "bmp"])
def test_the_size_is_read_from_the_header(size: tuple[int, int], suffix: str) -> None:
    _, data = cv2.imencode(f".{suffix}", np.full((size[1], size[0], 3), 90, np.uint8))
    kind, found = picture_size(data.tobytes())
    assert (kind.lower(), found) == ({"jpg": "jpeg"}.get(suffix, suffix), size)


def test_the_size_of_other_variants(tmp_path: Path) -> None:
    picture = Image.new("RGBA", (33, 21), (1, 2, 3, 40))
    variants: list[tuple[str, Any, dict[str, Any]]] = [
        ("a.webp", picture, {"lossless": True}),
        ("b.webp", picture, {"exif": Image.Exif().tobytes()}),  # with the header of the extended format
        ("c.jpg", picture.convert("RGB"), {"progressive": True, "comment": b"\xff\xc0 no frame" * 50}),
        ("d.png", picture.convert("P"), {}),
    ]
    for name, content, options in variants:
        content.save(tmp_path / name, **options)
        assert picture_size((tmp_path / name).read_bytes())[1] == (33, 21), name


def test_sizes_of_damaged_files_are_not_told() -> None:
    _, encoded = cv2.imencode(".jpg", np.zeros((9, 9, 3), np.uint8))
    jpeg = encoded.tobytes()
    assert picture_size(jpeg[:30]) == ("JPEG", None)
    assert picture_size(b"\x89PNG\r\n\x1a\n" + bytes(40)) == ("PNG", None)
    assert picture_size(b"RIFF0000WEBPVP8 ") == ("WebP", None)
    assert picture_size(b"BM" + bytes(20)) == ("BMP", None)
    assert picture_size(b"") == ("unknown", None)
    assert picture_size(b"GIF89a" + bytes(99)) == ("GIF", None)


def test_the_largest_frame_of_a_jpeg_counts() -> None:
    """A second frame header does not hide behind a small first one."""
    small, large = (b"\xff\xc0\x00\x11\x08" + size + bytes(10) for size in (b"\0\x08\0\x08", b"\xff\xff\xff\xff"))
    assert picture_size(b"\xff\xd8" + small + large + b"\xff\xda") == ("JPEG", (65535, 65535))


def _entry(size: int) -> Any:
    return SimpleNamespace(vocabulary=SimpleNamespace(vectors=np.zeros(size, np.uint8)))


def test_the_cache_keeps_the_latest_lists_within_its_limit() -> None:
    made: list[tuple[str, ...]] = []

    def encode(entries: tuple[str, ...]) -> Any:
        made.append(entries)
        return _entry(int(entries[0]))

    cache = ClassCache(encode, 1000)
    first, cached = cache.get(("400", "a"))
    assert not cached
    cache.get(("400", "b"))
    assert cache.get(("400", "a")) == (first, True)
    cache.get(("400", "c"))  # "b" was used least recently
    assert [cache.get(("400", name))[1] for name in ("c", "a", "b")] == [True, True, False]
    assert cache.size <= 1000
    cache.get(("2000",))  # larger than all: not kept, and nothing goes for it
    assert len(cache) == 2
    assert len(made) == 5


def test_a_list_that_is_here_does_not_wait_for_a_new_one() -> None:
    going, go_on = threading.Event(), threading.Event()

    def encode(entries: tuple[str, ...]) -> Any:
        if entries == ("slow",):
            going.set()
            assert go_on.wait(10)
        return _entry(1)

    cache = ClassCache(encode, 1000)
    cache.get(("known",))
    slow = threading.Thread(target=cache.get, args=(("slow",),))
    slow.start()
    assert going.wait(10)
    assert cache.get(("known",))[1]
    go_on.set()
    slow.join(10)
    assert cache.get(("slow",))[1]


def test_a_list_that_cannot_be_encoded_is_not_kept() -> None:
    def encode(entries: tuple[str, ...]) -> Any:
        raise UsageError("no")

    cache = ClassCache(encode, 1000)
    for _ in range(2):
        with pytest.raises(UsageError):
            cache.get(("a",))
    assert (len(cache), cache.size) == (0, 0)


def test_admission() -> None:
    admission = Admission(replicas=2, at_once=2, queue=1, body_bytes=100)
    with admission.body(60):
        with pytest.raises(Overloaded), admission.body(50):
            pass
        with admission.body(40):
            assert admission.body_bytes == 100
    assert admission.body_bytes == 0
    with admission.body(500):  # a single one is never too large: the limit of a body is checked before
        pass
    held = [admission.request() for _ in range(5)]
    for one in held:
        one.__enter__()
    with pytest.raises(Overloaded, match="busy; try again in 1 s"), admission.request():
        pass
    admission.worked(4.0)
    with pytest.raises(Overloaded) as refused, admission.body(1):  # before the body is read
        pass
    assert refused.value.retry_after == 5  # five requests of 4 s on two replicas: half of them
    for one in held:
        one.__exit__(None, None, None)
    assert admission.requests == 0
    assert admission.retry_after == 1


def test_vectors_that_are_not_to_be_kept_are_in_no_file(tmp_path: Path) -> None:
    vectors = np.ones((1, 3), np.float32)
    secret = VectorCache("k", 3, tmp_path, keep=False)
    secret.add(["secret"], vectors)
    assert "secret" in secret
    assert list(tmp_path.iterdir()) == []
    VectorCache("k", 3, tmp_path).add(["kept"], vectors)
    assert "kept" not in VectorCache("k", 3, tmp_path, keep=False)


@pytest.mark.parametrize(
    ("values", "told"),
    [({"max_body": 0.0}, "--max-body is 0"), ({"max_pixels": 2000.0}, "--max-pixels"), ({"cache": -1.0}, "--cache")],
)
def test_options(values: dict[str, float], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        ServeOptions(**values)  # type: ignore[arg-type]
    assert ServeOptions(replicas=10_000 % 1024).threads_each == 1
    assert ServeOptions(threads=3).threads_each == 3


def test_the_description_names_every_reference_and_its_token() -> None:
    plain, guarded = openapi(10, token=False), openapi(10, token=True)
    assert "security" not in plain
    assert guarded["security"] == [{"token": []}]
    assert guarded["paths"]["/healthz"]["get"]["security"] == []
    assert {"200", "400", "413", "415", "503"} <= set(plain["paths"]["/segment"]["post"]["responses"])
