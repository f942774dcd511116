"""Pipes where files are expected: refused at once, or waited for with a note; nothing hangs without a word."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support.clips import write_clip
from support.sink_parts import Clip, feed

from ovs_edge.bundle import files
from ovs_edge.bundle.errors import CheckpointError, UsageError
from ovs_edge.runtime.cameras.config import read_config
from ovs_edge.runtime.capture.registry import open_source
from ovs_edge.runtime.events.config import read_toml
from ovs_edge.runtime.events.delivery.json_lines import JsonLinesReceiver
from ovs_edge.runtime.events.delivery.options import JsonLinesOptions
from ovs_edge.runtime.examples import class_archive
from ovs_edge.runtime.sinks.json_lines import JsonSink
from ovs_edge.runtime.sinks.registry import open_mask_sink, open_sink
from ovs_edge.runtime.sinks.sink import SinkRequest
from ovs_edge.runtime.vocabulary.live import read_presets
from ovs_edge.segmenter.weights.files import read_weights

READERS: dict[str, Callable[[Path], object]] = {
    "zones": read_toml,
    "cameras": read_config,
    "presets": lambda path: read_presets([f"@{path}"]),
    "saved classes": lambda path: class_archive.load(path, "", 8),
    "events": lambda path: JsonLinesReceiver(JsonLinesOptions(str(path))),
    "checkpoint": read_weights,
    "--save": lambda path: open_sink(SinkRequest(str(path), Clip(), overwrite=True)),
    "--save-masks": lambda path: open_mask_sink(SinkRequest(str(path), Clip())),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("name", ["pipe", "pipe.mp4", "pipe.npz"])
def test_a_pipe_nobody_serves_is_refused(reader: str, name: str, tmp_path: Path) -> None:
    os.mkfifo(pipe := tmp_path / name)
    with pytest.raises((UsageError, CheckpointError), match="is a pipe, expected a file"):
        READERS[reader](pipe)
    assert pipe.is_fifo()


def test_process_substitution_is_read() -> None:
    reading, writing = os.pipe()
    os.write(writing, b"[zones.door]\npoints = []\n")
    os.close(writing)
    assert read_toml(Path(f"/dev/fd/{reading}")) == {"zones": {"door": {"points": []}}}
    os.close(reading)


def test_a_video_through_a_pipe_is_waited_for_with_a_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(files, "_QUIET", 0.05)
    os.mkfifo(pipe := tmp_path / "pipe.mkv")
    clip = write_clip(tmp_path / "clip.mkv").read_bytes()

    def write() -> None:
        time.sleep(0.4)
        pipe.write_bytes(clip)

    writer = threading.Thread(target=write)
    writer.start()
    source = open_source(str(pipe))
    assert len(list(source)) == 20
    source.close()
    writer.join()
    assert "waiting for a program that writes to the pipe" in capsys.readouterr().err


def test_json_lines_wait_for_a_reader_with_a_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(files, "_QUIET", 0.05)
    os.mkfifo(pipe := tmp_path / "pipe")
    got: list[str] = []

    def read() -> None:
        time.sleep(0.4)
        got.append(pipe.read_text())

    reader = threading.Thread(target=read)
    reader.start()
    sink = JsonSink(str(pipe))
    feed(sink, 0)
    sink.finish()
    reader.join()
    assert got[0].startswith('{"index": 0')
    assert "waiting for a program that reads the pipe" in capsys.readouterr().err
