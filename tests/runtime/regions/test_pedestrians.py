"""Ids on a clip of people who meet and hide each other, against paths that were marked by hand."""

from __future__ import annotations

from pathlib import Path

import cv2
import pytest

from ovs_edge.benchmarks.video.tracking import match_boxes, read_paths, score_tracks
from ovs_edge.runtime.inference.smoothing import STRENGTH, TemporalSmoother
from ovs_edge.runtime.regions.tracker import RegionTracker
from ovs_edge.runtime.segmenter import Segmenter

CLIP = Path(__file__).parents[4] / "shared" / "data" / "pedestrians.avi"
PATHS = Path(__file__).parents[3] / "benchmarks" / "video" / "pedestrian_paths.json"
RATE = 10.0  # frames a second


@pytest.mark.nightly
@pytest.mark.skipif(not CLIP.exists(), reason=f"no {CLIP}")
def test_a_tenth_of_the_tracks_at_most_goes_over_to_somebody_else() -> None:
    places, tracker, matches = read_paths(PATHS), RegionTracker(), []
    reader = cv2.VideoCapture(str(CLIP))
    with Segmenter.load(precision="auto") as segmenter:
        segmenter.set_classes("person:0.5")
        segmenter.smoother = TemporalSmoother(STRENGTH)
        while (read := reader.read())[0]:
            frame = len(matches)
            found = tracker.update(frame / RATE, segmenter.predict(read[1]), read[1])
            matches.append(match_boxes(places[frame], {track.id: track.box for track in found.tracks}))
    score = score_tracks(matches, RATE)
    print(score)
    assert len(matches) == 795
    assert score.tracks >= 40
    assert score.gone_over <= 0.1 * score.tracks
    assert score.recall > 0.7
