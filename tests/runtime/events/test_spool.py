"""The queue on disk: its bounds, a disk that takes nothing, and what other runs have left."""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from random import Random
from typing import cast

import pytest

from ovs_edge.bundle.errors import SinkError
from ovs_edge.runtime.events.delivery import spool as module
from ovs_edge.runtime.events.delivery import spool_file
from ovs_edge.runtime.events.delivery.spool import Spool, SpooledEvent

LIMITS = 100, 10**6


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that took nothing is tried again soon."""
    monkeypatch.setattr(module, "_AGAIN", 0.1)
    monkeypatch.setattr(spool_file, "PATIENCE", 0.05)


def texts(spool: Spool) -> list[str]:
    """All that waits, which is taken out."""
    found = []
    while (event := spool.first()) is not None:
        found.append(event.text)
        spool.remove(event)
    return found


def first(spool: Spool) -> SpooledEvent:
    event = spool.first()
    assert event is not None
    return event


def fill_disk(spool: Spool, *, full: bool = True) -> None:
    """As if there was no space left; what SQLite does is the same."""
    base = spool._base
    assert base is not None
    (pages,) = base.execute("PRAGMA page_count").fetchone()
    base.execute(f"PRAGMA max_page_count={pages if full else 1 << 20}")


def on_disk(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as base:
        return [text for (text,) in base.execute("SELECT text FROM events ORDER BY place")]


@pytest.mark.parametrize("persistent", [True, False])
def test_the_queue_is_bounded_and_drops_the_oldest(tmp_path: Path, persistent: bool) -> None:
    spool = Spool(tmp_path if persistent else None, "x", most_events=3, most_bytes=100)
    for number in range(5):
        spool.append(str(number))
    assert (len(spool), spool.dropped) == (3, 2)
    event = first(spool)
    assert event.text == "2"
    spool.append("6", b"p" * 99)  # by size now
    assert (len(spool), spool.dropped) == (1, 5)
    spool.remove(event)  # which was dropped while it was on its way
    assert (len(spool), texts(spool)) == (1, ["6"])
    spool.append("7")
    assert spool.close() == (0 if persistent else 1)
    assert list(tmp_path.glob("*.sqlite3")) == ([tmp_path / "x-0.sqlite3"] if persistent else [])
    spool.close()


def test_events_of_a_full_disk_wait_in_memory(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "x", most_events=5, most_bytes=10**6)
    spool.append("0")
    fill_disk(spool)
    long = "x" * 5000
    for number in range(1, 4):
        spool.append(f"{number}{long}")
    assert spool.trouble == "database or disk is full"
    assert (len(spool), spool.dropped, on_disk(tmp_path / "x-0.sqlite3")) == (4, 0, ["0"])
    event = first(spool)
    assert event.text == "0"
    spool.remove(event)
    held = first(spool)
    assert held.text[0] == "1"
    for number in range(4, 8):
        spool.append(f"{number}{long}")
    assert (len(spool), spool.dropped) == (5, 2)
    fill_disk(spool, full=False)
    time.sleep(0.12)
    spool.store()
    assert spool.trouble is None
    assert [text[0] for text in on_disk(tmp_path / "x-0.sqlite3")] == ["3", "4", "5", "6", "7"]
    spool.remove(held)  # dropped meanwhile
    assert [text[0] for text in texts(spool)] == ["3", "4", "5", "6", "7"]
    assert (len(spool), spool.close()) == (0, 0)


def test_what_is_delivered_does_not_come_again_even_if_the_disk_keeps_it(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "x", *LIMITS)
    spool.append("1")
    spool.append("2")
    path = tmp_path / "x-0.sqlite3"
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        event = first(spool)
        spool.remove(event)
        assert spool.trouble == "database is locked"
        assert (first(spool).text, len(spool)) == ("2", 1)
        other.execute("ROLLBACK")
    assert on_disk(path) == ["1", "2"]
    time.sleep(0.12)
    spool.store()
    assert (spool.trouble, on_disk(path)) == (None, ["2"])
    assert spool.close() == 0


def test_what_cannot_be_kept_is_counted_at_the_end(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "x", *LIMITS)
    spool.append("1")
    fill_disk(spool)
    spool.append("2" * 9000)
    assert (spool.close(), len(spool)) == (1, 2)
    spool = Spool(tmp_path, "x", *LIMITS)
    assert texts(spool) == ["1"]
    spool.close()


def test_two_runs_with_one_receiver_do_not_share_a_queue(tmp_path: Path) -> None:
    one, two = Spool(tmp_path, "x", *LIMITS), Spool(tmp_path, "x", *LIMITS)
    one.append("1")
    two.append("2")
    assert (len(one), len(two)) == (1, 1)
    assert one.adopt() == 0  # the other run is there
    one.close()
    again = Spool(tmp_path, "x", *LIMITS)
    assert first(again).text == "1"
    again.close()
    two.close()


def test_what_a_second_run_has_left_is_taken_over(tmp_path: Path) -> None:
    one, two, other = (Spool(tmp_path, name, 1000, 10**6) for name in ("x", "x", "y"))
    one.append("first")
    for number in range(250):
        two.append(str(number), b"picture")
    other.append("of another receiver")
    for spool in (one, two, other):
        spool.close()
    again = Spool(tmp_path, "x", 1000, 10**6)
    assert (again.adopt(), len(again)) == (250, 251)
    event = first(again)
    again.remove(event)
    assert first(again).snapshot == b"picture"
    assert [event.text, *texts(again)] == ["first", *map(str, range(250))]
    assert (on_disk(tmp_path / "x-1.sqlite3"), on_disk(tmp_path / "y-0.sqlite3")) == ([], ["of another receiver"])
    again.close()


def test_a_disk_without_room_leaves_what_others_have_left(tmp_path: Path) -> None:
    one, two = Spool(tmp_path, "x", *LIMITS), Spool(tmp_path, "x", *LIMITS)
    two.append("2" * 9000)
    two.close()
    fill_disk(one)
    assert (one.adopt(), len(one), len(on_disk(tmp_path / "x-1.sqlite3"))) == (0, 0, 1)
    fill_disk(one, full=False)
    time.sleep(0.12)
    assert (one.adopt(), len(one)) == (1, 1)
    one.close()


def test_events_that_somebody_else_took_out_do_not_wait(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "x", most_events=2, most_bytes=10**6)
    spool.append("1")
    spool.append("2")
    with closing(sqlite3.connect(tmp_path / "x-0.sqlite3", isolation_level=None)) as other:
        other.execute("DELETE FROM events")
    spool.append("3")
    assert (len(spool), texts(spool), spool.dropped) == (1, ["3"], 0)
    spool.append("4")
    with closing(sqlite3.connect(tmp_path / "x-0.sqlite3", isolation_level=None)) as other:
        other.execute("DELETE FROM events")
    assert (spool.first(), len(spool)) == (None, 0)
    spool.close()


@pytest.mark.parametrize(("cut", "least"), [(0, 0), (9000, 60)])
def test_a_damaged_file_is_set_aside_and_what_can_be_read_goes_on(tmp_path: Path, cut: int, least: int) -> None:
    spool = Spool(tmp_path, "x", *LIMITS)
    for number in range(100):
        spool.append(f"{number} {'x' * 500}")
    spool.close()
    path = tmp_path / "x-0.sqlite3"
    data = path.read_bytes()
    damaged = data[:cut] + b"damaged!" * 2000 + data[cut + 16000 :]
    path.write_bytes(damaged)
    spool = Spool(tmp_path, "x", *LIMITS)
    (aside,) = tmp_path.glob("x-0.sqlite3.damaged-*")
    (said,) = spool.damage
    assert said.endswith(f" and is kept as {aside}")
    assert aside.read_bytes() == damaged
    spool.append("new")
    *found, new = texts(spool)
    assert new == "new"
    assert found == sorted(found, key=lambda text: int(text.split()[0]))
    assert least <= len(found) < 100
    assert f"has {len(found)} events that can be read" in said
    spool.close()


@pytest.mark.parametrize(("cut", "least"), [(1, 29), (20_000, 20)])
def test_of_a_file_that_is_cut_off_the_rest_goes_on(tmp_path: Path, cut: int, least: int) -> None:
    spool = Spool(tmp_path, "x", *LIMITS)
    for number in range(30):
        spool.append(str(number), b"p" * 5000)
    spool.close()
    path = tmp_path / "x-0.sqlite3"
    os.truncate(path, path.stat().st_size - cut)
    spool = Spool(tmp_path, "x", *LIMITS)
    found = texts(spool)
    assert found == sorted(found, key=int)
    assert least <= len(found) <= 30
    spool.close()
    assert not list(tmp_path.glob("*.whole*"))


def test_a_picture_that_is_damaged_holds_up_no_event(tmp_path: Path) -> None:
    spool, path = Spool(tmp_path, "x", *LIMITS), tmp_path / "x-0.sqlite3"
    for number in range(9):
        spool.append(str(number), bytes([number]) * 50_000)
    spool.close()
    data = path.read_bytes()
    path.write_bytes(data[: 40 * 4096] + b"\xff" * 4 + data[40 * 4096 + 4 :])  # the next page of a chain
    spool = Spool(tmp_path, "x", *LIMITS)
    assert spool.damage == []  # nobody has looked at it yet
    spool.append("new")
    found = []
    while (event := spool.first()) is not None:
        found.append((event.text, event.snapshot))
        spool.remove(event)
    assert [text for text, _ in found] == [*"012345678", "new"]
    assert [picture for _, picture in found].count(None) == 2
    assert all(picture in (None, bytes([int(text)]) * 50_000) for text, picture in found[:-1])
    assert len(spool.damage) == 1
    assert (len(spool), spool.dropped) == (0, 0)
    spool.close()


class Malformed:
    """The connection to a file that turns out to be damaged."""

    in_transaction = False

    def __init__(self, spool: Spool) -> None:
        self._base = spool._base
        spool._base = cast("sqlite3.Connection", self)

    def execute(self, *given: object) -> None:
        raise sqlite3.DatabaseError("database disk image is malformed")

    def close(self) -> None:
        assert self._base is not None
        self._base.close()


def test_a_file_that_cannot_take_events_any_more_is_replaced(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "x", *LIMITS)
    for number in range(4):
        spool.append(str(number))
    spool.remove(first(spool))
    Malformed(spool)
    spool.append("4")
    assert spool.trouble == "database disk image is malformed"
    assert [said.partition(" and is kept")[0] for said in spool.damage] == [
        f"{tmp_path}/x-0.sqlite3 is damaged (database disk image is malformed), has 3 events that can be read,"
    ]
    time.sleep(0.15)
    spool.store()
    assert (spool.trouble, len(spool), spool.dropped) == (None, 4, 0)
    assert on_disk(tmp_path / "x-0.sqlite3") == [*"1234"]
    Malformed(spool)
    assert texts(spool) == [*"1234"]
    assert len(spool.damage) == 2
    spool.close()


@pytest.mark.parametrize("damaged", [b"garbage" * 1000, None])
def test_a_file_of_another_run_that_cannot_be_read_keeps_no_other(tmp_path: Path, damaged: bytes | None) -> None:
    spools = [Spool(tmp_path, "x", *LIMITS) for _ in range(4)]
    for number, spool in enumerate(spools):
        spool.append(str(number))
    for spool in spools[1:]:
        spool.close()
    path = tmp_path / "x-1.sqlite3"
    if damaged is None:
        path.unlink()
        path.mkdir()
        with pytest.raises(SinkError, match=r"events in .*x-1\.sqlite3 cannot be read"):
            spools[0].adopt()
    else:
        path.write_bytes(damaged)
        assert spools[0].adopt() == 2
        assert not path.exists()
        (said,) = spools[0].damage
        assert "x-1.sqlite3 is damaged (file is not a database), has 0 events that can be read" in said
    assert texts(spools[0]) == ["0", "2", "3"]
    spools[0].close()


def test_a_later_run_may_have_narrower_bounds(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "x", *LIMITS)
    for number in range(6):
        spool.append(str(number))
    spool.close()
    spool = Spool(tmp_path, "x", most_events=2, most_bytes=10**6)
    assert len(spool) == 6
    spool.remove(first(spool))
    assert (len(spool), spool.dropped, texts(spool)) == (2, 3, ["4", "5"])
    spool.close()


@pytest.mark.parametrize("seed", range(3))
def test_nothing_is_lost_or_comes_twice_whatever_the_disk_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(module, "_AGAIN", 0.0)
    random = Random(seed)
    most = random.choice([3, 12, 1000])
    spool, number, full = Spool(tmp_path, "x", most, 10**7), 0, False
    taken: list[int] = []
    dropped, held = 0, None
    for _ in range(300):
        action = random.random()
        if action < 0.45:
            number += 1
            spool.append(f"{number} {'x' * random.choice([1, 3000])}")
        elif action < 0.75:
            held = held or spool.first()
        elif action < 0.92:
            if held is not None:
                before = len(spool)
                spool.remove(held)
                if len(spool) < before:
                    taken.append(int(held.text.split()[0]))
                held = None
        elif action < 0.97:
            full = not full
            fill_disk(spool, full=full)
        else:
            lost = spool.close()
            waited, held, full = len(spool), None, False
            dropped += spool.dropped + lost
            spool = Spool(tmp_path, "x", most, 10**7)
            assert len(spool) == waited - lost
    dropped += spool.dropped
    fill_disk(spool, full=False)
    spool.store()
    assert spool.trouble is None
    taken += [int(text.split()[0]) for text in texts(spool)]
    assert taken == sorted(set(taken))
    assert len(taken) == number - dropped
    assert (len(spool), on_disk(tmp_path / "x-0.sqlite3")) == (0, [])
    spool.close()
