"""What a rule's state does, against a simulator that follows the definition word by word."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from support.levels import Moment, Truth, simulated

from ovs_edge.runtime.events.event import EventKind
from ovs_edge.runtime.events.rule_state import Level

DURATIONS = st.sampled_from([0, 1, 2, 3, 5, 9])
TRUTHS = st.sampled_from([*Truth, Truth.HOLDS, Truth.FAILS])  # these two more often
STEPS = st.lists(st.tuples(st.integers(1, 3), TRUTHS), max_size=40)


def timed(steps: list[tuple[int, Truth]]) -> list[Moment]:
    moments, now = [], 0.0
    for step, truth in steps:
        now += step
        moments.append(Moment(now, truth))
    return moments


def told_by(level: Level, moments: list[Moment]) -> list[tuple[int, str]]:
    told = []
    for index, moment in enumerate(moments):
        kind = None
        if moment.truth is Truth.UNKNOWN:
            level.skip(moment.time)
        elif moment.truth is Truth.NOT_ASKED:
            kind = level.stop()
        else:
            kind = level.update(moment.time, holds=moment.truth is Truth.HOLDS, fails=moment.truth is Truth.FAILS)
        if kind is not None:
            told.append((index, kind.value))
    return told


@settings(max_examples=100)
@given(STEPS, STEPS, DURATIONS, DURATIONS, DURATIONS)
def test_states_start_and_end_as_a_simulator_says(
    first: list[tuple[int, Truth]], second: list[tuple[int, Truth]], least: int, gap: int, cooldown: int
) -> None:
    """Time starts again between the two."""
    level = Level(least, gap, cooldown)
    before, after = timed(first), timed(second)
    told = told_by(level, before)
    assert told == simulated(before, least, gap, cooldown)
    on = level.active
    assert on == (bool(told) and told[-1][1] == "started")
    level.restart()
    again = told_by(level, after)
    assert again == simulated(after, least, gap, cooldown, on=on)
    assert [kind for _, kind in told + again] == [("started", "ended")[place % 2] for place in range(len(told + again))]


@settings(max_examples=100)
@given(STEPS, DURATIONS)
def test_no_start_without_its_condition_and_none_missed(steps: list[tuple[int, Truth]], least: int) -> None:
    moments = [one for one in timed(steps) if one.truth is not Truth.BETWEEN]
    told = told_by(Level(least), moments)
    runs, begin = 0, None  # of moments in a row at which it is known that the condition holds
    for moment in moments:
        held = moment.truth is Truth.HOLDS
        begin = None if not held else moment if begin is None else begin
        if begin is not None and moment.time - begin.time >= least:
            runs, begin = runs + 1, Moment(float("inf"), Truth.HOLDS)
    starts = [index for index, kind in told if kind == EventKind.STARTED.value]
    for index in starts:
        since = min(one.time for one in moments if one.time >= moments[index].time - least)
        assert all(one.truth is Truth.HOLDS for one in moments[: index + 1] if one.time >= since)
    # After a start, moments of which nothing is known part what is one state: it was told once, and is not told again.
    parted = any(one.truth is Truth.UNKNOWN for one in moments)
    assert len(starts) == runs or (parted and len(starts) < runs)
    # An end is told where it is known that the condition fails, or that nobody asks.
    ends = [moments[index].truth for index, kind in told if kind == EventKind.ENDED.value]
    assert set(ends) <= {Truth.FAILS, Truth.NOT_ASKED}
