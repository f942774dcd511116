"""Photos and their masks (H, W) of class numbers, 255 where there is no label, as the tools of others write them."""

from __future__ import annotations

import base64
import io
import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from support.outlines import outline, regions

VOID = 255

Labels = npt.NDArray[np.uint8]
Photos = Sequence[tuple[Path, Labels]]


def copied(path: Path, target: Path) -> None:
    """Copy a file; the folders above it are made."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(path.read_bytes())


def write_labelme(folder: Path, names: list[str], photos: Photos) -> None:
    """LabelMe: polygons."""
    for path, labels in photos:
        copied(path, folder / path.name)
        shapes = [
            {"label": "__ignore__" if value == VOID else names[value], "points": outline(region)}
            for value, region in regions(labels)
        ]
        document = {"shapes": shapes, "imagePath": path.name, "imageHeight": len(labels), "imageWidth": len(labels[0])}
        (folder / f"{path.stem}.json").write_text(json.dumps(document))


def write_yolo(folder: Path, names: list[str], photos: Photos) -> None:
    """YOLO: polygons."""
    (folder / "labels/train").mkdir(parents=True)
    listed = "".join(f"  - '{name}'\n" for name in [*names, "void"])
    (folder / "data.yaml").write_text(f"train: images/train\nnames:\n{listed}")
    for path, labels in photos:
        copied(path, folder / "images/train" / path.name)
        height, width = labels.shape
        lines = [
            " ".join([str(min(value, len(names))), *(f"{x / width!r} {y / height!r}" for x, y in outline(region))])
            for value, region in regions(labels)
        ]
        (folder / f"labels/train/{path.stem}.txt").write_text("\n".join(lines))


def write_cvat(folder: Path, names: list[str], photos: Photos) -> None:
    """CVAT: polygons."""
    images = []
    for number, (path, labels) in enumerate(photos):
        copied(path, folder / "images" / path.name)
        shapes = "".join(
            f'<polygon label="{"void" if value == VOID else names[value]}" '
            f'points="{";".join(f"{x},{y}" for x, y in outline(region))}"/>'
            for value, region in regions(labels)
        )
        images.append(
            f'<image id="{number}" name="{path.name}" width="{len(labels[0])}" height="{len(labels)}">{shapes}</image>'
        )
    (folder / "annotations.xml").write_text(f"<annotations>{''.join(images)}</annotations>")


def write_coco(folder: Path, names: list[str], photos: Photos) -> None:
    """COCO-Stuff's JSON: run lengths."""
    coco = pytest.importorskip("pycocotools.mask")
    images, annotations = [], []
    for number, (path, labels) in enumerate(photos):
        copied(path, folder / "val2017" / path.name)
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


def write_colours(folder: Path, names: list[str], photos: Photos) -> None:
    """Masks of colours with a table of them."""
    palette = np.array([[7 * number % 256, 255 - number, 100] for number in range(256)], np.uint8)
    palette[VOID] = (224, 224, 192)
    lines = [f"{name}:{','.join(map(str, palette[number].tolist()))}::" for number, name in enumerate(names)]
    folder.mkdir(exist_ok=True)
    (folder / "labelmap.txt").write_text("\n".join(lines))
    (folder / "SegmentationClass").mkdir()
    for path, labels in photos:
        copied(path, folder / "JPEGImages" / path.name)
        Image.fromarray(palette[labels]).save(folder / f"SegmentationClass/{path.stem}.png")


def write_supervisely(folder: Path, names: list[str], photos: Photos) -> None:
    """Supervisely: bitmaps."""
    for path, labels in photos:
        copied(path, folder / "val/img" / path.name)
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


def write_coco_polygons(folder: Path, names: list[str], photos: Photos) -> None:
    """COCO instances: polygons."""
    images, annotations = [], []
    for number, (path, labels) in enumerate(photos, 1):
        copied(path, folder / "images" / path.name)
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


def write_cvat_masks(folder: Path, names: list[str], photos: Photos) -> None:
    """CVAT: masks."""
    images = []
    for number, (path, labels) in enumerate(photos):
        copied(path, folder / "images" / path.name)
        shapes = ""
        for value, left, top, part in _boxed(labels):
            flat = part.ravel()
            edges = np.flatnonzero(np.diff(np.concatenate(([False], flat, [not flat[-1]]))))
            runs = ", ".join(map(str, np.diff(np.concatenate(([0], edges))).tolist()))
            height, width = part.shape
            shapes += f'<mask label="{names[value]}" rle="{runs}" left="{left}" top="{top}" width="{width}" height="{height}"/>'
        images.append(f'<image id="{number}" name="{path.name}">{shapes}</image>')
    (folder / "annotations.xml").write_text(f"<annotations>{''.join(images)}</annotations>")


def write_labelme_masks(folder: Path, names: list[str], photos: Photos) -> None:
    """LabelMe: bitmaps."""
    for path, labels in photos:
        copied(path, folder / path.name)
        shapes = []
        for value, left, top, part in _boxed(labels):
            stream = io.BytesIO()
            Image.fromarray(part).save(stream, "PNG")
            corners = [[left, top], [left + part.shape[1] - 1, top + part.shape[0] - 1]]
            mask = base64.b64encode(stream.getvalue()).decode()
            shapes.append({"label": names[value], "points": corners, "shape_type": "mask", "mask": mask})
        (folder / f"{path.stem}.json").write_text(json.dumps({"shapes": shapes, "imagePath": path.name}))


def write_palettes(folder: Path, names: list[str], photos: Photos) -> None:
    """A table of colours, and masks with a palette of them."""
    write_colours(folder, names, photos)
    for path in (folder / "SegmentationClass").iterdir():
        with Image.open(path) as picture:
            indexed = picture.quantize(256, dither=Image.Dither.NONE)
        assert len(np.unique(np.asarray(indexed))) > 1
        indexed.save(path)


def write_pascal_voc(folder: Path, photos: Photos, backgrounds: Sequence[npt.NDArray[np.bool_]]) -> None:
    """Pascal VOC as published: number of one of its 20 classes plus 1, 0 background, 255 borders; VOC's palette.

    `backgrounds` are the pixels (H, W) of each photo that show none of the classes.
    """
    palette = np.zeros((256, 3), np.uint8)
    for bit in range(8):  # three bits of the number to one of each colour, the lowest to the highest
        palette[:, bit % 3] |= ((np.arange(256) >> bit & 1) << (7 - bit // 3)).astype(np.uint8)
    (folder / "SegmentationClass").mkdir(parents=True)
    for (path, labels), background in zip(photos, backgrounds, strict=True):
        copied(path, folder / "JPEGImages" / path.name)
        values = np.where(labels == VOID, labels, labels + 1)
        values[(labels == VOID) & background] = 0
        picture = Image.fromarray(values.astype(np.uint8))
        picture.putpalette(palette.tobytes())
        picture.save(folder / f"SegmentationClass/{path.stem}.png")
    lists = folder / "ImageSets/Segmentation"
    lists.mkdir(parents=True)
    stems = [path.stem for path, _ in photos]
    for name, part in (("train", stems[::2]), ("val", stems[1::2]), ("trainval", stems)):
        (lists / f"{name}.txt").write_text("".join(f"{stem}\n" for stem in part))


def write_coco_stuff(folder: Path, numbers: Sequence[int], photos: Photos) -> dict[str, str]:
    """COCO-Stuff as published: masks of ids less one, 255 where there is no label. `numbers` has the id of each class.

    Returns the name that each photo got, by its old one.
    """
    table = np.full(256, VOID, np.uint8)
    table[: len(numbers)] = np.array(numbers) - 1
    names = {}
    for number, (path, labels) in enumerate(photos, 139):
        split = "train2017" if number % 2 else "val2017"
        names[path.stem] = f"{number:012d}"
        copied(path, folder / "images" / split / f"{number:012d}.jpg")
        (folder / "annotations" / split).mkdir(parents=True, exist_ok=True)
        Image.fromarray(table[labels]).save(folder / f"annotations/{split}/{number:012d}.png")
    return names


Writer = Callable[[Path, list[str], Photos], None]
WRITERS: dict[str, Writer] = {
    "LabelMe, polygons": write_labelme,
    "LabelMe, bitmaps": write_labelme_masks,
    "YOLO, polygons": write_yolo,
    "CVAT, polygons": write_cvat,
    "CVAT, masks": write_cvat_masks,
    "COCO, run lengths": write_coco,
    "COCO, polygons": write_coco_polygons,
    "colours with a table": write_colours,
    "palettes with a table": write_palettes,
    "Supervisely, bitmaps": write_supervisely,
}
