"""Predictions as supervision's Detections, drawn by its annotators.

Usage: python examples/detections.py photo.jpg "cup,spoon" out.png
"""

import sys

import cv2
import supervision

from ovs_edge import Segmenter, to_detections


def main(photo: str, classes: str, output: str) -> None:
    """Draw masks and labels with supervision; `pip install '.[cpu,supervision]'`."""
    image = cv2.imread(photo)
    if image is None:
        sys.exit(f"error: cannot read {photo}")
    with Segmenter.load() as segmenter:
        segmenter.set_classes(classes)
        detections = to_detections(segmenter.predict(image))
    picture = supervision.MaskAnnotator().annotate(image.copy(), detections)
    picture = supervision.LabelAnnotator().annotate(picture, detections, [*detections.data["class_name"]])
    cv2.imwrite(output, picture)
    print(len(detections), "classes found")


main(*sys.argv[1:])
