"""Every output format, read back by `ovs-data convert` and by the tools that it is made for, is the label map."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from support.label_job import encoded

from ovs_edge.bundle.errors import UsageError
from ovs_edge.data.formats.convert import convert
from ovs_edge.data.formats.label_format import ReadOptions
from ovs_edge.data.formats.registry import find_format
from ovs_edge.label.formats.label_writer import WriterOptions
from ovs_edge.label.formats.registry import WRITERS, open_writer
from ovs_edge.label.formats.shape import Shape
from ovs_edge.label.geometry.regions import regions_of
from ovs_edge.label.inputs.pictures import decode
from ovs_edge.label.records import PictureRecord, record_of
from ovs_edge.label.store import LocalStore
from ovs_edge.runtime.inference.prediction import Prediction

DATA = Path(__file__).parents[2].parent / "shared" / "data" / "msrc"
NAMES = ("cat", 'a "b" & <c>: dé', "sky")
FORMS = [
    *((name, Shape.AUTO) for name in WRITERS if name != "parquet"),
    ("coco", Shape.POLYGON), ("labelme", Shape.MASK), ("cvat", Shape.MASK),
]  # fmt: skip

Labels = npt.NDArray[np.int32]


def made_maps() -> Iterator[tuple[str, Labels]]:
    """A ring with an island, single pixels that touch at corners, a map without any label, one of a single class."""
    ring = np.full((31, 40), -1, np.int32)
    ring[3:28, 4:36], ring[8:20, 10:30], ring[11:15, 15:20] = 0, -1, 1
    ring[20:24, 6:9] = 2
    ring[0, 0], ring[1, 1], ring[30, 39] = 2, 2, 2
    yield "ring", ring
    yield "noise", np.random.default_rng(0).integers(-1, 3, (17, 23)).astype(np.int32)
    yield "nothing", np.full((5, 7), -1, np.int32)
    yield "all", np.full((6, 9), 2, np.int32)


def written(folder: Path, name: str, shape: Shape, maps: list[tuple[str, Labels]], names: tuple[str, ...]) -> None:
    """Label maps as `ovs-label` writes them."""
    writer = open_writer(name, WriterOptions(names, shape))
    store = LocalStore(folder)
    records: list[PictureRecord] = []
    for stem, labels in maps:
        image = np.random.default_rng(1).integers(0, 255, (*labels.shape, 3)).astype(np.uint8)
        picture = decode(stem, f"in/{stem}.png", encoded(image))
        file = f"{writer.folder}/{stem}.png".lstrip("/")
        store.write(file, picture.encoded())
        regions = regions_of(Prediction(labels, np.full(labels.shape, 0.75, np.float32), names))
        writer.write_picture(store, picture, regions, file)
        records.append(record_of(picture, regions, file, polygons=writer.polygons, tolerance=0))
    writer.write_shard(store, "000000-0000", records)
    writer.finish(store, lambda: iter(records))


def read_back(folder: Path, target: Path, names: tuple[str, ...]) -> dict[str, Labels]:
    """The label maps that `ovs-data convert` makes of a folder."""
    label_format = find_format(folder)
    convert(folder, label_format, label_format.read(folder, ReadOptions()), target)
    classes = json.loads((target / "classes.json").read_text(encoding="utf-8"))
    table = np.full(256, -1, np.int32)
    table[: len(classes)] = [names.index(name) for name in classes]
    return {path.stem: table[np.asarray(Image.open(path))] for path in target.glob("masks/*/*.png")}


@pytest.mark.parametrize(("name", "shape"), FORMS)
def test_made_maps_come_back(name: str, shape: Shape, tmp_path: Path) -> None:
    maps = list(made_maps())
    written(tmp_path / "out", name, shape, maps, NAMES)
    found = read_back(tmp_path / "out", tmp_path / "back", NAMES)
    assert sorted(found) == ["all", "noise", "ring"]  # without a label there is nothing to train on
    for stem, labels in maps:
        assert stem == "nothing" or np.array_equal(found[stem], labels), stem


@pytest.mark.skipif(not DATA.is_dir(), reason=f"no labelled photos at {DATA}")
@pytest.mark.parametrize(("name", "shape"), FORMS)
def test_real_masks_come_back(name: str, shape: Shape, tmp_path: Path) -> None:
    names = tuple(entry.split("|")[0] for entry in json.loads((DATA / "classes.json").read_text()))
    paths = sorted((DATA / "masks/val").iterdir())[:4]
    maps = []
    for path in paths:
        labels = np.asarray(Image.open(path)).astype(np.int32)
        labels[labels == 255] = -1
        maps.append((path.stem, labels))
    written(tmp_path / "out", name, shape, maps, names)
    found = read_back(tmp_path / "out", tmp_path / "back", names)
    for stem, labels in maps:
        assert np.array_equal(found[stem], labels), stem


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools' own
@pytest.mark.parametrize("shape", [Shape.MASK, Shape.POLYGON])
def test_coco_loads_in_pycocotools(shape: Shape, tmp_path: Path) -> None:
    coco = pytest.importorskip("pycocotools.coco")
    [(stem, labels), *_] = made_maps()
    written(tmp_path, "coco", shape, [(stem, labels)], NAMES)
    opened = coco.COCO(str(tmp_path / "annotations/instances.json"))
    painted = np.full(labels.shape, -1)
    for annotation in opened.loadAnns(opened.getAnnIds()):
        mask = opened.annToMask(annotation).astype(bool)
        painted[mask] = annotation["category_id"] - 1
        x, y, width, height = annotation["bbox"]
        assert annotation["area"] == mask.sum() or shape is Shape.POLYGON
        assert mask[y : y + height, x : x + width].sum() == mask.sum()
    # Its polygons are drawn by a rule of its own, and holes are cuts to it, too.
    assert np.array_equal(painted, labels) if shape is Shape.MASK else np.mean(painted == labels) > 0.97
    assert [entry["name"] for entry in opened.loadCats(opened.getCatIds())] == list(NAMES)


def test_yolo_loads_in_supervision(tmp_path: Path) -> None:
    sv = pytest.importorskip("supervision")
    disc = np.full((60, 80), -1, np.int32)
    disc[10:50, 20:60], disc[30:45, 62:78] = 0, 1
    written(tmp_path, "yolo", Shape.AUTO, [("a", disc)], ("cat", "dog"))
    opened = sv.DetectionDataset.from_yolo(
        images_directory_path=str(tmp_path / "images/train"),
        annotations_directory_path=str(tmp_path / "labels/train"),
        data_yaml_path=str(tmp_path / "data.yaml"),
        force_masks=True,
    )
    [(_, _, detections)] = list(opened)
    assert opened.classes == ["cat", "dog"] and sorted(detections.class_id.tolist()) == [0, 1]
    for mask, index in zip(detections.mask, detections.class_id, strict=True):
        assert np.mean(mask == (disc == index)) > 0.98


def test_parquet_has_a_row_for_each_picture(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    maps = list(made_maps())
    written(tmp_path, "parquet", Shape.AUTO, maps, NAMES)
    table = parquet.read_table(tmp_path / "part-000000-0000.parquet")
    assert json.loads(table.schema.metadata[b"classes"]) == list(NAMES)
    from ovs_edge.runtime.inference.interop import decode_rle

    for row, (stem, labels) in zip(table.to_pylist(), maps, strict=True):
        painted = np.full(labels.shape, -1)
        for region in row["regions"]:
            mask = decode_rle({"size": [row["height"], row["width"]], "counts": region["counts"]})
            painted[mask] = region["class_id"]
            assert (region["class"], region["confidence"]) == (NAMES[region["class_id"]], 0.75)
        assert (row["name"], row["file"]) == (stem, f"images/{stem}.png") and np.array_equal(painted, labels)


def test_more_classes_than_a_mask_holds() -> None:
    with pytest.raises(UsageError, match="256 classes do not fit"):
        open_writer("masks", WriterOptions(tuple(map(str, range(256)))))
