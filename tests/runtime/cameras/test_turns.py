"""Turns on the network: the newest frame of each camera, and no camera before another that waited longer."""

from __future__ import annotations

import threading
import time

import pytest

from ovs_edge.runtime.cameras.turns import Turns
from ovs_edge.runtime.threads.channel import Ended


def test_only_the_newest_waits_and_the_others_are_counted() -> None:
    turns: Turns[int] = Turns()
    slot = turns.join()
    for item in (1, 2, 3):
        slot.put(item)
    assert turns.take() == (slot, 3)
    assert slot.replaced == 2


def test_a_camera_that_floods_gets_no_more_turns_than_the_others() -> None:
    turns: Turns[str] = Turns()
    slots = {name: turns.join() for name in "abc"}
    taken = []
    for _ in range(12):
        for name, slot in slots.items():
            for _ in range(50 if name == "a" else 1):
                slot.put(name)
        slot, name = turns.take()
        slot.done()
        taken.append(name)
    assert taken == list("abc" * 4)


def test_frames_of_one_camera_are_worked_on_one_after_the_other() -> None:
    turns: Turns[str] = Turns()
    first, second = turns.join(), turns.join()
    first.put("a1")
    assert turns.take() == (first, "a1")
    first.put("a2")  # while a1 is in the network
    second.put("b1")
    assert turns.take() == (second, "b1")
    assert first.item == "a2"
    first.done()
    assert turns.take() == (first, "a2")


def test_a_camera_that_sends_nothing_holds_nobody_up() -> None:
    turns: Turns[int] = Turns()
    turns.join()
    busy = turns.join()
    for item in range(5):
        busy.put(item)
        slot, found = turns.take()
        slot.done()
        assert found == item


def test_a_new_camera_is_the_last_in_turn() -> None:
    turns: Turns[str] = Turns()
    old = [turns.join(), turns.join()]
    for slot in old:
        slot.put("old")
    turns.take()[0].done()
    new = turns.join()
    new.put("new")
    assert turns.take()[0] is old[1]


def test_readers_wait_for_an_item_and_end() -> None:
    turns: Turns[int] = Turns()
    slot = turns.join()
    found: list[int] = []

    def read() -> None:
        with pytest.raises(Ended):
            while True:
                taken, item = turns.take()
                found.append(item)
                taken.done()

    reader = threading.Thread(target=read)
    reader.start()
    slot.put(7)
    deadline = time.monotonic() + 5
    while not found and time.monotonic() < deadline:
        time.sleep(0.005)
    turns.leave(slot)
    turns.leave(slot)
    slot.put(8)  # of a camera that has left
    turns.end()
    reader.join(5)
    assert not reader.is_alive()
    assert found == [7]
