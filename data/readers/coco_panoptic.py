"""COCO panoptic: photos, and masks whose colours are segment ids, with the segments' classes in a JSON file.

folder/
  annotations/panoptic_{train,val}2017.json
  annotations/panoptic_{train,val}2017/*.png
  {train,val}2017/*.jpg
"""

from __future__ import annotations

from pathlib import Path

from ...bundle.errors import DatasetError
from ..labelled import LabelledFile, PhotoSet, TrueSegment
from ..masks import SegmentMask
from ..text_files import read_json
from .index_masks import named_classes
from .reader import PhotoReader, Split


def open_coco_panoptic(folder: Path, split: Split) -> PhotoSet:
    """The photos of a split; crowds and what is no segment do not count. Raises `DatasetError`."""
    path = folder / "annotations" / f"panoptic_{split}2017.json"
    raw = read_json(path)
    files, skipped = [], []
    try:
        order = {category["id"]: index for index, category in enumerate(raw["categories"])}
        classes = named_classes([category["name"] for category in raw["categories"]], path)
        stuff = tuple(not category.get("isthing", True) for category in raw["categories"])
        photos = {image["id"]: image["file_name"] for image in raw["images"]}
        for annotation in raw["annotations"]:
            segments = [
                (segment["id"], TrueSegment(order[segment["category_id"]], crowd=bool(segment.get("iscrowd"))))
                for segment in annotation["segments_info"]
            ]
            image = folder / f"{split}2017" / photos[annotation["image_id"]]
            mask = path.with_suffix("") / annotation["file_name"]
            if all(segment.crowd for _, segment in segments):
                skipped.append(f"{image.name}: empty annotation")
            elif not image.is_file():
                skipped.append(f"{image.name}: no such photo")
            elif not mask.is_file():
                skipped.append(f"{image.name}: no mask {mask.name}")
            else:
                ordered = (*(one for one in segments if not one[1].crowd), *(one for one in segments if one[1].crowd))
                files.append(LabelledFile(image, mask, ordered))
    except (KeyError, TypeError, AttributeError) as error:
        raise DatasetError(f"{path} is not COCO panoptic: {type(error).__name__} {error}") from error
    return PhotoSet(folder.name, classes, tuple(files), SegmentMask(), tuple(skipped), stuff)


COCO_PANOPTIC = PhotoReader("coco-panoptic", ("annotations/panoptic_{split}2017.json",), open_coco_panoptic)
