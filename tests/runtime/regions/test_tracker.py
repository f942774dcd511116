"""Regions keep their ids: alone, when they meet, when they hide, and when a mask falls apart."""

from __future__ import annotations

import numpy as np
import pytest
from support.moving import Box, prediction

from ovs_edge.runtime.regions.tracker import RegionTracker

RATE = 25.0


def ids(tracker: RegionTracker, frame: int, boxes: list[Box], label: str = "person") -> list[int]:
    """Ids of the regions at the given boxes' centres, in their order; 0 where there is none."""
    tracks = tracker.update(frame / RATE, prediction({label: boxes})).tracks
    found = []
    for x0, y0, x1, y1 in boxes:
        x, y = (x0 + x1) / 2 / 320, (y0 + y1) / 2 / 240
        near = [track for track in tracks if np.hypot(track.centre[0] - x, track.centre[1] - y) < 0.03]
        found.append(near[0].id if near else 0)
    return found


def person(x: int, y: int = 100) -> Box:
    return x, y, x + 20, y + 60


def test_a_region_has_one_id_from_its_third_frame_on() -> None:
    tracker = RegionTracker()
    seen = [ids(tracker, frame, [person(10 + 4 * frame)])[0] for frame in range(40)]
    assert seen == [0, 0] + [1] * 38


def test_two_who_pass_each_other_keep_their_ids() -> None:
    tracker = RegionTracker()
    for frame in range(70):
        boxes = [person(10 + 4 * frame), person(290 - 4 * frame, 110)]
        seen = ids(tracker, frame, boxes)
        apart = abs(boxes[0][0] - boxes[1][0]) > 40
        if frame > 3 and apart:
            assert seen == [1, 2], frame


def test_one_who_is_hidden_for_half_a_second_comes_back_under_the_same_id() -> None:
    tracker = RegionTracker()
    for frame in range(60):
        hidden = 20 <= frame < 32
        seen = ids(tracker, frame, [] if hidden else [person(10 + 4 * frame)])
        assert seen == [] if hidden else seen[0] in ((0,) if frame < 2 else (1,))


def test_one_who_is_gone_for_longer_is_somebody_else() -> None:
    tracker = RegionTracker()
    for frame in range(10):
        ids(tracker, frame, [person(100)])
    for frame in range(10, 45):
        ids(tracker, frame, [])
    assert [ids(tracker, frame, [person(100)])[0] for frame in range(45, 50)] == [0, 0, 2, 2, 2]


def test_pieces_of_a_mask_that_falls_apart_stay_one_region() -> None:
    tracker = RegionTracker()
    for frame in range(30):
        x = 10 + 4 * frame
        whole = [(x, 100, x + 20, 160)]
        pieces = [(x, 100, x + 20, 128), (x, 134, x + 20, 160)]
        tracks = tracker.update(frame / RATE, prediction({"person": pieces if frame % 7 == 6 else whole})).tracks
        if frame > 2:
            assert [track.id for track in tracks] == [1]
            assert tracks[0].box[1] == 100 and tracks[0].box[3] == 160


def test_what_is_told_of_a_region() -> None:
    tracker = RegionTracker()
    for frame in range(26):
        (track,) = tracker.update(
            frame / RATE, prediction({"car": [(4 * frame, 120, 4 * frame + 60, 150)]})
        ).tracks or (None,)
    assert track is not None
    assert (track.id, track.label, track.box) == (1, "car", (100, 120, 160, 150))
    assert track.share == pytest.approx(60 * 30 / (320 * 240))
    assert track.centre == pytest.approx((130 / 320, 135 / 240), abs=0.003)
    assert track.foot == pytest.approx((130 / 320, 150 / 240), abs=0.003)
    assert track.age == pytest.approx(1.0)
    assert track.speed == pytest.approx(100 / 240, rel=0.02)  # heights of the frame a second
    assert track.confidence == pytest.approx(0.9)
    assert len(track.trail) == 26


def test_regions_of_a_prediction_carry_their_tracks() -> None:
    tracker = RegionTracker()
    for frame in range(4):
        found = tracker.update(frame / RATE, prediction({"person": [person(50), person(200)], "car": [(5, 5, 60, 40)]}))
    regions = {region.label: region for region in found.regions()}
    assert [track.id for track in regions["person"].tracks] == [1, 2]
    assert [track.id for track in regions["car"].tracks] == [3]


def test_time_that_goes_back_starts_afresh_and_ids_go_on() -> None:
    tracker = RegionTracker()
    for frame in range(5):
        ids(tracker, frame, [person(50)])
    assert [ids(tracker, frame, [person(50)])[0] for frame in range(5)] == [0, 0, 2, 2, 2]


def test_a_camera_of_two_frames_a_second_gives_ids() -> None:
    tracker = RegionTracker()
    for frame in range(12):
        tracks = tracker.update(frame / 2, prediction({"person": [person(10 + 3 * frame)]})).tracks
        assert [track.id for track in tracks] == ([] if frame < 2 else [1]), frame


def test_one_who_comes_in_and_is_of_two_colours_keeps_the_id() -> None:
    """What is seen first, a red part at the border, looks different from the whole."""
    tracker = RegionTracker()
    for frame in range(60):
        left = -60 + 3 * frame
        image = np.full((240, 320, 3), 90, np.uint8)
        image[100:160, max(0, left) : max(0, left + 45)] = (200, 60, 20)
        image[100:160, max(0, left + 45) : max(0, left + 60)] = (20, 20, 220)
        tracks = tracker.update(
            frame / RATE, prediction({"person": [(left, 100, left + 60, 160)]} if left > -55 else {}), image
        ).tracks
        if frame > 10:
            assert [track.id for track in tracks] == [1], frame
