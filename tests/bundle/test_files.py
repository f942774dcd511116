"""The user's cache folder, and files that may be no files."""

from __future__ import annotations

import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ovs_edge.benchmarks.cli import main as bench
from ovs_edge.bundle import files as bundle_files
from ovs_edge.bundle.class_files import read_class_entries
from ovs_edge.bundle.errors import DatasetError, SourceError, UsageError
from ovs_edge.bundle.files import (
    _private_folder,
    cache_folder,
    is_named_pipe,
    read_bounded,
    refuse_address,
    refuse_other_file,
    refuse_pipe,
    replacing_folder,
    told_while_waiting,
)
from ovs_edge.data import images
from ovs_edge.data.cli import main as data
from ovs_edge.data.images import read_upright
from ovs_edge.data.names.synonyms import main as synonyms
from ovs_edge.label.inputs import places
from ovs_edge.label.inputs.places import read_bytes
from ovs_edge.runtime.capture import photos
from ovs_edge.runtime.capture.photos import read_photo
from ovs_edge.runtime.examples import class_archive
from ovs_edge.runtime.examples.class_archive import load


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


def test_a_pipe_is_told_from_files_and_from_process_substitution(tmp_path: Path) -> None:
    os.mkfifo(pipe := tmp_path / "pipe")
    reading, writing = os.pipe()
    assert is_named_pipe(pipe)
    assert not any(map(is_named_pipe, (tmp_path, tmp_path / "none", f"/dev/fd/{reading}", "a\0b")))
    os.close(reading)
    os.close(writing)
    with pytest.raises(UsageError, match=r"^--zones: '.*pipe' is a pipe, expected a file"):
        refuse_pipe(pipe, "--zones")
    refuse_pipe(tmp_path / "none", "--zones")


def test_who_waits_for_a_pipe_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bundle_files, "_QUIET", 0.05)
    os.mkfifo(pipe := tmp_path / "pipe")

    def write() -> None:
        time.sleep(0.5)
        pipe.write_text("cat\ndog\n")

    writer = threading.Thread(target=write)
    writer.start()
    assert read_class_entries(pipe) == ["cat", "dog"]
    writer.join()
    told = capsys.readouterr().err
    assert told.count("waiting for a program that writes to the pipe") == 1
    with told_while_waiting(tmp_path, "writes to"):
        time.sleep(0.2)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("kind", ["device", "pipe", "file"])
def test_no_more_is_read_than_a_file_may_have(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "file"
    if kind == "device":
        path = Path("/dev/zero")
    elif kind == "pipe":
        reading, writing = os.pipe()
        os.write(writing, b"12345678")
        path = Path(f"/dev/fd/{reading}")
    else:
        path.write_bytes(b"12345678")
        assert read_bounded(path, 8) == b"12345678"
    with pytest.raises(OSError, match="more than 4 bytes"):
        read_bounded(path, 4)


@pytest.mark.parametrize(
    ("read", "error"),
    [
        (lambda path: read_photo(path), SourceError),
        (lambda path: load(path, "identity", 8), UsageError),
        (lambda path: read_upright(path), DatasetError),
        (lambda path: read_bytes(str(path)), SourceError),
    ],
    ids=["photo", "saved classes", "labelled photo", "photo to label"],
)
def test_a_device_is_not_read_for_ever(
    read: Callable[[Path], object], error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (photos, class_archive, images, places):
        monkeypatch.setattr(module, "_MOST_BYTES" if module is class_archive else "MOST_BYTES", 2**20)
    with pytest.raises(error, match="larger than 1 MiB|it is a pipe, a device"):
        read(Path("/dev/zero"))


@pytest.mark.parametrize("output", ["s3://bucket/x", "s3:/bucket/x", "https://u:S3cret@host/x.json", "gs://b"])
def test_an_address_is_no_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"-o is .*expected a file or folder of this machine") as refused:
        refuse_address(output, "-o")
    assert "S3cret" not in str(refused.value)
    with pytest.raises(UsageError, match="of this machine"), replacing_folder(Path(output), "m", "thing"):
        pass
    assert list(tmp_path.iterdir()) == []
    refuse_address("2026-11-26T10:00:00/x", "-o")


@pytest.mark.parametrize("content", [b"", b'{"mine": 1}', b"photo"])
def test_only_results_of_the_same_command_are_replaced(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "result.json"
    refuse_other_file(path, b'"mine": ')
    path.write_bytes(content)
    if content == b"photo":
        with pytest.raises(UsageError, match="exists and is no result of this command"):
            refuse_other_file(path, b'"mine": ')
    else:
        refuse_other_file(path, b'"mine": ')


@pytest.mark.parametrize(
    ("main", "words"),
    [
        (bench, ["ovs-bench", "accuracy", "--data", "x", "-o"]),
        (data, ["ovs-data", "preview", "x", "-o"]),
        (synonyms, ["ovs-synonyms", "-o"]),
    ],
    ids=lambda value: value[1] if isinstance(value, list) else "",
)
def test_a_photo_is_not_replaced_by_a_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], main: Callable[[], None],
    words: list[str],
) -> None:  # fmt: skip
    (tmp_path / "mine.jpg").write_bytes(b"photo")
    monkeypatch.setattr(sys, "argv", [*words, str(tmp_path / "mine.jpg")])
    with pytest.raises(SystemExit) as ended:
        main()
    assert (ended.value.code, "is no result of this command" in capsys.readouterr().err) == (2, True)
    assert (tmp_path / "mine.jpg").read_bytes() == b"photo"
