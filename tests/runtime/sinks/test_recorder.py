"""Recording on demand."""

from __future__ import annotations

import shutil
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
from support.sink_parts import duration, played

from ovs_edge.bundle.errors import SinkError
from ovs_edge.runtime.frame import Frame
from ovs_edge.runtime.inference.prediction import Prediction
from ovs_edge.runtime.sinks.video_files.pyav_encoder import PyavEncoder
from ovs_edge.runtime.sinks.video_files.recorder import Recorder
from ovs_edge.runtime.status import Status

PICTURE = np.full((48, 64, 3), 90, np.uint8)
PREDICTION = Prediction(np.zeros((48, 64), np.int32), np.ones((48, 64), np.float32), ("red",))


def write(recorder: Recorder, *times: float) -> None:
    for index, time in enumerate(times):
        recorder.write(Frame(PICTURE, index, time, "frame"), PREDICTION, PICTURE, Status(fps=10.0))


def test_it_plays_at_the_speed_at_which_it_was_seen(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "new" / "folder")
    write(recorder, 4.8, 4.9)  # not recording yet
    recorder.start()
    recorder.start()
    assert recorder.seconds is not None
    write(recorder, 5.0, 5.01, 5.02, 5.1, 5.5, 5.6)  # too fast, in time, a gap, in time
    name = recorder.stop()
    assert name is not None
    assert recorder.seconds is None
    write(recorder, 5.7)
    assert [time for time, _ in played(recorder.made[name])] == pytest.approx([0, 0.01, 0.02, 0.1, 0.5, 0.6], abs=1e-3)
    assert duration(recorder.made[name]) == pytest.approx(0.7, abs=0.01)
    # A camera that was lost for an hour does not fill the disk.
    recorder.start()
    write(recorder, 0.0, 3600.0, 3600.1)
    second = recorder.stop()
    assert second is not None
    assert second != name
    assert duration(recorder.made[second]) < 2.5


def test_what_is_under_way_is_completed_at_the_end(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path)
    recorder.start()
    assert recorder.stop() is None  # nothing came
    recorder.start()
    write(recorder, 0.0, 0.1)
    recorder.close()
    recorder.close()
    assert [path.name for path in tmp_path.iterdir()] == list(recorder.made)


def test_a_folder_that_is_deleted_ends_the_recording_and_not_the_stream(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "recordings")
    recorder.start()
    write(recorder, 0.0, 0.1)
    shutil.rmtree(tmp_path / "recordings")
    write(recorder, 0.2, 0.3)
    assert recorder.seconds is None
    assert recorder.error is not None
    assert "No such file" in recorder.error
    recorder.start()  # the next one makes the folder anew
    write(recorder, 0.4, 0.5)
    name = recorder.stop()
    assert name is not None
    assert recorder.error is None
    assert recorder.made[name].is_file()


def test_a_recording_that_fails_ends_and_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    recorder = Recorder(tmp_path / "file")
    recorder.start()
    write(recorder, 0.0, 0.1)  # the stream goes on
    assert recorder.seconds is None
    assert recorder.error is not None
    assert "cannot write" in recorder.error
    usage = namedtuple("usage", "free")
    full = Recorder(tmp_path / "full")
    full.start()
    write(full, 0.0, 0.1)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage(1000))
    write(full, 0.2)
    assert full.error is not None
    assert "MiB left" in full.error
    assert full.stop() is None
    (kept,) = full.made.values()  # what there was is completed
    assert kept.parent == tmp_path / "full"
    assert len(played(kept)) == 2
    monkeypatch.undo()
    full.start()
    assert full.error is None
    write(full, 0.0)

    def refuse(self: PyavEncoder) -> None:
        self._free()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(PyavEncoder, "close", refuse)
    with pytest.raises(SinkError, match="No space left"):
        full.stop()
    assert full.error is not None
    assert "No space left" in full.error


def test_two_programs_record_in_one_folder_in_one_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.strftime", lambda form: "2026-01-01_00-00-00")
    recorders = [Recorder(tmp_path) for _ in range(3)]
    for recorder in recorders:
        recorder.start()
        write(recorder, 0.0, 0.1)
    names = [recorder.stop() for recorder in recorders]
    assert names == [f"2026-01-01_00-00-00{number}.mp4" for number in ("", "_2", "_3")]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(map(str, names))
