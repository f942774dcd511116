"""One small scene, written as label files of other tools."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from ovs_edge.data.formats.convert import Conversion, ConvertOptions, convert
from ovs_edge.data.formats.label_format import ReadOptions
from ovs_edge.data.formats.registry import find_format

SIZE = (6, 8)  # height, width
_ = 255

# A cat in the upper left, a dog that covers a part of it; what no format labels is `_`.
KNOWN = np.array([
    [0, 0, 0, 0, _, _, _, _],
    [0, 0, 0, 0, _, _, _, _],
    [0, 0, 1, 1, 1, _, _, _],
    [0, 0, 1, 1, 1, _, _, _],
    [_, _, 1, 1, 1, _, _, _],
    [_, _, _, _, _, _, _, _],
], np.uint8)  # fmt: skip
CAT, DOG = (0, 0, 4, 4), (2, 2, 5, 5)  # left, top, right, bottom

PLAIN = ReadOptions()

Result = tuple[list[str], dict[str, npt.NDArray[np.uint8]], Conversion]


def corners(box: tuple[int, int, int, int]) -> list[list[int]]:
    """[x, y] of a box."""
    left, top, right, bottom = box
    return [[left, top], [right, top], [right, bottom], [left, bottom]]


def write_photo(path: Path, size: tuple[int, int] = SIZE, orientation: int = 1) -> None:
    """A plain photo of `size`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", size[::-1], (90, 120, 40)).save(path, exif=exif)


def write_text(path: Path, content: Any) -> None:
    """Text, or a value as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")


def converted(folder: Path, target: Path, options: ReadOptions = PLAIN, name: str | None = None) -> Result:
    """Classes, mask by name, and what was told, of the folder in the format that it is recognised as."""
    label_format = find_format(folder, name)
    result = convert(folder, label_format, label_format.read(folder, options), target, ConvertOptions(train_share=1))
    masks = {path.stem: np.asarray(Image.open(path)) for path in sorted(target.glob("masks/*/*.png"))}
    return json.loads((target / "classes.json").read_text(encoding="utf-8")), masks, result


def write_labelme(folder: Path) -> None:
    """Three photos with the scene, and three that cannot be converted."""

    def write(name: str, shapes: list[dict[str, Any]], **more: Any) -> None:
        write_text(
            folder / f"{name}.json", {"version": "5.4.1", "shapes": shapes, "imageHeight": 6, "imageWidth": 8, **more}
        )

    cat = {"label": "cat", "points": corners(CAT), "shape_type": "polygon", "group_id": None}
    dog = {"label": "dog", "points": [[2, 2], [5, 5]], "shape_type": "rectangle"}
    write_photo(folder / "a.jpg")
    write("a", [cat, dog, {"label": "dog", "points": [[1, 1], [3, 3]], "shape_type": "line"}], imagePath="a.jpg")
    write_photo(folder / "b.jpg")
    write("b", [{**cat, "shape_type": None}, dog], imagePath="C:\\photos\\b.jpg", imageData=None)
    mask = io.BytesIO()
    Image.fromarray(np.ones((3, 3), bool)).save(mask, "PNG")
    bitmap = {"label": "dog", "points": [[2, 2], [4, 4]], "shape_type": "mask"}
    write_photo(folder / "c.png")
    write("c", [cat, {**bitmap, "mask": base64.b64encode(mask.getvalue()).decode()}], imagePath="../elsewhere/none.png")
    write("d", [cat], imagePath="d.jpg")
    write_photo(folder / "e.jpg", (3, 3))
    write("e", [cat], imagePath="e.jpg")
    write_photo(folder / "f.jpg")
    write("f", [], imagePath="f.jpg")


def write_yolo(folder: Path) -> None:
    """One photo a split with the scene, and three that cannot be converted."""
    write_text(folder / "data.yaml", "path: .\ntrain: images/train\nval: [images/val]\nnames: {0: cat, 1: dog}\n")

    def line(number: str, box: tuple[int, int, int, int]) -> str:
        return " ".join([number, *(f"{x / 8} {y / 6}" for x, y in corners(box))])

    for split in ("train", "val"):
        write_photo(folder / f"images/{split}/a.jpg")
        write_text(folder / f"labels/{split}/a.txt", f"{line('0', CAT)}\n\n{line('1.0', DOG)}\n")
    write_photo(folder / "images/train/box.jpg")
    write_text(folder / "labels/train/box.txt", "0 0.5 0.5 0.2 0.2\n")
    write_photo(folder / "images/train/class.jpg")
    write_text(folder / "labels/train/class.txt", line("7", CAT))
    write_photo(folder / "images/train/none.jpg")
