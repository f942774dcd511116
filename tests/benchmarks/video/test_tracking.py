"""Id switches, fragmentations, IDF1 and tracks that go over, on clips counted by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ovs_edge.benchmarks.video.tracking import FrameMatches, TrackingScore, match_boxes, read_paths, score_tracks


def frame(objects: str, tracks: list[int], pairs: dict[tuple[str, int], float]) -> FrameMatches:
    close = np.array([[pairs.get((name, track), 0.0) for track in tracks] for name in objects], np.float64)
    return FrameMatches(tuple(objects), tuple(tracks), close.reshape(len(objects), len(tracks)))


def alone(track: int, frames: int) -> list[FrameMatches]:
    return [frame("a", [track], {("a", track): 1.0})] * frames


def test_one_id_for_all_frames_is_perfect() -> None:
    score = score_tracks(alone(1, 20), rate=10)
    assert (score.switches, score.fragmentations, score.gone_over, score.tracks) == (0, 0, 0, 1)
    assert score.idf1 == score.recall == 1


def test_another_id_is_a_switch_and_the_longer_id_counts() -> None:
    score = score_tracks(alone(1, 30) + alone(2, 10), rate=10)
    assert (score.switches, score.fragmentations, score.tracks) == (1, 0, 1)
    assert score.idf1 == pytest.approx(30 / 40)


def test_a_gap_is_a_fragmentation() -> None:
    score = score_tracks(alone(1, 10) + [frame("a", [], {})] * 5 + alone(1, 10), rate=10)
    assert (score.switches, score.fragmentations) == (0, 1)
    assert score.recall == pytest.approx(20 / 25)


def test_two_tracks_that_change_places_have_gone_over() -> None:
    before, after = {("a", 1): 1.0, ("b", 2): 1.0}, {("a", 2): 1.0, ("b", 1): 1.0}
    score = score_tracks([frame("ab", [1, 2], before)] * 15 + [frame("ab", [1, 2], after)] * 15, rate=10)
    assert (score.switches, score.gone_over, score.tracks) == (2, 2, 2)
    assert score.idf1 == pytest.approx(0.5)


def test_a_track_between_two_objects_stays_with_the_one_it_had() -> None:
    first = frame("ab", [1], {("a", 1): 0.9, ("b", 1): 0.2})
    between = frame("ab", [1], {("a", 1): 0.2, ("b", 1): 0.9})
    assert score_tracks([first] * 10 + [between] * 30, rate=10).gone_over == 0


def test_a_short_meeting_is_not_going_over() -> None:
    with_b = frame("ab", [1], {("b", 1): 1.0})
    score = score_tracks(alone(1, 30) + [with_b] * 4 + alone(1, 10), rate=10)
    assert score.gone_over == 0
    assert score_tracks(alone(1, 30) + [with_b] * 6 + alone(1, 10), rate=10).gone_over == 1


def test_scores_add_up() -> None:
    one, other = score_tracks(alone(1, 20), rate=10), score_tracks(alone(1, 30) + alone(2, 10), rate=10)
    both = one + other
    assert isinstance(both, TrackingScore)
    assert (both.objects, both.present, both.switches) == (2, 60, 1)
    assert both.idf1 == pytest.approx(50 / 60)


def test_a_box_belongs_to_the_nearest_body(tmp_path: Path) -> None:
    (tmp_path / "paths.json").write_text('{"people": {"A": [[2, 10, 100], [4, 30, 100]], "B": [[4, 60, 100]]}}')
    places = read_paths(tmp_path / "paths.json")
    assert sorted(places) == [2, 3, 4]
    assert places[3] == {"A": (20.0, 100.0, 44.0)}
    found = match_boxes(places[4], {7: (25, 80, 37, 120), 8: (150, 80, 160, 120)})
    assert (found.objects, found.tracks) == (("A", "B"), (7, 8))
    assert found.closeness[0, 0] > 0.9
    assert found.closeness[1, 0] == found.closeness[:, 1].max() == 0
