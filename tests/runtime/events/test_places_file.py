"""Zones saved to a file that people write, too: nothing of theirs is lost, whatever the page saves."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ovs_edge.bundle.errors import UsageError
from ovs_edge.runtime.events.config import parse_places, parse_toml, parse_watch, read_toml
from ovs_edge.runtime.events.places import Anchor, Line, Places, Zone
from ovs_edge.runtime.events.saving.places_toml import replace_places
from ovs_edge.runtime.events.saving.toml_statements import statements
from ovs_edge.runtime.events.watch import EventWatch
from ovs_edge.runtime.threads.newest_task import Superseded

SQUARE = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0))
CORNER = ((0.5, 0.5), (1.0, 0.5), (1.0, 1.0))
DOOR, YARD = Zone("door", SQUARE), Zone("yard", CORNER, Anchor.HALF)
HEDGE = Line("hedge", ((0.1, 0.2), (0.9, 0.25)))

FILE = """\
# The house, seen from the street.
camera = "front"   # as in the tickets

# Measured in May.
[zones.door]
# corners, clockwise
points = [
  [0, 0], [1, 0],  # the step
  [1, 1], [0, 1],
]
anchor = "foot"    # not centre: umbrellas

# Rules of the house: do not delete!
[rules]
visitor = "person in door for 2s"  # asks twice

[lines.hedge]
points = [[0.1, 0.2], [0.9, 0.25]]
# The end.
"""


def read(text: str) -> Places:
    return parse_places(parse_toml(text.encode(), "zones.toml"))


def test_what_is_not_changed_stays_as_it_is() -> None:
    assert replace_places(FILE, read(FILE), "zones.toml") == FILE
    assert replace_places("", Places(), "zones.toml") == ""


def test_a_changed_zone_keeps_the_comments_around_its_values() -> None:
    changed = replace_places(FILE, Places((Zone("door", SQUARE, Anchor.TOUCH),), (HEDGE,)), "zones.toml")
    assert changed == FILE.replace('"foot"', '"touch"')
    changed = replace_places(FILE, Places((Zone("door", CORNER),), (HEDGE,)), "zones.toml")
    before, after = FILE.split("points = [\n  [0, 0], [1, 0],  # the step\n  [1, 1], [0, 1],\n]\n")
    assert changed == f"{before}points = [[0.5, 0.5], [1.0, 0.5], [1.0, 1.0]]\n{after}"
    changed = replace_places(FILE, Places((DOOR,), (Line("hedge", HEDGE.points, Anchor.CENTRE),)), "zones.toml")
    assert changed == FILE.replace("0.25]]\n", '0.25]]\nanchor = "centre"\n')


def test_a_zone_with_another_name_is_the_same_table() -> None:
    changed = replace_places(FILE, Places((Zone('the "front" door', SQUARE),), (HEDGE,)), "zones.toml")
    assert changed == FILE.replace("[zones.door]", '[zones."the \\"front\\" door"]')


def test_added_zones_stand_behind_the_others() -> None:
    new = '\n[zones.yard]\npoints = [[0.5, 0.5], [1.0, 0.5], [1.0, 1.0]]\nanchor = "half"\n'
    changed = replace_places(FILE, Places((DOOR, YARD), (HEDGE,)), "zones.toml")
    assert changed == FILE.replace("umbrellas\n", f"umbrellas\n{new}")
    assert replace_places("# mine", Places((YARD,)), "zones.toml") == f"# mine\n{new}"
    text = replace_places("", Places((YARD,), (HEDGE,)), "zones.toml")
    assert text == new[1:] + '\n[lines.hedge]\npoints = [[0.1, 0.2], [0.9, 0.25]]\nanchor = "foot"\n'
    assert replace_places(text, Places(), "zones.toml") == ""


def test_a_removed_zone_leaves_the_comments_around_its_table() -> None:
    changed = replace_places(FILE, Places((), (HEDGE,)), "zones.toml")
    start, stop = FILE.index("[zones.door]"), FILE.index("\n# Rules of the house")
    assert changed == FILE[:start] + FILE[stop:]
    assert replace_places(FILE, Places((DOOR,)), "zones.toml").endswith("# asks twice\n\n# The end.\n")


@pytest.mark.parametrize(
    "text",
    [
        "zones.door.points = [[0, 0], [1, 0], [1, 1], [0, 1]]\nzones.door.anchor = 'foot'\ncamera = 'a'\n",
        "[zones]\ndoor = { points = [[0, 0], [1, 0], [1, 1], [0, 1]] } # inline\n\n[spool]\nmost_events = 3\n",
        "[ zones . 'door' ] # odd\n\tpoints=[[0,0],[1,0],[1,1],[0,1]]\n[command]\nrun = [\n'[zones.x]'\n]",
        'note = """\n[zones.fake]\n# "" no comment\\""""\n[zones."door"]\npoints = [[0,0],[1,0],[1,1],[0,1]]',
        "[zones.door]\r\npoints = [[0, 0], [1, 0],\r\n [1, 1], [0, 1]]\r\n\r\n# end\r\n",
    ],
)
def test_other_forms_of_the_same(text: str) -> None:
    for places in (
        Places((YARD,)),
        Places((DOOR, YARD)),
        Places((Zone("door", CORNER),)),
        Places((Zone("door", SQUARE, Anchor.HALF),)),
    ):
        changed = replace_places(text, places, "zones.toml")
        assert read(changed).by_name == places.by_name
        for line in text.splitlines():
            if "#" in line and "zones" not in line and "inline" not in line:
                assert line in changed
        assert ("\r\n" in text) == ("\r\n" in changed)
        assert changed.count("\r") == (changed.count("\n") if "\r\n" in text else 0)


@pytest.mark.parametrize("text", ["zones = { door = { points = [[0, 0], [1, 0], [1, 1], [0, 1]] } }\n", "zones = {}\n"])
def test_zones_in_one_value_cannot_be_changed(text: str) -> None:
    assert replace_places(text, read(text), "zones.toml") == text
    with pytest.raises(UsageError, match="the zones in zones.toml are not written as tables"):
        replace_places(text, Places((YARD,)), "zones.toml")


def test_statements_know_strings_comments_and_brackets() -> None:
    text = "a.\"b = c\" = '''\n[x]\n''''' # ]\n[[t.'[u]']] # [\nk = [ # ]\n \"]\", {v = ']'}]  # end\n"
    found = [(one.keys, text[one.value : one.end]) for one in statements(text)]
    assert found == [
        (("a", "b = c"), "'''\n[x]\n'''''"),
        (("t", "[u]"), "[[t.'[u]']]"),
        (("t", "[u]", "k"), "[ # ]\n \"]\", {v = ']'}]"),
    ]


NAMES = (
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)
    .map(lambda text: " ".join(text.split()))
    .filter(lambda name: bool(name) and name.isprintable() and name != "frame")
)
COORDINATES = st.floats(0, 1)
CORNERS = st.lists(st.tuples(COORDINATES, COORDINATES), min_size=3, max_size=5).map(tuple)


@st.composite
def any_places(draw: st.DrawFn) -> Places:
    made: list[Zone | Line] = []
    for name in draw(st.lists(NAMES | st.sampled_from(["door", "yard", "hedge"]), unique=True, max_size=4)):
        kind = draw(st.sampled_from([Zone, Line]))
        try:
            made.append(kind(name, draw(CORNERS), draw(st.sampled_from(Anchor))))
        except UsageError:  # no area or no length
            made.append(Zone(name, SQUARE))
    return Places.of(made)


@settings(max_examples=60, deadline=None)
@given(any_places(), any_places(), st.booleans())
def test_whatever_is_accepted_is_read_again_and_nothing_else_is_lost(
    one: Places, other: Places, carriage: bool
) -> None:
    text = FILE.replace("\n", "\r\n") if carriage else FILE
    for places in (one, other, Places(), one):
        text = replace_places(text, places, "zones.toml")
        assert read(text).by_name == places.by_name
        for line in ("# The house", "# Measured in May.", "# Rules of the house", "# asks twice", "# The end."):
            assert text.count(line) == 1


def test_a_tiny_zone_is_saved_as_it_was_accepted() -> None:
    tiny = Zone("door", ((0.1, 0.1), (0.10144, 0.1), (0.10144, 0.10144)))
    assert read(replace_places("", Places((tiny,)), "zones.toml")).zones == (tiny,)


# -- the file --------------------------------------------------------------------------------------------------------


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "zones.toml"
    file.write_text(FILE)
    return file


def watching(path: Path) -> EventWatch:
    return EventWatch(parse_watch(read_toml(path) if path.exists() else {}, "zones.toml"), "camera", None, path)


def places_of(path: Path) -> dict[str, Any]:
    return dict(parse_places(read_toml(path)).by_name)


def test_a_symbolic_link_stays_one_and_the_mode_is_kept(path: Path, tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    link = tmp_path / "etc" / "zones.toml"
    link.symlink_to("../zones.toml")
    path.chmod(0o640)
    assert watching(link).set_places(Places((DOOR, YARD)))
    assert link.is_symlink()
    assert places_of(path) == {"door": DOOR, "yard": YARD}
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    path.unlink()  # the link points to nothing now
    assert watching(link).set_places(Places((YARD,)))
    assert link.is_symlink()
    assert places_of(path) == {"yard": YARD}
    assert sorted(os.listdir(tmp_path)) == ["etc", "zones.toml"]


def test_a_file_with_two_names_stays_one_file(path: Path, tmp_path: Path) -> None:
    (tmp_path / "other.toml").hardlink_to(path)
    watch = watching(path)
    for places in (Places((DOOR, YARD), (HEDGE,)), Places((DOOR,))):
        watch.set_places(places)
        assert places_of(tmp_path / "other.toml") == dict(places.by_name)
        assert path.samefile(tmp_path / "other.toml")


@pytest.mark.parametrize("refusal", [errno.EBUSY, errno.EACCES, errno.EROFS, errno.EPERM])
def test_a_file_beside_which_none_can_be_made(path: Path, monkeypatch: pytest.MonkeyPatch, refusal: int) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError(refusal, os.strerror(refusal))

    # EBUSY: the file is the mount point of a container; EPERM: it is another user's.
    monkeypatch.setattr(os, "fchown" if refusal == errno.EPERM else "replace", refuse)
    watching(path).set_places(Places((DOOR,)))
    assert places_of(path) == {"door": DOOR}
    assert os.listdir(path.parent) == ["zones.toml"]


def test_a_full_disk_leaves_the_file_as_it_was(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "other.toml").hardlink_to(path)
    written = os.write

    def full(descriptor: int, data: memoryview) -> int:
        if bytes(data).startswith(FILE[:20].encode()) and len(data) == len(FILE):
            return written(descriptor, data)  # what was there fits
        written(descriptor, data[:10])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    watch = watching(path)
    with pytest.raises(UsageError, match="cannot write .*No space left"):
        watch.set_places(Places((DOOR, YARD), (HEDGE,)))
    assert path.read_text() == FILE
    assert watch.places.zones == (DOOR,)


def test_a_file_that_is_read_only_is_not_replaced(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda file, mode: False)  # as for whoever is not root
    watch = watching(path)
    with pytest.raises(UsageError, match=r"cannot write .* \(the file is read-only\)"):
        watch.set_places(Places((DOOR, YARD)))
    assert path.read_text() == FILE
    assert watch.places.zones == (DOOR,)


def test_what_was_added_by_hand_is_kept_and_watched(path: Path) -> None:
    watch = watching(path)
    path.write_text(f"{FILE}\n[zones.byhand]  # mine\npoints = [[0.5, 0.5], [1, 0.5], [1, 1]]\n")
    assert watch.set_places(Places((DOOR, YARD), (HEDGE,)))
    byhand = Zone("byhand", CORNER)
    assert places_of(path) == {"door": DOOR, "yard": YARD, "hedge": HEDGE, "byhand": byhand}
    assert watch.places.by_name == places_of(path)
    assert "[zones.byhand]  # mine\n" in path.read_text()
    path.write_text(path.read_text().replace("[1, 0.5]", "[0.9, 0.5]"))  # and changed, while the page removes a line
    watch.set_places(Places((DOOR, YARD, byhand)))
    assert places_of(path)["byhand"].points[1] == (0.9, 0.5)
    assert "hedge" not in places_of(path)


def test_a_zone_changed_on_both_sides_is_told_once(path: Path) -> None:
    watch = watching(path)
    edited = (
        FILE.replace("[1, 1], [0, 1]", "[1, 1], [0, 0.9]")
        + "\n[zones.byhand]\npoints = [[0.5, 0.5], [1, 0.5], [1, 1]]\n"
    )
    path.write_text(edited)
    changed = Zone("door", CORNER)
    with pytest.raises(Superseded, match=r"^zones\.toml was changed in the meantime: 'door' is another one there"):
        watch.set_places(Places((changed,), (HEDGE,)))
    assert path.read_text() == edited
    assert watch.places.zones == (DOOR,)
    watch.set_places(Places((changed,), (HEDGE,)))  # again: it is meant
    assert places_of(path) == {"door": changed, "hedge": HEDGE, "byhand": Zone("byhand", CORNER)}


def test_a_zone_that_a_rule_needs_and_the_file_has_no_more(path: Path) -> None:
    watch = watching(path)
    path.write_text('[rules]\nempty = "no person in frame"\n')
    with pytest.raises(UsageError, match=r"zones\.toml was changed in the meantime: rule .* there is no zone 'door'"):
        watch.set_places(Places((DOOR, YARD), (HEDGE,)))
    assert watch.places.zones == (DOOR,)
    with pytest.raises(UsageError, match="^rule .* there is no zone 'door'"):
        watch.set_places(Places((YARD,)))


def test_a_file_that_is_gone_or_broken(path: Path) -> None:
    watch = watching(path)
    path.write_text("[zones.")
    with pytest.raises(UsageError, match="is no TOML"):
        watch.set_places(Places((DOOR, YARD)))
    assert path.read_text() == "[zones."
    path.write_text("[zones.door]\npoints = 1")
    with pytest.raises(UsageError, match="zones.toml: the zone 'door' has no list of points"):
        watch.set_places(Places((DOOR, YARD)))
    path.unlink()
    watch.set_places(Places((DOOR, YARD)))
    assert places_of(path) == {"door": DOOR, "yard": YARD}
    path.unlink()
    path.mkdir()
    with pytest.raises(UsageError, match="cannot read"):
        watch.set_places(Places((DOOR,)))
    path.rmdir()
    path.parent.joinpath("no").mkdir()
    path.parent.joinpath("no").rmdir()
    lost = EventWatch(parse_watch({}, ""), "camera", None, path.parent / "no" / "zones.toml")
    with pytest.raises(UsageError, match="cannot write .*No such file"):
        lost.set_places(Places((DOOR,)))


def test_a_byte_order_mark_stays(path: Path) -> None:
    path.write_bytes(b"\xef\xbb\xbf" + FILE.encode())
    watching(path).set_places(Places((DOOR,)))
    assert path.read_bytes().startswith(b"\xef\xbb\xbf# The house")
    assert path.read_bytes().count(b"\xef\xbb\xbf") == 1


def test_two_pages_that_save_at_once(path: Path) -> None:
    watch = watching(path)
    base = watch.places
    watch.set_places(Places((DOOR, YARD), (HEDGE,)), base)  # one page adds a zone
    watch.set_places(Places((DOOR,)), base)  # the other, which has not seen it, removes a line
    assert watch.places.by_name == places_of(path) == {"door": DOOR, "yard": YARD}
    base = watch.places
    watch.set_places(Places((DOOR, Zone("yard", SQUARE))), base)
    with pytest.raises(Superseded, match="'yard' was changed on another page"):
        watch.set_places(Places((DOOR, Zone("yard", SQUARE, Anchor.TOUCH))), base)
    with pytest.raises(Superseded, match="'yard' was changed on another page"):
        watch.set_places(Places((DOOR,)), base)
    assert places_of(path)["yard"] == Zone("yard", SQUARE)
