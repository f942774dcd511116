"""Folders that nobody would make, and that come anyway: each is told in one line, and nothing else happens."""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.label_trees import CAT, PLAIN, converted, corners, write_labelme, write_photo, write_text

from ovs_edge.bundle.errors import DatasetError
from ovs_edge.data.formats.convert import load_annotated
from ovs_edge.data.formats.registry import find_format

SHAPE = {"label": "cat", "points": corners(CAT)}
NAMES = [
    "x" * 5000 + ".jpg",
    "a\0b.jpg",
    ".",
    "..",
    "/",
    "a.jpg/b.jpg",
    "a.jpg/../../secret.jpg",
    "C:\\secret.jpg",
    "\ud800.jpg",
]


def _coco(folder: Path, name: str) -> None:
    document = {"images": [{"id": 1, "file_name": name}], "annotations": [], "categories": [{"id": 1, "name": "cat"}]}
    write_text(folder / "instances_train.json", document)


def _labelme(folder: Path, name: str) -> None:
    write_text(folder / "z.json", {"shapes": [SHAPE], "imagePath": name})


def _cvat(folder: Path, name: str) -> None:
    text = name.encode("utf-8", "replace").decode().replace("\0", "")
    write_text(folder / "a.xml", f'<annotations><image id="0" name="{text}" width="8" height="6"/></annotations>')


def _yolo(folder: Path, name: str) -> None:
    write_text(folder / "data.yaml", json.dumps({"train": name, "names": ["cat"]}))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("write", [_coco, _labelme, _cvat, _yolo])
def test_names_of_photos_that_are_none(write: Callable[[Path, str], None], name: str, tmp_path: Path) -> None:
    write_photo(tmp_path / "secret.jpg")
    folder = tmp_path / "deep/er/in"
    write_photo(folder / "a.jpg")
    write(folder, name)
    photos = find_format(folder).read(folder, PLAIN).photos
    assert {photo.image.resolve() for photo in photos} <= {folder / "a.jpg"}


def test_pipes_and_loops_of_links(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    write_labelme(folder)
    os.mkfifo(folder / "pipe.json")
    os.mkfifo(folder / "pipe.xml")
    (folder / "self").symlink_to(".")
    (folder / "me.json").symlink_to("me.json")
    _, masks, _ = converted(folder, tmp_path / "out")
    assert sorted(masks) == ["a", "b", "c"]
    pipes = tmp_path / "pipes"
    pipes.mkdir()
    os.mkfifo(pipes / "data.yaml")
    with pytest.raises(DatasetError, match="holds no labels of a format that is known"):
        find_format(pipes)
    with pytest.raises(DatasetError, match=r"has no data\.yaml"):
        find_format(pipes, "yolo").read(pipes, PLAIN)


def test_names_in_another_encoding(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    write_photo(folder / "a.jpg")
    name = os.fsdecode(b"caf\xe9")
    (folder / "a.jpg").rename(folder / f"{name}.jpg")
    (folder / f"{name}.json").write_text(json.dumps({"shapes": [SHAPE], "imagePath": "elsewhere.jpg"}))
    _, masks, result = converted(folder, tmp_path / "out")
    assert (list(masks), result.skipped) == ([name], ())


def _bomb() -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("name", ["colour-masks", "binary-masks"])
def test_masks_that_unpack_to_gigabytes(name: str, tmp_path: Path) -> None:
    write_photo(tmp_path / "images/a.jpg")
    write_text(tmp_path / "labelmap.txt", "cat:1,2,3::\n")
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks/a.png").write_bytes(_bomb())
    known = find_format(tmp_path, name)
    [photo] = known.read(tmp_path, PLAIN).photos
    with pytest.raises(DatasetError, match="cannot decode the mask"):
        load_annotated(photo, known)


GIANT_MASK = (
    '<annotations><image name="a.jpg"><mask label="c" rle="99999999999999999999" left="0" top="0" width="999999999" '
    'height="9999999"/></image></annotations>'
)
GIANTS: list[tuple[str, Any]] = [
    ("instances_train.json", {
        "images": [{"id": 1, "file_name": "a.jpg", "height": 10**9, "width": 10**9}],
        "annotations": [{"image_id": 1, "category_id": 1, "segmentation": {"size": [10**9, 10**9], "counts": [10**18]}}],
        "categories": [{"id": 1, "name": "cat"}],
    }),
    ("instances_train.json", {
        "images": [{"id": 1, "file_name": "a.jpg"}],
        "annotations": [{"image_id": 1, "category_id": 1, "segmentation": {"size": [6, 8], "counts": [0, 10**18]}}],
        "categories": [{"id": 1, "name": "cat"}],
    }),
    ("a.json", {"shapes": [{"label": "cat", "points": [[0, 0], [1e300, 0], [4, 4]]}], "imagePath": "a.jpg"}),
    ("a.xml", GIANT_MASK),
]  # fmt: skip


@pytest.mark.parametrize(("file", "content"), GIANTS)
def test_sizes_beyond_reason(file: str, content: Any, tmp_path: Path) -> None:
    write_photo(tmp_path / "a.jpg")
    write_text(tmp_path / file, content)
    known = find_format(tmp_path)
    [photo] = known.read(tmp_path, PLAIN).photos
    with pytest.raises(DatasetError):
        load_annotated(photo, known)


def test_yaml_makes_no_objects_and_no_gigabytes(tmp_path: Path) -> None:
    write_text(tmp_path / "a/data.yaml", f"names: !!python/object/apply:os.mkdir ['{tmp_path}/pwned']\n")
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n + 1}: &a{n + 1} [{', '.join([f'*a{n}'] * 9)}]" for n in range(8)]
    write_text(tmp_path / "b/data.yaml", "\n".join([*lines, "names: *a8", "train: ."]))
    for folder in ("a", "b"):
        with pytest.raises(DatasetError):
            find_format(tmp_path / folder).read(tmp_path / folder, PLAIN)
    assert not (tmp_path / "pwned").exists()


def test_deep_json_and_bytes(tmp_path: Path) -> None:
    write_photo(tmp_path / "a.jpg")
    write_text(tmp_path / "a.json", '{"shapes":' + "[" * 100_000 + "]" * 100_000 + ',"imagePath":"a.jpg"}')
    assert "expected JSON" in find_format(tmp_path, "labelme").read(tmp_path, PLAIN).skipped[0]
    (tmp_path / "a.json").write_bytes(b'{"shapes": [], "imagePath": "\xff"}')
    assert "save it as UTF-8" in find_format(tmp_path).read(tmp_path, PLAIN).skipped[0]
