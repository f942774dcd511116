"""Gaps between frames: by their times, and by what is known of the source."""

from __future__ import annotations

from ovs_edge.runtime.regions.continuity import Continuity, FramePace


def test_gaps_are_told_from_the_usual_time_between_frames() -> None:
    pace = FramePace()
    assert {pace.step(frame / 10) for frame in range(20)} == {Continuity.CONTINUES}
    assert pace.step(22.0) is Continuity.GAP
    assert pace.step(22.1) is Continuity.CONTINUES
    assert pace.step(0.0) is Continuity.RESTART
    slow = FramePace()
    assert [slow.step(5.0 * frame) for frame in range(6)][3:] == [Continuity.CONTINUES] * 3


def test_a_source_that_is_lost_again_and_again_has_a_gap_each_time() -> None:
    pace = FramePace()
    for outage in range(6):
        found = [pace.step(22.0 * outage + frame / 10, lost=frame == 0 and outage > 0) for frame in range(20)]
        assert found == [Continuity.CONTINUES if outage == 0 else Continuity.GAP] + [Continuity.CONTINUES] * 19
    assert pace.step(22.0 * 5 + 2.5, lost=True) is Continuity.CONTINUES  # back at once
