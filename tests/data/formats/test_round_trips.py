"""Real masks, written in each format and converted back, are the same pixels."""

from __future__ import annotations

import base64
import io
import json
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from support.outlines import outline, regions

from ovs_edge.data.formats.convert import ConvertOptions, convert
from ovs_edge.data.formats.label_format import ReadOptions
from ovs_edge.data.formats.registry import find_format

DATA = Path(__file__).parents[3].parent / "shared" / "data" / "msrc"
PHOTOS = 4
VOID = 255

Labels = npt.NDArray[np.uint8]
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=f"no labelled photos at {DATA}")


def _photos() -> list[tuple[Path, Labels]]:
    photos = sorted((DATA / "images/val").iterdir())[:PHOTOS]
    return [(path, np.asarray(Image.open(DATA / f"masks/val/{path.stem}.png"))) for path in photos]


def _copy(path: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(path.read_bytes())


def _labelme(folder: Path, names: list[str]) -> None:
    for path, labels in _photos():
        _copy(path, folder / path.name)
        shapes = [
            {"label": "__ignore__" if value == VOID else names[value], "points": outline(region)}
            for value, region in regions(labels)
        ]
        document = {"shapes": shapes, "imagePath": path.name, "imageHeight": len(labels), "imageWidth": len(labels[0])}
        (folder / f"{path.stem}.json").write_text(json.dumps(document))


def _yolo(folder: Path, names: list[str]) -> None:
    (folder / "labels/train").mkdir(parents=True)
    listed = "".join(f"  - '{name}'\n" for name in [*names, "void"])
    (folder / "data.yaml").write_text(f"train: images/train\nnames:\n{listed}")
    for path, labels in _photos():
        _copy(path, folder / "images/train" / path.name)
        height, width = labels.shape
        lines = [
            " ".join([str(min(value, len(names))), *(f"{x / width!r} {y / height!r}" for x, y in outline(region))])
            for value, region in regions(labels)
        ]
        (folder / f"labels/train/{path.stem}.txt").write_text("\n".join(lines))


def _cvat(folder: Path, names: list[str]) -> None:
    images = []
    for number, (path, labels) in enumerate(_photos()):
        _copy(path, folder / "images" / path.name)
        shapes = "".join(
            f'<polygon label="{"void" if value == VOID else names[value]}" '
            f'points="{";".join(f"{x},{y}" for x, y in outline(region))}"/>'
            for value, region in regions(labels)
        )
        images.append(
            f'<image id="{number}" name="{path.name}" width="{len(labels[0])}" height="{len(labels)}">{shapes}</image>'
        )
    (folder / "annotations.xml").write_text(f"<annotations>{''.join(images)}</annotations>")


def _coco(folder: Path, names: list[str]) -> None:
    coco = pytest.importorskip("pycocotools.mask")
    images, annotations = [], []
    for number, (path, labels) in enumerate(_photos()):
        _copy(path, folder / "val2017" / path.name)
        images.append({"id": number, "file_name": path.name, "height": len(labels), "width": len(labels[0])})
        for value in set(np.unique(labels).tolist()) - {VOID}:
            runs = coco.encode(np.asfortranarray((labels == value).astype(np.uint8)))
            segmentation = {"size": runs["size"], "counts": runs["counts"].decode()}
            annotations.append({"image_id": number, "category_id": value, "segmentation": segmentation, "iscrowd": 0})
    categories = [{"id": number, "name": name} for number, name in enumerate(names)]
    (folder / "annotations").mkdir()
    (folder / "annotations/stuff_val2017.json").write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": categories})
    )


def _colours(folder: Path, names: list[str]) -> None:
    palette = np.array([[7 * number % 256, 255 - number, 100] for number in range(256)], np.uint8)
    palette[VOID] = (224, 224, 192)
    lines = [f"{name}:{','.join(map(str, palette[number].tolist()))}::" for number, name in enumerate(names)]
    folder.mkdir(exist_ok=True)
    (folder / "labelmap.txt").write_text("\n".join(lines))
    (folder / "SegmentationClass").mkdir()
    for path, labels in _photos():
        _copy(path, folder / "JPEGImages" / path.name)
        Image.fromarray(palette[labels]).save(folder / f"SegmentationClass/{path.stem}.png")


def _supervisely(folder: Path, names: list[str]) -> None:
    for path, labels in _photos():
        _copy(path, folder / "val/img" / path.name)
        things: list[dict[str, Any]] = []
        for value in set(np.unique(labels).tolist()) - {VOID}:
            rows, columns = np.nonzero(labels == value)
            part = (labels == value)[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
            stream = io.BytesIO()
            Image.fromarray(part).save(stream, "PNG")
            data = base64.b64encode(zlib.compress(stream.getvalue())).decode()
            bitmap = {"data": data, "origin": [int(columns.min()), int(rows.min())]}
            things.append({"classTitle": names[value], "geometryType": "bitmap", "bitmap": bitmap})
        (folder / "val/ann").mkdir(exist_ok=True)
        document = {"size": {"height": len(labels), "width": len(labels[0])}, "objects": things}
        (folder / f"val/ann/{path.name}.json").write_text(json.dumps(document))
    (folder / "meta.json").write_text(json.dumps({"classes": [{"title": name} for name in names], "tags": []}))


def _coco_polygons(folder: Path, names: list[str]) -> None:
    images, annotations = [], []
    for number, (path, labels) in enumerate(_photos(), 1):
        _copy(path, folder / "images" / path.name)
        images.append({"id": number, "file_name": path.name, "height": len(labels), "width": len(labels[0])})
        annotations += [
            {
                "image_id": number,
                "category_id": min(value, len(names)),
                "segmentation": [[coordinate for point in outline(region) for coordinate in point]],
                "iscrowd": 0,
            }
            for value, region in regions(labels)
        ]
    categories = [{"id": number, "name": name} for number, name in enumerate([*names, "void"])]
    document = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "instances_train.json").write_text(json.dumps(document))


def _boxed(labels: Labels) -> Iterator[tuple[int, int, int, npt.NDArray[np.bool_]]]:
    """Value, left, top and mask within its box, of each value that is labelled."""
    for value in sorted(set(np.unique(labels).tolist()) - {VOID}):
        rows, columns = np.nonzero(labels == value)
        part = (labels == value)[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        yield value, int(columns.min()), int(rows.min()), part


def _cvat_masks(folder: Path, names: list[str]) -> None:
    images = []
    for number, (path, labels) in enumerate(_photos()):
        _copy(path, folder / "images" / path.name)
        shapes = ""
        for value, left, top, part in _boxed(labels):
            flat = part.ravel()
            edges = np.flatnonzero(np.diff(np.concatenate(([False], flat, [not flat[-1]]))))
            runs = ", ".join(map(str, np.diff(np.concatenate(([0], edges))).tolist()))
            height, width = part.shape
            shapes += f'<mask label="{names[value]}" rle="{runs}" left="{left}" top="{top}" width="{width}" height="{height}"/>'
        images.append(f'<image id="{number}" name="{path.name}">{shapes}</image>')
    (folder / "annotations.xml").write_text(f"<annotations>{''.join(images)}</annotations>")


def _labelme_masks(folder: Path, names: list[str]) -> None:
    for path, labels in _photos():
        _copy(path, folder / path.name)
        shapes = []
        for value, left, top, part in _boxed(labels):
            stream = io.BytesIO()
            Image.fromarray(part).save(stream, "PNG")
            corners = [[left, top], [left + part.shape[1] - 1, top + part.shape[0] - 1]]
            mask = base64.b64encode(stream.getvalue()).decode()
            shapes.append({"label": names[value], "points": corners, "shape_type": "mask", "mask": mask})
        (folder / f"{path.stem}.json").write_text(json.dumps({"shapes": shapes, "imagePath": path.name}))


def _palettes(folder: Path, names: list[str]) -> None:
    """Pascal VOC's palette masks: the colours are the palette's."""
    _colours(folder, names)
    for path in (folder / "SegmentationClass").iterdir():
        with Image.open(path) as picture:
            indexed = picture.quantize(256, dither=Image.Dither.NONE)
        assert len(np.unique(np.asarray(indexed))) > 1
        indexed.save(path)


@pytest.mark.parametrize("write", [
    _labelme, _labelme_masks, _yolo, _cvat, _cvat_masks, _coco, _coco_polygons, _colours, _palettes, _supervisely,
])  # fmt: skip
def test_masks_come_back(write: Callable[[Path, list[str]], None], tmp_path: Path) -> None:
    names = [entry.split("|")[0] for entry in json.loads((DATA / "classes.json").read_text())]
    source, target = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    write(source, names)
    label_format = find_format(source)
    photos = label_format.read(source, ReadOptions({"void": ""}))
    result = convert(source, label_format, photos, target)
    assert result.skipped == ()
    assert sum(result.photos.values()) == PHOTOS
    classes = json.loads((target / "classes.json").read_text())
    table = np.full(256, VOID, np.uint8)
    table[: len(classes)] = [names.index(name) for name in classes]
    for path, labels in _photos():
        [mask] = target.glob(f"masks/*/{path.stem}.png")
        assert np.array_equal(table[np.asarray(Image.open(mask))], labels)


def _masks(target: Path) -> dict[str, Labels]:
    return {path.stem: np.asarray(Image.open(path)) for path in target.glob("masks/*/*.png")}


def _convert(source: Path, target: Path, name: str | None = None, options: ConvertOptions | None = None) -> None:
    label_format = find_format(source, name)
    photos = label_format.read(source, ReadOptions())
    assert convert(source, label_format, photos, target, options or ConvertOptions()).skipped == ()


def test_binary_masks_come_back(tmp_path: Path) -> None:
    for path, labels in _photos():
        _copy(path, tmp_path / "in/images" / path.name)
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
    names = [entry.split("|")[0] for entry in json.loads((DATA / "classes.json").read_text())]
    (tmp_path / "in").mkdir()
    _colours(tmp_path / "in", names)
    _convert(tmp_path / "in", tmp_path / "panoptic", options=ConvertOptions("coco-panoptic"))
    _convert(tmp_path / "panoptic", tmp_path / "out")
    for path, labels in _photos():
        assert np.array_equal(_masks(tmp_path / "out")[path.stem], labels)
