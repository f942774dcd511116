"""What an output may replace."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from support.sink_parts import Clip, feed, writable

from ovs_edge.bundle.errors import SinkError, UsageError
from ovs_edge.runtime.sinks.folder import FolderSink
from ovs_edge.runtime.sinks.json_lines import JsonSink
from ovs_edge.runtime.sinks.output_files import free_path, is_ours
from ovs_edge.runtime.sinks.picture import PictureSink
from ovs_edge.runtime.sinks.registry import open_json_sink, open_sink
from ovs_edge.runtime.sinks.sink import Sink, SinkRequest
from ovs_edge.runtime.sinks.video_files.video_sink import VideoSink


class OfFiles(Clip):
    """A source that reads `files`."""

    total = 1

    def __init__(self, *files: Path) -> None:
        self.files = files


def test_no_output_replaces_an_input(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    photo, clip, names = photos / "a.png", tmp_path / "clip.mp4", tmp_path / "names.txt"
    for path in (photo, clip, names):
        path.write_bytes(b"mine")
    (tmp_path / "link.png").symlink_to(photo)
    os.link(photo, tmp_path / "hard.png")
    (tmp_path / "folder link").symlink_to(photos)
    for target in (photo, tmp_path / "link.png", tmp_path / "hard.png", photos, tmp_path / "folder link",
                   tmp_path / "photos" / ".." / "photos" / "a.png", clip):  # fmt: skip
        with pytest.raises(UsageError, match=r"--save .* the input .*another name"):
            open_sink(SinkRequest(str(target), OfFiles(photo, clip), overwrite=True))
    for target in (photo, clip, names, tmp_path / "link.png"):
        with pytest.raises(UsageError, match=r"--json .* the input"):
            open_json_sink(SinkRequest(str(target), OfFiles(photo, clip), overwrite=True), [names])
    assert all(path.read_bytes() == b"mine" for path in (photo, clip, names))
    open_sink(SinkRequest(str(photos / "out"), OfFiles(photo))).close()  # a folder in it is its own


def _made(kind: str, folder: Path) -> Path:
    """An output of this program."""
    path = folder / kind
    sink: Sink
    if kind.endswith("jsonl"):
        sink = JsonSink(str(path))
    elif kind.endswith((".mp4", ".avi", ".mkv", ".mov")):
        sink = VideoSink(path, 10)
    else:
        sink = PictureSink(path)
    feed(sink, 0)
    feed(sink, 1)
    sink.finish()
    return path


@pytest.mark.parametrize(
    "suffix", [".jsonl", ".png", ".jpg", ".webp", ".tif", writable(".avif"), ".mp4", ".mkv", ".avi"]
)
def test_outputs_of_an_earlier_run_are_replaced_and_nothing_else(tmp_path: Path, suffix: str) -> None:
    path = _made(f"a{suffix}", tmp_path)
    assert is_ours(path)
    open_sink(SinkRequest(str(path), OfFiles())).close()
    path.write_bytes(b"somebody else's")
    assert not is_ours(path)
    with pytest.raises(UsageError, match="did not write it; add --overwrite"):
        open_sink(SinkRequest(str(path), OfFiles()))
    assert path.read_bytes() == b"somebody else's"
    open_sink(SinkRequest(str(path), OfFiles(), overwrite=True)).close()
    path.write_bytes(b"")
    open_sink(SinkRequest(str(path), OfFiles())).close()


@pytest.mark.parametrize("head", [{}, {"camera": "c" * 64}])
def test_json_lines_are_known_however_long_the_first_one_is(tmp_path: Path, head: dict[str, str]) -> None:
    path = tmp_path / "a.jsonl"
    line = {**head, "index": 0, "time": 0.0, "name": "live_000000", "classes": ["x" * 100_000]}
    path.write_text(json.dumps(line) + "\n")
    assert is_ours(path)


def test_video_by_opencv_is_known_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ovs_edge.runtime.sinks.video_files.encoders.pyav", lambda: None)
    for kind in ("a.mp4", "a.mkv", "a.mov"):
        assert is_ours(_made(kind, tmp_path))


def test_folders(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    for _ in range(2):  # empty, then with what an earlier run wrote
        sink = open_sink(SinkRequest(str(out), Clip()))
        feed(sink, 3)
        sink.finish()
    (out / "mine.txt").write_text("kept")
    (out / "clip_000004.jpg").write_text("mine")
    sink = open_sink(SinkRequest(str(out), Clip()))
    with pytest.raises(SinkError, match="did not write it; add --overwrite"):
        feed(sink, 4)
    sink.close()
    assert (out / "clip_000004.jpg").read_text() == "mine"
    sink = FolderSink(out, "jpg", overwrite=True)
    feed(sink, 4)
    sink.finish()
    assert is_ours(out / "clip_000004.jpg")
    assert (out / "mine.txt").read_text() == "kept"
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "mine.jpg").write_text("mine")
    with pytest.raises(UsageError, match="is a folder with files that this program did not write"):
        open_sink(SinkRequest(str(foreign), Clip()))
    open_sink(SinkRequest(str(foreign), Clip(), overwrite=True)).close()
    assert os.listdir(foreign) == ["mine.jpg"]


def test_a_free_name(tmp_path: Path) -> None:
    assert free_path(tmp_path / "a.png") == tmp_path / "a.png"
    (tmp_path / "a.png").touch()
    (tmp_path / "a_2.png").symlink_to("nowhere")
    assert free_path(tmp_path / "a.png") == tmp_path / "a_3.png"
