"""`POST /places`: what is refused, and what becomes of requests that come from two pages or meet a changed file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from support.endless import PLAIN, Memory, going_on, halves
from support.web_client import Viewer, client, post, within

from ovs_edge.runtime.events.config import parse_watch, read_toml
from ovs_edge.runtime.events.watch import EventWatch
from ovs_edge.runtime.interaction import Interaction
from ovs_edge.runtime.segmenter import Segmenter
from ovs_edge.runtime.viewer.sink import WebOptions, WebSink

FILE = """\
rules = ["red in door"]
[zones.door]
points = [[0, 0], [0.5, 0], [0.5, 1]]

# Rules of the house: do not delete!
[spool]
most_events = 3
"""
DOOR = {"points": [[0.0, 0.0], [0.5, 0.0], [0.5, 1.0]], "anchor": "foot"}
YARD = {"points": [[0.5, 0.5], [1.0, 0.5], [1.0, 1.0]], "anchor": "half"}


@pytest.fixture(scope="module")
def watched(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Viewer, Path]]:
    """A page whose zones are saved to a file, and that file; each test writes it and begins with it."""
    folder = tmp_path_factory.mktemp("places")
    file = folder / "zones.toml"
    file.write_text(FILE)
    watch = EventWatch(parse_watch(read_toml(file), "zones.toml"), "camera", None, file)
    with ExitStack() as stack:
        segmenter = stack.enter_context(Segmenter.load(tiny_bundle))
        segmenter.set_classes("red")
        interaction = Interaction.of(segmenter, PLAIN, (), watch)
        stack.callback(interaction.close)
        sink, memory = WebSink(WebOptions("127.0.0.1:0", None, folder / "recordings"), interaction), Memory()
        stack.enter_context(going_on(segmenter, interaction, [sink, memory], halves()))
        yield Viewer(sink.url, sink, memory, segmenter, interaction), file


def send(viewer: Viewer, *bodies: Any) -> list[tuple[int, dict[str, Any]]]:
    async def work() -> list[tuple[int, dict[str, Any]]]:
        async with client(viewer) as session:
            return [await post(session, "/places", body) for body in bodies]

    answers: list[tuple[int, dict[str, Any]]] = within(work())
    return answers


@pytest.mark.parametrize("number", [10**400, 2**63, float("nan"), float("inf"), True, "0.1", None, [], {}, -0.1, 1.1])
def test_a_coordinate_that_is_none(watched: tuple[Viewer, Path], number: object) -> None:
    viewer, file = watched
    before = file.read_text()
    door = {"points": [[number, 0], [1, 0], [1, 1]]}
    (status, answer), (other, _) = send(
        viewer, {"zones": {"door": door}}, {"zones": {}, "base": {"zones": {"door": door}}}
    )
    assert (status, other) == (400, 400)
    assert answer["error"].startswith("the zone 'door' has ")
    assert file.read_text() == before


def test_points_on_one_line_and_other_requests_that_are_none(watched: tuple[Viewer, Path]) -> None:
    viewer, file = watched
    before = file.read_text()
    flat = {"points": [[0.1, 0.1], [0.5, 0.5], [0.9, 0.9]]}
    answers = send(
        viewer,
        {"zones": {"door": flat}},
        {"zones": {"door": DOOR}, "lines": {"door": {"points": [[0, 0], [1, 1]]}}},
        {"zones": {"door": DOOR, "\u202e": DOOR}},
        {"zones": {"door": DOOR, "\ud800": DOOR}},
        {"zones": {"door": DOOR, "frame": DOOR}},
        {"zones": {}},  # which the rule needs
        {"zones": {"door": DOOR}, "base": []},
    )
    assert [status for status, _ in answers] == [400] * len(answers)
    assert "has no area" in answers[0][1]["error"]
    assert file.read_text() == before


def test_two_pages_and_a_file_that_is_edited_meanwhile(watched: tuple[Viewer, Path]) -> None:
    viewer, file = watched
    file.write_text(FILE)
    base: dict[str, Any] = {"zones": {"door": DOOR}, "lines": {}}
    one, other = (
        {"zones": {"door": DOOR, "yard": YARD}, "base": base},
        {"zones": {"door": DOOR, "shed": YARD}, "base": base},
    )
    (_, first), (status, answer) = send(viewer, one, other)
    assert first["zones"] == {"door": DOOR, "yard": YARD}
    assert (status, answer["saved"], answer["file"]) == (200, True, "zones.toml")
    assert answer["zones"] == {"door": DOOR, "shed": YARD, "yard": YARD}
    file.write_text(
        file.read_text().replace("[0.5, 1]]", "[0.4, 1]]") + "[zones.byhand]\npoints = [[0, 0], [1, 0], [1, 1]]\n"
    )
    changed = {"zones": {**answer["zones"], "door": YARD}}
    (status, answer), (again, now) = send(viewer, changed, changed)
    assert status == 409
    assert "zones.toml was changed in the meantime: 'door'" in answer["error"]
    assert (again, now["zones"]["door"], sorted(now["zones"])) == (200, YARD, ["byhand", "door", "shed", "yard"])
    written = read_toml(file)
    assert sorted(written["zones"]) == sorted(now["zones"])
    assert "# Rules of the house: do not delete!\n[spool]" in file.read_text()
    assert written["zones"]["door"] == YARD
