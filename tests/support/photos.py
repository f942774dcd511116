"""Small photo folders for training tests: coloured shapes whose classes are their colours."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np

COLOURS = {"grass": (40, 180, 40), "sky": (230, 160, 60), "brick wall": (40, 40, 200)}  # BGR


def write_index_masks(folder: Path, photos: int = 6, size: tuple[int, int] = (80, 112)) -> Path:
    """A dataset in the index-mask layout: two halves of random colours, a strip that is not labelled."""
    rng = np.random.default_rng(0)
    (folder).mkdir(parents=True)
    (folder / "classes.json").write_text(json.dumps(list(COLOURS)))
    for split, count in (("train", photos), ("val", 2)):
        (folder / "images" / split).mkdir(parents=True)
        (folder / "masks" / split).mkdir(parents=True)
        for index in range(count):
            labels = np.zeros(size, np.uint8)
            labels[:, : size[1] // 2] = rng.integers(3)
            labels[:, size[1] // 2 :] = rng.integers(3)
            image = np.array(list(COLOURS.values()), np.uint8)[labels]
            image = np.clip(image + rng.normal(0, 8, image.shape), 0, 255).astype(np.uint8)
            labels[:3] = 255
            cv2.imwrite(str(folder / "images" / split / f"{index}.jpg"), image)
            cv2.imwrite(str(folder / "masks" / split / f"{index}.png"), labels)
    return folder


def write_coco_panoptic(folder: Path) -> Path:
    """One training and one validation photo in COCO's panoptic layout, with a crowd and an unlabelled part."""
    for split in ("train", "val"):
        (folder / f"{split}2017").mkdir(parents=True)
        masks = folder / "annotations" / f"panoptic_{split}2017"
        masks.mkdir(parents=True)
        ids = np.zeros((40, 60), np.int64)
        ids[:20], ids[20:, :30], ids[20:, 30:50] = 70000, 300, 5
        colours = np.stack((ids % 256, ids // 256 % 256, ids // 65536), -1).astype(np.uint8)
        cv2.imwrite(str(masks / "1.png"), colours[..., ::-1])
        cv2.imwrite(str(folder / f"{split}2017" / "1.jpg"), np.full((40, 60, 3), 90, np.uint8))
        segments = [
            {"id": 70000, "category_id": 187, "iscrowd": 0},
            {"id": 300, "category_id": 17, "iscrowd": 0},
            {"id": 5, "category_id": 17, "iscrowd": 1},
        ]
        annotation = {
            "categories": [{"id": 17, "name": "cat"}, {"id": 187, "name": "sky-other-merged"}],
            "images": [{"id": 1, "file_name": "1.jpg"}, {"id": 2, "file_name": "2.jpg"}],
            "annotations": [
                {"image_id": 1, "file_name": "1.png", "segments_info": segments},
                {"image_id": 2, "file_name": "2.png", "segments_info": []},
            ],
        }
        (folder / "annotations" / f"panoptic_{split}2017.json").write_text(json.dumps(annotation))
    return folder
