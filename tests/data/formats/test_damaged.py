"""Damaged label files are one line each, never a traceback, and never lead outside of their folder."""

from __future__ import annotations

import json
import random
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.label_trees import CAT, PLAIN, corners, write_labelme, write_photo, write_text, write_yolo

from ovs_edge.bundle.errors import OvsError
from ovs_edge.data.formats.convert import load_annotated
from ovs_edge.data.formats.label_format import Annotated
from ovs_edge.data.formats.registry import find_format

ODD: list[Any] = [None, -1, 10**30, 1.5, float("nan"), "", "x", [], {}, [[]], [1, 2], {"a": 1}, True]


def _tree(folder: Path, name: str) -> Path:
    """A tree of the format; the file that is damaged."""
    if name == "labelme":
        write_labelme(folder)
        return folder / "a.json"
    if name == "yolo":
        write_yolo(folder)
        return folder / "labels/train/a.txt"
    polygon = [value for corner in corners(CAT) for value in corner]
    if name == "coco":
        write_photo(folder / "a.jpg")
        document = {
            "images": [{"id": 1, "file_name": "a.jpg", "height": 6, "width": 8}],
            "annotations": [
                {"image_id": 1, "category_id": 1, "segmentation": [polygon], "iscrowd": 0},
                {"image_id": 1, "category_id": 1, "segmentation": {"size": [6, 8], "counts": [10, 38]}},
            ],
            "categories": [{"id": 1, "name": "cat"}],
        }
        write_text(folder / "instances_train.json", document)
        return folder / "instances_train.json"
    if name == "supervisely":
        write_text(folder / "meta.json", {"classes": [{"title": "cat"}], "tags": []})
        write_photo(folder / "ds/img/a.jpg")
        ring = {"exterior": corners(CAT), "interior": []}
        thing = {"classTitle": "cat", "geometryType": "polygon", "points": ring}
        write_text(folder / "ds/ann/a.jpg.json", {"size": {"height": 6, "width": 8}, "objects": [thing]})
        return folder / "ds/ann/a.jpg.json"
    write_photo(folder / "a.jpg")
    write_text(
        folder / "annotations.xml",
        '<annotations><image id="0" name="a.jpg" width="8" height="6"><polygon label="cat" points="0,0;4,0;4,4" '
        'z_order="1"/><mask label="cat" rle="1, 3" left="0" top="0" width="2" height="2"/></image></annotations>',
    )
    return folder / "annotations.xml"


def _places(value: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place, *(found for key, part in inner for found in _places(part, (*place, key)))]


def _damage_json(text: str, chance: random.Random) -> str:
    document = json.loads(text)
    *above, last = chance.choice(_places(document)[1:])
    part = document
    for key in above:
        part = part[key]
    if chance.random() < 0.3:
        del part[last]
    else:
        part[last] = chance.choice(ODD)
    return json.dumps(document)


def _damage_text(text: str, chance: random.Random) -> str:
    place = chance.randrange(len(text))
    return text[:place] + chance.choice(["", "-", "9" * 30, "nan", '"', "<", "\0", "é", " "]) + text[place + 1 :]


@pytest.mark.parametrize("name", ["labelme", "yolo", "coco", "supervisely", "cvat"])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2**32 - 1))
def test_damage_is_one_line(tmp_path_factory: pytest.TempPathFactory, name: str, seed: int) -> None:
    folder, chance = tmp_path_factory.mktemp(name), random.Random(seed)
    path = _tree(folder, name)
    damage = _damage_json if path.suffix == ".json" and chance.random() < 0.8 else _damage_text
    path.write_text(damage(path.read_text(), chance))
    label_format = find_format(folder, name)
    photos: tuple[Annotated, ...] = ()
    with suppress(OvsError):  # whose message is one line by construction
        photos = label_format.read(folder, PLAIN).photos
    for photo in photos:
        with suppress(OvsError):
            load_annotated(photo, label_format)


@pytest.mark.parametrize("place", ["/etc", "..", "../..", "images/../../secret"])
def test_lists_lead_nowhere_else(place: str, tmp_path: Path) -> None:
    write_photo(tmp_path / "secret/s.jpg")
    folder = tmp_path / "in"
    write_photo(folder / "images/a.jpg")
    write_text(folder / "data.yaml", f"train: images\nval: {place}\nnames: [cat]\n")
    photos = find_format(folder).read(folder, PLAIN).photos
    assert [photo.image.name for photo in photos] == ["a.jpg"]
    label = {"shapes": [], "imagePath": f"{place}/s.jpg"}
    write_text(tmp_path / "deep/er/in/l.json", label)
    assert find_format(tmp_path / "deep/er/in", "labelme").read(tmp_path / "deep/er/in", PLAIN).photos == ()
