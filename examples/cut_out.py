"""Cut a class out of a photo: a PNG that is transparent everywhere else.

Usage: python examples/cut_out.py photo.jpg "cup" cup.png
"""

import sys

import cv2
import numpy as np

from ovs_edge import Segmenter


def main(photo: str, classes: str, output: str) -> None:
    """Alpha is the confidence of the pixels of all `classes`, and 0 elsewhere."""
    image = cv2.imread(photo)
    if image is None:
        sys.exit(f"error: cannot read {photo}")
    with Segmenter.load() as segmenter:
        segmenter.set_classes(classes)
        prediction = segmenter.predict(image)
    alpha = np.where(prediction.labels >= 0, prediction.confidence * 255, 0).astype(np.uint8)
    cv2.imwrite(output, np.dstack([image, alpha]))
    print(f"{np.mean(alpha > 0):.1%} of the photo kept")


main(*sys.argv[1:])
