"""A clip with known truth: cut-outs of real people and cars move over the photo of a real street."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from ovs_edge.runtime.inference.prediction import NOTHING, Prediction

DATA = Path(__file__).parents[3] / "shared" / "data"
MISSING = (
    None if (DATA / "coco_panoptic").is_dir() and (DATA / "camvid").is_dir() else f"no {DATA}/coco_panoptic and camvid"
)
CLASSES = ("person", "car")
SIZE = (360, 480)  # height, width
RATE = 25.0
_CATEGORIES = {"person": 1, "car": 3}

Image = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class CutOut:
    """Something cut from a photo."""

    image: Image  # (h, w, 3) BGR
    mask: Mask  # (h, w)

    def scaled(self, height: int) -> CutOut:
        """With another height, pixels."""
        size = (max(1, round(self.mask.shape[1] * height / self.mask.shape[0])), height)
        mask = cv2.resize(self.mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST).astype(bool)
        return CutOut(cv2.resize(self.image, size, interpolation=cv2.INTER_AREA), mask)


@dataclass(frozen=True)
class Actor:
    """A cut-out and where its mask's left and lower end is, in each frame; None: it is not there."""

    label: str
    cut: CutOut
    places: tuple[tuple[int, int] | None, ...]  # x, y of the lower left corner, pixels

    def mask(self, frame: int) -> Mask:
        """All its pixels (H, W), hidden ones included."""
        whole = np.zeros(SIZE, bool)
        self.put(frame, whole, None)
        return whole

    def put(self, frame: int, whole: Mask, image: Image | None) -> None:
        """Add it to a mask and, if given, to a picture."""
        place = self.places[frame]
        if place is None:
            return
        height, width = self.cut.mask.shape
        x, y = place[0], place[1] - height
        x0, y0, x1, y1 = max(0, x), max(0, y), min(SIZE[1], x + width), min(SIZE[0], y + height)
        if x0 >= x1 or y0 >= y1:
            return
        inside = self.cut.mask[y0 - y : y1 - y, x0 - x : x1 - x]
        whole[y0:y1, x0:x1] |= inside
        if image is not None:
            image[y0:y1, x0:x1][inside] = self.cut.image[y0 - y : y1 - y, x0 - x : x1 - x][inside]

    def foot(self, frame: int) -> tuple[float, float] | None:
        """Middle of the lowest eighth of its pixels within the picture, and its lower end, as shares; None: not there."""
        mask = self.mask(frame)
        rows = np.flatnonzero(mask.any(axis=1))
        if not len(rows):
            return None
        low = mask[rows[-1] + 1 - max(1, round(0.12 * (rows[-1] - rows[0] + 1))) : rows[-1] + 1].any(axis=0)
        return float(np.flatnonzero(low).mean() + 0.5) / SIZE[1], float(rows[-1] + 1) / SIZE[0]


@lru_cache(maxsize=1)
def cut_outs() -> dict[str, list[CutOut]]:
    """Whole people and cars from COCO's photos, each in one piece, largest first."""
    folder = DATA / "coco_panoptic"
    found: dict[str, list[CutOut]] = {label: [] for label in CLASSES}
    table = json.loads((folder / "annotations" / "panoptic_train2017.json").read_text())
    for entry in table["annotations"]:
        good = [
            (label, segment)
            for segment in entry["segments_info"]
            for label, category in _CATEGORIES.items()
            if segment["category_id"] == category
            and not segment["iscrowd"]
            and segment["area"] > (5000 if label == "person" else 1200)
        ]
        if not good:
            continue
        coded = cv2.imread(str(folder / "annotations" / "panoptic_train2017" / entry["file_name"])).astype(np.int64)
        ids = coded[..., 2] + 256 * coded[..., 1] + 65536 * coded[..., 0]
        photo = cv2.imread(str(folder / "train2017" / entry["file_name"].replace(".png", ".jpg")))
        for label, segment in good:
            mask = (ids == segment["id"]).astype(np.uint8)
            number, _, _stats, _ = cv2.connectedComponentsWithStats(mask)
            x, y, width, height = cv2.boundingRect(mask)
            whole = number == 2 and x > 1 and y > 1 and x + width < mask.shape[1] - 1 and y + height < mask.shape[0] - 1
            shape = height / width
            if whole and (1.6 < shape < 4 if label == "person" else 0.3 < shape < 1.05):
                part = slice(y, y + height), slice(x, x + width)
                found[label].append(CutOut(photo[part], mask[part].astype(bool)))
    return {label: sorted(cuts, key=lambda cut: -int(cut.mask.sum())) for label, cuts in found.items()}


def street() -> Image:
    """A photo of a street, without what moves on it later."""
    path = min((DATA / "camvid" / "images" / "val").iterdir())
    return cv2.resize(cv2.imread(str(path)), SIZE[::-1])


def straight(
    first: int, last: int, y: int, start: int, step: int, frames: int, pause: tuple[int, int] = (0, 0)
) -> tuple[tuple[int, int] | None, ...]:
    """Places from x = first to last in steps, from frame `start` on; `pause`: at x, for so many frames."""
    sign = 1 if last > first else -1
    way = []
    for x in range(first, last + sign, sign * step):
        way += [(x, y)] * (1 + (pause[1] if pause[1] and abs(x - pause[0]) < step / 2 else 0))
    return tuple(([None] * start + way + [None] * frames)[:frames])


def scene(frames: int = 260) -> list[Actor]:
    """Four people and two cars: people pass in front of each other, one waits, one turns back."""
    people, cars = cut_outs()["person"], cut_outs()["car"]
    there = straight(-60, 300, 300, 90, 5, frames)
    turning = tuple(
        place or back for place, back in zip(there, straight(300, -60, 300, 90 + 73, 5, frames), strict=True)
    )
    return [
        Actor("car", cars[1].scaled(60), straight(-130, 490, 198, 5, 6, frames)),
        Actor("car", cars[2].scaled(64), straight(490, -130, 200, 110, 7, frames)),
        Actor("person", people[0].scaled(96), straight(-60, 490, 330, 0, 4, frames)),
        Actor("person", people[1].scaled(100), straight(490, -60, 352, 0, 4, frames)),
        Actor("person", people[2].scaled(90), straight(490, -60, 290, 10, 4, frames, (240, 30))),
        Actor("person", people[3].scaled(92), turning),
    ]  # fmt: skip


def picture(actors: list[Actor], frame: int) -> tuple[Image, Prediction]:
    """A frame (H, W, 3) BGR and its true labels; later actors stand in front of earlier ones."""
    image, labels = street().copy(), np.full(SIZE, NOTHING, np.int32)
    for actor in actors:
        mask = np.zeros(SIZE, bool)
        actor.put(frame, mask, image)
        labels[mask] = CLASSES.index(actor.label)
    return image, Prediction(labels, np.full(SIZE, 0.95, np.float32), CLASSES)
