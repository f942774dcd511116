"""Segment one photo and save a mask of each class.

Usage: python examples/photo.py photo.jpg "cup|mug,dining table" masks
"""

import sys
from pathlib import Path

import cv2
import numpy as np

from ovs_edge import Segmenter


def main(photo: str, classes: str, folder: str) -> None:
    """Print what was found and write `folder`/CLASS.png, 255 where the class is."""
    image = cv2.imread(photo)
    if image is None:
        sys.exit(f"error: cannot read {photo}")
    Path(folder).mkdir(parents=True, exist_ok=True)
    with Segmenter.load() as segmenter:
        segmenter.set_classes(classes)
        prediction = segmenter.predict(image)
        for region in prediction.regions():
            print(f"{region.label}: {region.share:.1%} of the photo, box {region.box}")
            cv2.imwrite(f"{folder}/{region.label}.png", prediction.mask(region.label).astype(np.uint8) * 255)


main(*sys.argv[1:])
