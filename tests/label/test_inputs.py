"""What is labelled: photos, archives that cannot be trusted, frames of videos."""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from support.label_job import BAD, encoded, photo, write_photos, write_tar, write_zip

from ovs_edge.bundle.errors import SourceError, UsageError
from ovs_edge.label.inputs.archives import ArchiveReader, is_archive, list_members
from ovs_edge.label.inputs.listing import list_inputs
from ovs_edge.label.inputs.pictures import decode, orientation
from ovs_edge.label.inputs.places import is_remote, read_bytes
from ovs_edge.label.inputs.sampling import Sampling, SamplingKind
from ovs_edge.label.inputs.units import Unit, UnitKind
from ovs_edge.label.plan import make_units

MEMBERS = {"a/1.png": encoded(photo("red")), "b/1.png": encoded(photo("green")), "notes.txt": b"x"}
SECOND = Sampling()


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz", "a.tar.xz"])
def test_members_are_read_in_any_order(name: str, tmp_path: Path) -> None:
    mode = {"gz": "w:gz", "xz": "w:xz"}.get(name.rsplit(".", 1)[1], "w")
    make = write_zip if name.endswith("zip") else lambda path, members: write_tar(path, members, mode)
    path = str(make(tmp_path / name, MEMBERS))
    members, left_out = list_members(path)
    assert ([member.name for member in members], left_out) == (["a/1.png", "b/1.png"], [])
    reader = ArchiveReader()
    for member in [*members, *reversed(members)]:
        assert reader.read(path, member) == MEMBERS[member.name]
    reader.close()
    assert is_archive(path)


def test_no_member_is_ever_a_path(tmp_path: Path) -> None:
    path = tmp_path / "evil.tar"
    with tarfile.open(path, "w") as archive:
        for name, kind, link in (
            ("../../out.png", tarfile.REGTYPE, ""),
            ("/etc/abs.png", tarfile.REGTYPE, ""),
            ("link.png", tarfile.SYMTYPE, "/etc/passwd"),
            ("hard.png", tarfile.LNKTYPE, "../../out.png"),
            ("fifo.png", tarfile.FIFOTYPE, ""),
            ("folder.png", tarfile.DIRTYPE, ""),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, link
            data = MEMBERS["a/1.png"] if kind == tarfile.REGTYPE else b""
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    members, left_out = list_members(str(path))
    assert [member.name for member in members] == ["../../out.png", "/etc/abs.png"]
    assert [line.rsplit(": ", 2)[1] for line in left_out] == ["link.png", "hard.png", "fifo.png"]
    listing = list_inputs([str(path)], recursive=False, without=None)
    [unit] = make_units(listing, [], SECOND, 10)
    assert [item.name for item in unit.items] == ["out", "abs"]


@pytest.mark.parametrize("suffix", ["zip", "tar", "tar.bz2"])
def test_members_of_one_name_are_two_pictures(tmp_path: Path, suffix: str) -> None:
    path, (one, two) = tmp_path / f"twice.{suffix}", (b"first" * 9, b"other" * 9)
    if suffix == "zip":
        with zipfile.ZipFile(path, "w") as zipped:
            zipped.writestr("a.png", one)
            with pytest.warns(UserWarning, match="Duplicate name"):
                zipped.writestr("a.png", two)
    else:
        with tarfile.open(path, "w:bz2" if suffix.endswith("bz2") else "w") as packed:
            for data in (one, two):
                info = tarfile.TarInfo("a.png")
                info.size = len(data)
                packed.addfile(info, io.BytesIO(data))
    members, left_out = list_members(str(path))
    reader = ArchiveReader()
    assert left_out == []
    assert [reader.read(str(path), member) for member in members] == [one, two]
    assert reader.read(str(path), members[0]) == one
    reader.close()


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK])
def test_a_header_that_claims_gigabytes_is_not_read(tmp_path: Path, kind: bytes) -> None:
    header = tarfile.TarInfo("x")
    header.type, header.size = kind, 2**33
    path = tmp_path / "bomb.tar.gz"
    path.write_bytes(gzip.compress(header.tobuf(tarfile.GNU_FORMAT) + bytes(2**21)))
    with pytest.raises(SourceError, match=f"a header claims {2**33} bytes"):
        list_members(str(path))


def test_damaged_archives_are_left_out(tmp_path: Path) -> None:
    whole = write_zip(tmp_path / "whole.zip", MEMBERS).read_bytes()
    (tmp_path / "cut.zip").write_bytes(whole[:-30])
    (tmp_path / "none.tar").write_bytes(BAD)
    tar = write_tar(tmp_path / "whole.tar", {**MEMBERS, "c.png": MEMBERS["a/1.png"]}).read_bytes()
    (tmp_path / "half.tar").write_bytes(tar[: tar.rindex(b"c.png") + 520])
    write_zip(tmp_path / "empty.zip", {"x.txt": b""})
    listing = list_inputs([str(tmp_path)], recursive=False, without=None)
    told = "\n".join(listing.left_out)
    assert [Path(place).name for place, _ in listing.archives] == ["half.tar", "whole.tar", "whole.zip"]
    assert (
        "cut.zip (its list of contents, which is at the end, is missing" in told
        and "none.tar" in told
        and "empty.zip: the archive holds no photos" in told
    )
    [(place, members), *_] = listing.archives
    reader = ArchiveReader()
    assert reader.read(place, members[0]) == MEMBERS["a/1.png"]
    with pytest.raises(SourceError, match=r"c\.png of .*cut short"):
        reader.read(place, members[-1])
    reader.close()


def test_each_input_once_with_a_name_of_its_own(tmp_path: Path) -> None:
    write_photos(tmp_path / "in", 2)
    write_photos(tmp_path / "in/sub", 2)
    (tmp_path / "in/clip.mp4").write_bytes(BAD)
    (tmp_path / "in/clip_000001.png").write_bytes(MEMBERS["a/1.png"])
    (tmp_path / "in/.hidden.png").write_bytes(b"")
    sources = [str(tmp_path / "in"), str(tmp_path / "in/0.png"), str(tmp_path / "in/*.png")]
    listing = list_inputs(sources, recursive=True, without=None)
    assert len(listing) == 6
    units = make_units(listing, [], SECOND, 4)
    assert [(unit.kind, len(unit.items)) for unit in units] == [
        (UnitKind.PHOTOS, 4), (UnitKind.PHOTOS, 1), (UnitKind.VIDEO, 1)
    ]  # fmt: skip
    names = [item.name for unit in units for item in unit.items]
    assert len(set(names)) == 6
    assert names[-1] != "clip", "its second frame would be called as the photo is"
    assert [Unit.from_json(unit.to_json()) for unit in units] == units
    assert len(list_inputs(sources[:1], recursive=False, without=None)) == 4


def test_what_comes_later_is_appended_and_the_output_is_no_input(tmp_path: Path) -> None:
    write_photos(tmp_path / "in", 2)
    write_photos(tmp_path / "in/out/images", 2)

    def listed() -> list[Unit]:
        listing = list_inputs([str(tmp_path / "in")], recursive=True, without=tmp_path / "in/out")
        return make_units(listing, before, SECOND, 10)

    before: list[Unit] = []
    before = listed()
    assert [item.name for unit in before for item in unit.items] == ["0", "1"]
    assert listed() == []
    (tmp_path / "in/new").mkdir()
    (tmp_path / "in/new/0.png").write_bytes(MEMBERS["a/1.png"])
    [unit] = listed()
    assert unit.number == 1 and unit.items[0].name not in ("0", "1")


def test_sources_that_are_not_there(tmp_path: Path) -> None:
    for source, kind in (("none", SourceError), ("none*.jpg", SourceError), ("http://host/x.jpg", UsageError),
                         ("s3://key:secret@bucket/x", UsageError)):  # fmt: skip
        with pytest.raises(kind) as raised:
            list_inputs([source], recursive=False, without=None)
        assert "secret" not in str(raised.value)
    assert is_remote("gs://bucket/x.jpg") and not is_remote(str(tmp_path))
    with pytest.raises(SourceError, match="cannot read"):
        read_bytes(str(tmp_path / "none"))


@pytest.mark.parametrize(
    ("text", "kind", "step"),
    [("1s", "s", 1), ("500ms", "s", 0.5), ("2m", "s", 120), ("10f", "f", 10), ("scene", "scene", 0)],
)
def test_every(text: str, kind: str, step: float) -> None:
    found = Sampling.parse(text)
    assert (found.kind, found.step) == (SamplingKind(kind), step)
    assert Sampling.parse(str(found)) == found


@pytest.mark.parametrize("text", ["", "1", "0s", "-1s", "0f", "1.5f", "often", "1e9s", "99999999h"])
def test_every_of_what_is_no_step(text: str) -> None:
    with pytest.raises(UsageError, match="--every"):
        Sampling.parse(text)


def test_frames_are_chosen_by_their_times_and_by_cuts() -> None:
    grey = np.full((36, 64, 3), 100, np.uint8)
    steps = Sampling.parse("1s").chooser()
    times = [0.0, 0.4, 0.9999995, 1.3, 3.2, 3.9, 4.0]
    assert [time for time in times if steps.takes(grey, time)] == [0.0, 0.9999995, 3.2, 4.0]
    nth = Sampling.parse("3f").chooser()
    assert [place for place in range(8) if nth.takes(grey, 0)] == [0, 3, 6]
    scenes = Sampling.parse("scene").chooser()
    red, green = photo("red"), photo("green")
    shown = [(grey, 0), (grey, 1), (red, 2), (red, 3), (green, 3.1), (green, 4)]
    assert [time for image, time in shown if scenes.takes(image, time)] == [0, 2]
    assert Sampling.parse("2s").estimate(100, 10) == 5 and Sampling.parse("scene").estimate(100, 10) is None


def test_a_photo_that_its_note_turns_is_written_turned() -> None:
    image = photo("red", "green")
    turned = encoded(image, 6)
    assert (orientation(turned), orientation(encoded(image)), orientation(b"")) == (6, 1, 1)
    picture = decode("x", "x.jpg", turned)
    assert picture.image.shape == (64, 48, 3) and picture.stored_as == ".png"
    again = decode("x", "x.png", picture.encoded())
    assert np.array_equal(again.image, picture.image) and not again.turned
    plain = decode("x", "x.png", encoded(image))
    assert plain.encoded() == plain.content
