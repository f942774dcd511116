"""Change the classes while frames are processed: no export, no reload.

Usage: python examples/change_classes.py clip.mp4 "cup" "spoon,dining table"
"""

import sys
import time

from ovs_edge import Segmenter


def main(video: str, first: str, second: str) -> None:
    """Ask for `first`, and for `second` from the third frame on."""
    with Segmenter.load() as segmenter:
        segmenter.set_classes(first)
        for frame, prediction in segmenter.stream(video):
            found = [region.label for region in prediction.regions()]
            print(frame.index, prediction.classes, "found:", found)
            if frame.index == 1:
                start = time.perf_counter()
                segmenter.set_classes(second)
                print(f"changed in {(time.perf_counter() - start) * 1e3:.0f} ms")


main(*sys.argv[1:])
