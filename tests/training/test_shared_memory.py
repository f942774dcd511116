"""Shared memory that is too small, or read-only, is noticed before a process that reads photos would hang or die."""

from __future__ import annotations

from pathlib import Path

import pytest

from ovs_edge.training.photos import shared_memory
from ovs_edge.training.photos.shared_memory import usable_workers


def _free(monkeypatch: pytest.MonkeyPatch, mebibytes: int) -> None:
    class State:
        """As of os.statvfs."""

        f_bavail, f_frsize = mebibytes, 2**20

    monkeypatch.setattr(shared_memory.os, "statvfs", lambda folder: State)


def test_enough_shared_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _free(monkeypatch, 1024)
    assert usable_workers(2, 8, 320, tmp_path) == 2
    assert capsys.readouterr().err == ""
    assert list(tmp_path.iterdir()) == []


def test_too_little_shared_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _free(monkeypatch, 64)
    assert usable_workers(2, 8, 640, tmp_path) == 0
    said = capsys.readouterr().err
    assert "has 64 MiB free, 375 MiB are needed" in said
    assert said.count("\n") == 1


def test_shared_memory_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(dir: Path) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(shared_memory.tempfile, "TemporaryFile", refuse)
    assert usable_workers(4, 8, 320, tmp_path) == 0
    assert "cannot be written (Read-only file system)" in capsys.readouterr().err


def test_nothing_is_checked_without_processes_or_shared_memory(tmp_path: Path) -> None:
    assert usable_workers(0, 8, 320, tmp_path / "absent") == 0
    assert usable_workers(3, 8, 320, tmp_path / "absent") == 3
