"""How much of each frame of a video a class covers, as CSV on standard output.

Usage: python examples/video_shares.py clip.mp4 "person,sky"
"""

import csv
import sys

from ovs_edge import Segmenter


def main(video: str, classes: str) -> None:
    """Write one row per frame: time in seconds, then the share of each class."""
    with Segmenter.load() as segmenter:
        labels = segmenter.set_classes(classes).labels
        table = csv.writer(sys.stdout)
        table.writerow(["time", *labels])
        for frame, prediction in segmenter.stream(video, smooth=0.9):
            shares = {region.label: region.share for region in prediction.regions()}
            table.writerow([f"{frame.time:.3f}", *(f"{shares.get(label, 0):.4f}" for label in labels)])


main(*sys.argv[1:])
