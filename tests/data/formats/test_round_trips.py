"""Real masks, written in each format and converted back, are the same pixels."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from support.format_trees import (
    VOID,
    WRITERS,
    Labels,
    Photos,
    copied,
    write_coco_stuff,
    write_colours,
    write_pascal_voc,
)

from ovs_edge.data.formats.convert import ConvertOptions, convert
from ovs_edge.data.formats.label_format import ReadOptions
from ovs_edge.data.formats.registry import find_format
from ovs_edge.data.names.category_names import category_names
from ovs_edge.data.names.synonyms import shipped_senses
from ovs_edge.data.readers.coco_stuff import known_ids

DATA = Path(__file__).parents[3].parent / "shared" / "data"
PHOTOS = 4
# MSRC's names -> COCO-Stuff's, where they differ.
_STUFF = {"building": "building-other", "sky": "sky-other", "water": "water-other", "aeroplane": "airplane"}

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=f"no labelled photos at {DATA}")


def _photos(data_set: str = "msrc", most: int = PHOTOS) -> list[tuple[Path, Labels]]:
    folder = DATA / data_set
    paths = sorted((folder / "images/val").iterdir())
    chosen = [paths[place * len(paths) // most] for place in range(most)] if most < len(paths) else paths
    return [(path, np.asarray(Image.open(folder / f"masks/val/{path.stem}.png"))) for path in chosen]


def _names(data_set: str = "msrc") -> list[str]:
    return [entry.split("|")[0] for entry in json.loads((DATA / data_set / "classes.json").read_text())]


def _equal(target: Path, names: list[str], photos: Photos, stems: dict[str, str] | None = None) -> list[float]:
    """Of each photo the share of pixels that a conversion gave back."""
    classes = json.loads((target / "classes.json").read_text())
    table = np.full(256, VOID, np.uint8)
    table[: len(classes)] = [names.index(name) if name in names else VOID for name in classes]
    masks = _masks(target)
    assert len(masks) == len(photos)
    return [
        float(np.mean(table[masks[path.stem if stems is None else stems[path.stem]]] == labels))
        for path, labels in photos
    ]


@pytest.mark.parametrize("form", WRITERS)
def test_masks_come_back(form: str, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    WRITERS[form](tmp_path / "in", _names(), _photos())
    _convert(tmp_path / "in", tmp_path / "out")
    assert _equal(tmp_path / "out", _names(), _photos()) == [1.0] * PHOTOS


def test_pascal_voc_as_published_comes_back(tmp_path: Path) -> None:
    photos = _photos("voc")
    write_pascal_voc(tmp_path / "in", photos, _backgrounds(photos))
    _convert(tmp_path / "in", tmp_path / "out")
    assert _equal(tmp_path / "out", _voc_names(), photos) == [1.0] * PHOTOS
    assert _background_equal(tmp_path / "out", photos) == [1.0] * PHOTOS
    assert {path.parent.name for path in (tmp_path / "out").glob("masks/*/*")} == {"train", "val"}


def test_coco_stuff_as_published_comes_back(tmp_path: Path) -> None:
    names, photos = _stuff_photos(_photos())
    stems = write_coco_stuff(tmp_path / "in", [known_ids()[name] for name in names], photos)
    _convert(tmp_path / "in", tmp_path / "out")
    assert _equal(tmp_path / "out", _spoken(names), photos, stems) == [1.0] * PHOTOS


def _voc_names() -> list[str]:
    """VOC's classes, in the order of those of `voc`, which puts other names first."""
    return [category_names(name).names[0] for name in shipped_senses()["sets"]["pascal_voc_20"]]


def _backgrounds(photos: Photos) -> list[npt.NDArray[np.bool_]]:
    """Pixels of photos of `voc` that are known to show none of its classes."""
    return [np.asarray(Image.open(DATA / f"voc/background/val/{path.stem}.png")) > 0 for path, _ in photos]


def _background_equal(target: Path, photos: Photos) -> list[float]:
    shares = []
    for (path, labels), known in zip(photos, _backgrounds(photos), strict=True):
        maps = [np.asarray(Image.open(found)) > 0 for found in target.glob(f"background/*/{path.stem}.png")]
        found = maps[0] if maps else np.zeros(labels.shape, np.bool_)  # a photo that shows nothing else has no map
        shares.append(float(np.mean(found == (known & (labels == VOID)))))
    return shares


def _stuff_photos(photos: Photos) -> tuple[list[str], Photos]:
    """Photos of `msrc` with COCO-Stuff's names; what has none there is not labelled."""
    names = [_STUFF.get(name, name) for name in _names()]
    kept = [name for name in names if name in known_ids()]
    table = np.full(256, VOID, np.uint8)
    for place, name in enumerate(names):
        table[place] = kept.index(name) if name in kept else VOID
    named = [(path, table[labels]) for path, labels in photos]
    return kept, [(path, labels) for path, labels in named if (labels != VOID).any()]


def _spoken(names: list[str]) -> list[str]:
    """COCO-Stuff's names as a conversion writes them: building-other is building."""
    return [category_names(name).names[0] for name in names]


@pytest.mark.nightly
def test_table_of_round_trips(tmp_path: Path) -> None:
    """Prints the table of docs/guides/data.md: many photos of four data sets in every form (pytest -m nightly -s)."""
    print("\n| form | masks | pixels equal | worst mask |\n|---|---|---|---|")
    worst = {}

    def told(form: str, shares: list[float]) -> None:
        print(f"| {form} | {len(shares)} | {np.mean(shares):.4%} | {min(shares):.4%} |", flush=True)
        worst[form] = min(shares)

    photos = _photos("voc", 50)
    write_pascal_voc(tmp_path / "voc/in", photos, _backgrounds(photos))
    _convert(tmp_path / "voc/in", tmp_path / "voc/out")
    shares = _equal(tmp_path / "voc/out", _voc_names(), photos)
    told("Pascal VOC as published", shares + _background_equal(tmp_path / "voc/out", photos))
    names, photos = _stuff_photos(_photos("msrc", 50))
    stems = write_coco_stuff(tmp_path / "stuff/in", [known_ids()[name] for name in names], photos)
    _convert(tmp_path / "stuff/in", tmp_path / "stuff/out")
    told("COCO-Stuff as published", _equal(tmp_path / "stuff/out", _spoken(names), photos, stems))
    for form, write in WRITERS.items():
        shares = []
        for data_set in ("msrc", "camvid", "coco_things", "voc"):
            photos, names, folder = _photos(data_set, 12), _names(data_set), tmp_path / form / data_set
            (folder / "in").mkdir(parents=True)
            write(folder / "in", names, photos)
            _convert(folder / "in", folder / "out")
            shares += _equal(folder / "out", names, photos)
        told(form, shares)
    assert all(share >= (0.999 if "polygons" in form else 1) for form, share in worst.items()), worst


def _masks(target: Path) -> dict[str, Labels]:
    return {path.stem: np.asarray(Image.open(path)) for path in target.glob("masks/*/*.png")}


def _convert(source: Path, target: Path, name: str | None = None, options: ConvertOptions | None = None) -> None:
    label_format = find_format(source, name)
    photos = label_format.read(source, ReadOptions({"void": ""}))
    assert convert(source, label_format, photos, target, options or ConvertOptions()).skipped == ()


def test_binary_masks_come_back(tmp_path: Path) -> None:
    for path, labels in _photos():
        copied(path, tmp_path / "in/images" / path.name)
        (tmp_path / "in/masks").mkdir(exist_ok=True)
        Image.fromarray(np.where(labels == labels[0, 0], np.uint8(255), np.uint8(0))).save(
            tmp_path / f"in/masks/{path.stem}.png"
        )
    _convert(tmp_path / "in", tmp_path / "out", "binary-masks")
    maps = {path.stem: np.asarray(Image.open(path)) for path in (tmp_path / "out").glob("background/*/*.png")}
    for path, labels in _photos():
        assert np.array_equal(_masks(tmp_path / "out")[path.stem] == 0, labels == labels[0, 0])
        assert np.array_equal(maps[path.stem], labels != labels[0, 0])


def test_cityscapes_comes_back(tmp_path: Path) -> None:
    ids = np.array([7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33], np.uint8)
    known = {}
    for path, labels in _photos():
        name = f"town_{path.stem.replace('_', '-')}_000019"
        known[f"{name}_leftImg8bit"] = np.where(labels == VOID, VOID, labels % 19)
        for folder in ("leftImg8bit", "gtFine"):
            (tmp_path / "in" / folder / "val/town").mkdir(parents=True, exist_ok=True)
        Image.open(path).save(tmp_path / f"in/leftImg8bit/val/town/{name}_leftImg8bit.png")
        Image.fromarray(np.where(labels == VOID, np.uint8(4), ids[labels % 19])).save(
            tmp_path / f"in/gtFine/val/town/{name}_gtFine_labelIds.png"
        )
    _convert(tmp_path / "in", tmp_path / "out")
    found = _masks(tmp_path / "out")
    assert sorted(found) == sorted(known)
    assert all(np.array_equal(found[name], known[name]) for name in known)


def test_coco_panoptic_comes_back(tmp_path: Path) -> None:
    """Masks to COCO panoptic, and from there to masks again."""
    (tmp_path / "in").mkdir()
    write_colours(tmp_path / "in", _names(), _photos())
    _convert(tmp_path / "in", tmp_path / "panoptic", options=ConvertOptions("coco-panoptic"))
    _convert(tmp_path / "panoptic", tmp_path / "out")
    for path, labels in _photos():
        assert np.array_equal(_masks(tmp_path / "out")[path.stem], labels)
