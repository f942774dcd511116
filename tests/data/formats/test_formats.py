"""Every format, on a small tree with its irregularities, becomes the masks that are known by hand."""

from __future__ import annotations

import base64
import io
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.label_trees import (
    CAT,
    DOG,
    KNOWN,
    SIZE,
    converted,
    corners,
    write_labelme,
    write_photo,
    write_text,
    write_yolo,
)

from ovs_edge.bundle.errors import DatasetError
from ovs_edge.data.datasets import open_dataset
from ovs_edge.data.formats.label_format import ReadOptions, read_names
from ovs_edge.data.formats.registry import find_format


def test_labelme(tmp_path: Path) -> None:
    write_labelme(tmp_path / "in")
    classes, masks, result = converted(tmp_path / "in", tmp_path / "out")
    assert classes == ["cat", "dog"]
    assert sorted(masks) == ["a", "b", "c"]
    for mask in masks.values():
        assert np.array_equal(mask, KNOWN)
    assert [reason.replace(str(tmp_path), "") for reason in result.skipped] == [
        "a.json: a line covers no pixels",
        "d.json: no photo 'd.jpg' beside it",
        "/in/e.json is of a photo of 8x6, found 3x3",
        "f.jpg: no label",
    ]


def test_labelmes_own_names_for_the_rest(tmp_path: Path) -> None:
    """`_background_` is none of the classes, `__ignore__` is not labelled."""
    write_photo(tmp_path / "in/a.jpg")
    shapes = [
        {"label": label, "points": corners(box), "shape_type": "polygon"}
        for label, box in (("_background_", (0, 0, 8, 6)), ("cat", CAT), ("__ignore__", DOG))
    ]
    write_text(tmp_path / "in/a.json", {"shapes": shapes, "imagePath": "a.jpg"})
    classes, masks, _ = converted(tmp_path / "in", tmp_path / "out")
    assert (classes, sorted(np.unique(masks["a"]))) == (["cat"], [0, 255])
    background = np.asarray(Image.open(tmp_path / "out/background/train/a.png"))
    assert background.sum() == 48 - 16 - 9 + 4
    assert not background[2:5, 2:5].any()


def test_labelme_with_a_broken_file_and_labels_with_spaces(tmp_path: Path) -> None:
    shape = {"points": corners(CAT), "shape_type": "polygon"}
    for name, shapes in (("a", [{**shape, "label": "cat"}]), ("b", [{**shape, "label": "cat "}, shape])):
        write_photo(tmp_path / f"in/{name}.jpg")
        write_text(tmp_path / f"in/{name}.json", {"shapes": shapes, "imagePath": f"{name}.jpg"})
    write_text(tmp_path / "in/cut.json", '{"shapes": [')
    classes, masks, result = converted(tmp_path / "in", tmp_path / "out")
    assert (classes, sorted(masks)) == (["cat"], ["a", "b"])
    assert result.skipped[0] == "b.json: a polygon has no label"
    assert "cut.json" in result.skipped[1]
    assert "expected JSON" in result.skipped[1]


def test_yolo(tmp_path: Path) -> None:
    write_yolo(tmp_path / "in")
    classes, masks, result = converted(tmp_path / "in", tmp_path / "out")
    assert classes == ["cat", "dog"]
    assert result.photos == {"train": 1, "val": 1}
    assert np.array_equal(masks["a"], KNOWN)
    told = [reason.replace(str(tmp_path / "in/"), "") for reason in result.skipped]
    assert "box.txt, line 1 is a box, which tells no pixels" in told[0]
    assert told[1].endswith("class.txt, line 1 is of class 7, expected 0 to 1")
    assert told[2] == "none.jpg: no label"


def test_yolo_names_that_yaml_takes_for_switches(tmp_path: Path) -> None:
    write_text(tmp_path / "data.yaml", "train: images\nnames: [yes, cat]\n")
    with pytest.raises(DatasetError, match="quote it"):
        find_format(tmp_path).read(tmp_path, ReadOptions())


def test_yolo_tells_where_a_polygon_is_wrong(tmp_path: Path) -> None:
    write_text(tmp_path / "data.yaml", "train: images\nnames: [cat]\n")
    write_photo(tmp_path / "images/a.jpg")
    write_text(tmp_path / "labels/a.txt", "\n0 0 0 1 0 nan 1\n")
    photo = find_format(tmp_path).read(tmp_path, ReadOptions()).photos[0]
    with pytest.raises(DatasetError, match=r"a\.txt, line 2 cannot be painted"):
        photo.paint(SIZE)


def test_photos_without_objects_are_background_where_labels_are_complete(tmp_path: Path) -> None:
    write_yolo(tmp_path / "in")
    _, masks, _ = converted(tmp_path / "in", tmp_path / "out", ReadOptions(complete=True))
    assert (masks["none"] == 255).all()
    for name, known in (("none", np.ones(SIZE, bool)), ("a", KNOWN == 255)):
        assert np.array_equal(np.asarray(Image.open(tmp_path / f"out/background/train/{name}.png")), known)
    sample = open_dataset(tmp_path / "out", "train").load(0)
    assert sample.background is not None
    assert np.array_equal(sample.background, KNOWN == 255)


def _coco(folder: Path) -> None:
    def runs(box: tuple[int, int, int, int]) -> list[int]:
        mask = np.zeros(SIZE, bool)
        mask[box[1] : box[3], box[0] : box[2]] = True
        flat = mask.ravel(order="F")
        edges = np.flatnonzero(np.diff(np.concatenate(([False], flat, [not flat[-1]]))))
        return np.diff(np.concatenate(([0], edges))).tolist()

    polygon = [[value for corner in corners(CAT) for value in corner]]
    dog = {"id": 1, "image_id": 5, "category_id": 18, "segmentation": {"size": list(SIZE), "counts": runs(DOG)}}
    cat = {"id": 2, "image_id": 5, "category_id": 3, "segmentation": polygon, "iscrowd": 0, "bbox": [0, 0, 4, 4]}
    crowd = {**dog, "id": 3, "iscrowd": 1, "segmentation": {"size": list(SIZE), "counts": runs((6, 0, 8, 6))}}
    images = [
        {"id": 5, "file_name": "a.jpg", "height": 6, "width": 8},
        {"id": 6, "file_name": "gone.jpg", "height": 6, "width": 8},
        {"id": 7, "file_name": "small.jpg", "height": 6, "width": 8},
    ]
    categories = [{"id": 18, "name": "dog"}, {"id": 3, "name": "cat"}]
    for split in ("train", "val"):
        write_photo(folder / f"{split}2017/a.jpg")
        write_photo(folder / f"{split}2017/small.jpg", (2, 2))
        document = {"images": images, "annotations": [dog, cat, crowd], "categories": categories}
        write_text(folder / f"annotations/instances_{split}2017.json", document)


def test_coco(tmp_path: Path) -> None:
    _coco(tmp_path / "in")
    classes, masks, result = converted(tmp_path / "in", tmp_path / "out", ReadOptions(complete=True))
    assert classes == ["cat", "dog"]
    assert result.photos == {"train": 1, "val": 1}
    assert np.array_equal(masks["a"], KNOWN)
    background = np.asarray(Image.open(tmp_path / "out/background/val/a.png"))
    assert not background[:, 6:].any()  # a crowd: some of it is a dog
    assert np.array_equal(background[:, :6], KNOWN[:, :6] == 255)
    assert sum("gone.jpg: no such photo" in reason for reason in result.skipped) == 2
    assert sum("small.jpg as 8x6, the photo is 2x2" in reason for reason in result.skipped) == 2


def _palette_masks(folder: Path) -> None:
    """CVAT's "Segmentation mask", one mask as colours and one as a palette."""
    write_text(
        folder / "labelmap.txt", "# label:color_rgb:parts:actions\nbackground:0,0,0::\ncat:128,0,0::\ndog:0,64,9::\n"
    )
    colours = np.zeros((*SIZE, 3), np.uint8)
    colours[KNOWN == 0], colours[KNOWN == 1] = (128, 0, 0), (0, 64, 9)
    colours[5, 7] = (224, 224, 192)  # VOC's border
    picture = Image.fromarray(colours)
    for name in ("a", "b", "odd"):
        write_photo(folder / f"JPEGImages/{name}.jpg")
    (folder / "SegmentationClass").mkdir()
    picture.save(folder / "SegmentationClass/a.png")
    picture.quantize(8, dither=Image.Dither.NONE).save(folder / "SegmentationClass/b.png")
    colours[0, 0] = (1, 2, 3)
    Image.fromarray(colours).save(folder / "SegmentationClass/odd.png")
    write_text(folder / "ImageSets/Segmentation/train.txt", "a\nodd\n")
    write_text(folder / "ImageSets/Segmentation/val.txt", "b\n")


def test_colour_masks(tmp_path: Path) -> None:
    _palette_masks(tmp_path / "in")
    classes, masks, result = converted(tmp_path / "in", tmp_path / "out")
    assert classes == ["cat", "dog"]
    assert result.photos == {"train": 1, "val": 1}
    assert np.array_equal(masks["a"], KNOWN)
    assert np.array_equal(masks["b"], KNOWN)
    background = np.asarray(Image.open(tmp_path / "out/background/train/a.png"))
    assert background.sum() == (KNOWN == 255).sum() - 1
    assert [reason.rpartition("/")[2] for reason in result.skipped] == [
        "odd.png holds the colour 1,2,3, which the table does not name"
    ]


def test_a_table_of_colours_of_ones_own(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    write_text(tmp_path / "colours.txt", "cat: 255, 0, 0\ndog: 0 0 255\nbackground: 9,9,9\n")
    colours = np.full((*SIZE, 3), 9, np.uint8)
    colours[KNOWN == 0], colours[KNOWN == 1] = (255, 0, 0), (0, 0, 255)
    for split in ("train", "val"):
        write_photo(folder / f"images/{split}/a.jpg")
        (folder / "masks" / split).mkdir(parents=True)
        Image.fromarray(colours).save(folder / f"masks/{split}/a.png")
    options = ReadOptions(read_names(tmp_path / "colours.txt"))
    classes, masks, _ = converted(folder, tmp_path / "out", options, "colour-masks")
    assert classes == ["cat", "dog"]
    assert np.array_equal(masks["a"], KNOWN)
    with pytest.raises(DatasetError, match="no table of colours"):
        converted(folder, tmp_path / "none", name="colour-masks")
    write_text(folder / "labelmap.txt", "cat:255,0,0::\ndog:0,0,256::")
    with pytest.raises(DatasetError, match="the colour of 'dog' is '0,0,256'"):
        converted(folder, tmp_path / "none", name="colour-masks")
    write_text(folder / "labelmap.txt", "cat:255,0,0::\ndog:0,0,255::\nbackground:9,9,9::")
    classes, masks, _ = converted(folder, tmp_path / "renamed", ReadOptions({"cat": "animal", "dog": "animal"}))
    assert (classes, (masks["a"] == 0).sum()) == (["animal"], (KNOWN != 255).sum())


def test_binary_masks(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    write_photo(folder / "images/a.jpg")
    write_photo(folder / "images/b.jpg")
    (folder / "masks").mkdir()
    Image.fromarray((KNOWN == 0).astype(np.uint8) * 255).save(folder / "masks/a.png")
    Image.fromarray(KNOWN).save(folder / "masks/b.png")
    classes, masks, result = converted(folder, tmp_path / "out", ReadOptions({"cat": "cat"}), "binary-masks")
    assert classes == ["cat"]
    assert np.array_equal(masks["a"] == 0, KNOWN == 0)
    assert np.asarray(Image.open(tmp_path / "out/background/train/a.png")).sum() == (KNOWN != 0).sum()
    assert "b.png holds the values [0, 1, 255], expected 0 and one other" in result.skipped[0]


def _cvat(folder: Path) -> None:
    points = ";".join(f"{x},{y}" for x, y in corners(CAT))
    write_text(
        folder / "annotations.xml",
        f"""<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version><meta><task><labels>
<label><name>cat</name></label><label><name>dog</name></label></labels></task></meta>
<image id="0" name="sub/a.jpg" width="8" height="6">
<box label="dog" z_order="1" xtl="2" ytl="2" xbr="5" ybr="5"/><polygon label="cat" z_order="0" points="{points}"/>
<polyline label="cat" points="0,0;1,1"/></image>
<image id="1" name="b.jpg" width="8" height="6"><polygon label="cat" points="{points}"/>
<mask label="dog" rle="0, 9" left="2" top="2" width="3" height="3"/></image>
<image id="2" name="gone.jpg" width="8" height="6"/></annotations>""",
    )
    write_photo(folder / "images/sub/a.jpg")
    write_photo(folder / "images/b.jpg")


def test_cvat(tmp_path: Path) -> None:
    _cvat(tmp_path / "in")
    classes, masks, result = converted(tmp_path / "in", tmp_path / "out")
    assert classes == ["cat", "dog"]
    assert sorted(masks) == ["b", "sub_a"]
    for mask in masks.values():
        assert np.array_equal(mask, KNOWN)
    assert result.skipped == ("sub/a.jpg: a polyline covers no pixels", "gone.jpg: no such photo")


def test_entities_are_not_expanded(tmp_path: Path) -> None:
    write_text(
        tmp_path / "annotations.xml", '<!DOCTYPE a [<!ENTITY b "c">]><annotations><image id="0"/>&b;</annotations>'
    )
    label_format = find_format(tmp_path, "cvat")
    with pytest.raises(DatasetError, match="defines entities"):
        label_format.read(tmp_path, ReadOptions())


def _supervisely(folder: Path) -> None:
    write_text(folder / "meta.json", {"classes": [{"title": "cat", "shape": "polygon"}, {"title": "dog"}], "tags": []})
    stream = io.BytesIO()
    Image.fromarray(np.ones((3, 3), bool)).save(stream, "PNG")
    bitmap = {"data": base64.b64encode(zlib.compress(stream.getvalue())).decode(), "origin": [2, 2]}
    ring = [[0, 0], [3, 0], [3, 3], [0, 3]]  # pixels of the outline
    objects = {
        "a": [
            {"classTitle": "cat", "geometryType": "polygon", "points": {"exterior": ring, "interior": []}},
            {"classTitle": "dog", "geometryType": "bitmap", "bitmap": bitmap},
            {"classTitle": "dog", "geometryType": "point", "points": {"exterior": [[1, 1]], "interior": []}},
        ],
        "b": [
            {
                "classTitle": "cat",
                "geometryType": "rectangle",
                "points": {"exterior": [[0, 0], [3, 3]], "interior": []},
            },
            {
                "classTitle": "dog",
                "geometryType": "rectangle",
                "points": {"exterior": [[4, 4], [2, 2]], "interior": []},
            },
        ],
        "odd": [{"classTitle": "bird", "geometryType": "polygon", "points": {"exterior": ring, "interior": []}}],
    }
    for name, things in objects.items():
        write_photo(folder / f"train/img/{name}.jpg")
        write_text(folder / f"train/ann/{name}.jpg.json", {"size": {"height": 6, "width": 8}, "objects": things})


def test_supervisely(tmp_path: Path) -> None:
    _supervisely(tmp_path / "in")
    classes, masks, result = converted(tmp_path / "in", tmp_path / "out")
    assert classes == ["cat", "dog"]
    assert result.photos["train"] == 2
    assert np.array_equal(masks["a"], KNOWN)
    assert np.array_equal(masks["b"], KNOWN)
    assert "odd.jpg.json cannot be painted (meta.json names no class 'bird')" in result.skipped[0]
