"""Small inputs for `ovs-label`: coloured photos, archives of them, and what a run wrote."""

from __future__ import annotations

import io
import json
import os
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from ovs_edge.label.cli import main

COLOURS = {"red": (0, 0, 255), "green": (0, 255, 0), "blue": (255, 0, 0)}  # BGR
BAD = b"no photo"


def photo(*names: str, size: tuple[int, int] = (48, 64)) -> npt.NDArray[np.uint8]:
    """A photo (H, W, 3) BGR with a strip of equal width for each colour."""
    image = np.zeros((*size, 3), np.uint8)
    for place, name in enumerate(names):
        image[:, place * size[1] // len(names) : (place + 1) * size[1] // len(names)] = COLOURS[name]
    return image


def encoded(image: npt.NDArray[np.uint8], orientation: int = 1) -> bytes:
    """A PNG, or with an orientation a JPEG that notes it."""
    stream = io.BytesIO()
    picture = Image.fromarray(image[..., ::-1])
    if orientation == 1:
        picture.save(stream, "PNG")
    else:
        exif = Image.Exif()
        exif[0x0112] = orientation
        picture.save(stream, "JPEG", quality=100, subsampling=0, exif=exif)
    return stream.getvalue()


def write_photos(folder: Path, count: int = 6) -> Path:
    """`count` photos of two colours, each another pair."""
    folder.mkdir(parents=True)
    names = list(COLOURS)
    for index in range(count):
        pair = names[index % 3], names[(index + 1) % 3]
        (folder / f"{index}.png").write_bytes(encoded(photo(*pair)))
    return folder


def write_zip(path: Path, members: dict[str, bytes]) -> Path:
    """A zip archive."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def write_tar(path: Path, members: dict[str, bytes], mode: str = "w") -> Path:
    """A tar archive, by `mode` compressed."""
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def label(monkeypatch: pytest.MonkeyPatch, bundle: Path, *words: object) -> int:
    """Run `ovs-label` in this process with the classes red and green; its exit code."""
    given = ["ovs-label", *map(str, words), "--model", str(bundle)]
    if "--classes" not in given:
        given += ["--classes", "red,green"]
    monkeypatch.setattr(sys, "argv", given)
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, by its path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def coco(folder: Path) -> dict[str, list[tuple[str, int]]]:
    """Class and pixels of every annotation, by the name of the photo."""
    document: dict[str, Any] = json.loads((folder / "annotations/instances.json").read_text(encoding="utf-8"))
    names = {entry["id"]: entry["name"] for entry in document["categories"]}
    found: dict[str, list[tuple[str, int]]] = {entry["file_name"]: [] for entry in document["images"]}
    photos = {entry["id"]: entry["file_name"] for entry in document["images"]}
    for entry in document["annotations"]:
        found[photos[entry["image_id"]]].append((names[entry["category_id"]], entry["area"]))
    return found


def command() -> list[str]:
    """`ovs-label` as another process."""
    return [sys.executable, "-W", "error", "-m", "ovs_edge.label.cli"]


def environment() -> dict[str, str]:
    """Of such a process."""
    return {**os.environ, "ORT_DISABLE_TELEMETRY": "1"}
