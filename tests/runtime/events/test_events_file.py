"""Files that events cannot be written to are refused at the start, and nothing is made."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ovs_edge.bundle.errors import UsageError
from ovs_edge.runtime.events.delivery.json_lines import JsonLinesReceiver
from ovs_edge.runtime.events.delivery.options import JsonLinesOptions
from ovs_edge.runtime.events.delivery.probe import lines_problem


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("e" * 300, r"events cannot be written to .*eee \(File name too long\); choose another file"),
        ("nowhere/events.jsonl", "there is no folder .*nowhere; make it"),
        ("file/events.jsonl", "there is no folder .*file; make it"),
        ("loop", r"\(Too many levels of symbolic links\); choose another file"),
        ("link", r"written to .*link: there is no folder .*away; make it, or give another file"),
        ("nul\0", r"\(embedded null byte\); choose another file|path is empty"),
    ],
)
def test_a_name_that_cannot_be_written_is_refused(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "link").symlink_to("away/events.jsonl")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(UsageError, match=said):
        JsonLinesReceiver(JsonLinesOptions(str(tmp_path / name)))
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write in every folder")
def test_a_folder_that_this_user_may_not_write_in_is_refused(tmp_path: Path) -> None:
    (folder := tmp_path / "closed").mkdir(mode=0o500)
    with pytest.raises(UsageError, match="events.jsonl; let this user write in .*closed"):
        JsonLinesReceiver(JsonLinesOptions(str(folder / "events.jsonl")))
    (path := tmp_path / "events.jsonl").touch(mode=0o400)
    with pytest.raises(UsageError, match="let this user write it, or give another file"):
        JsonLinesReceiver(JsonLinesOptions(str(path)))


def test_a_new_file_and_a_link_to_one_are_taken_and_not_made_before_an_event(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("new.jsonl")
    for name in ("new.jsonl", "link"):
        assert lines_problem(JsonLinesOptions(str(tmp_path / name))) is None
    assert not (tmp_path / "new.jsonl").exists()
