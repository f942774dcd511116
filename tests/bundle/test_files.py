"""The user's cache folder."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from ovs_edge.bundle.files import _private_folder, cache_folder


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder("x") == tmp_path / "ovs-edge" / "x"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_folder("x") == tmp_path / "home" / ".cache" / "ovs-edge" / "x"


def test_a_user_without_a_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr("os.path.expanduser", lambda path: path)  # what Python does without HOME and a passwd entry
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    _private_folder.cache_clear()
    assert cache_folder("x") == tmp_path / f"ovs-edge-{os.getuid()}" / "x"
    (tmp_path / f"ovs-edge-{os.getuid()}").chmod(0o777)  # others could put an engine there
    _private_folder.cache_clear()
    other = cache_folder("x").parent
    assert other.parent == tmp_path and other.name != f"ovs-edge-{os.getuid()}" and other.stat().st_mode & 0o077 == 0
    _private_folder.cache_clear()
