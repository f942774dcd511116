"""A video file in place of a camera: played in a loop, which loses nothing, with `--camera` as with `--config`."""

from __future__ import annotations

import threading
from itertools import islice
from pathlib import Path

import pytest
from support.cameras import clip, until

from ovs_edge.bundle.errors import OvsError, SourceError
from ovs_edge.runtime.cameras.config import CameraConfig
from ovs_edge.runtime.cameras.opening import open_camera
from ovs_edge.runtime.capture.options import CaptureOptions
from ovs_edge.runtime.capture.registry import open_source
from ovs_edge.runtime.opencv import cv2
from ovs_edge.runtime.options import RunOptions
from ovs_edge.runtime.run import run
from ovs_edge.runtime.status import PLAYING

FRAMES = 5  # of the clip, 30 a second


@pytest.mark.parametrize("by", ["--camera", "--config"])
def test_a_clip_goes_on_at_its_end_at_its_own_rate(tmp_path: Path, by: str) -> None:
    path = clip(tmp_path)
    source = open_source(camera=str(path)) if by == "--camera" else open_camera(CameraConfig(str(path), "red"))
    try:
        assert (source.live, source.files, source.fps) == (True, (path,), 30)
        times = []
        for frame in islice(source, 3 * FRAMES):
            times.append(frame.time)
            assert source.state == PLAYING
        assert times[-1] - times[0] >= (3 * FRAMES - 2) / 30
    finally:
        source.close()


def test_a_run_of_a_clip_tells_of_no_loss(tiny_bundle: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "out.jsonl"
    options = RunOptions(
        classes="red", camera=(str(clip(tmp_path)),), model=tiny_bundle, json=str(output), max_frames=3 * FRAMES
    )
    assert run(options) == 0
    assert capfd.readouterr().err == ""
    assert output.read_text().count("\n") == 3 * FRAMES
    assert '"event"' not in output.read_text()


def test_a_clip_that_is_removed_is_lost_and_leaves_what_it_gave(tiny_bundle: Path, tmp_path: Path) -> None:
    path, output, video = clip(tmp_path), tmp_path / "out.jsonl", tmp_path / "out.mp4"
    options = RunOptions(
        "red", camera=(str(path),), reconnect=False, model=tiny_bundle, json=str(output), save=str(video)
    )

    def remove() -> None:
        until(lambda: output.exists() and output.read_text().count("\n") > FRAMES)
        path.unlink()

    removing = threading.Thread(target=remove)
    removing.start()
    with pytest.raises(SourceError, match=r"halves.avi stopped sending frames"):
        run(options)
    removing.join()
    capture = cv2.VideoCapture(str(video))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) >= output.read_text().count("\n") > FRAMES
    capture.release()


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        (
            "halves.avi",
            CaptureOptions(size=(320, 240)),
            "a clip has the size and rate it was made with; leave out --size",
        ),
        ("halves.avi", CaptureOptions(fps=3), "--fps and --recursive are for photos"),
        ("list.m3u8", CaptureOptions(), "is a playlist"),
        ("empty.avi", CaptureOptions(), "does not decode as a video: it is empty; copy it again"),
        ("note.avi", CaptureOptions(), "does not decode as a video; expected a video such as .mp4 or .avi"),
    ],
)
def test_what_cannot_be_played_is_one_line(tmp_path: Path, name: str, options: CaptureOptions, said: str) -> None:
    clip(tmp_path)
    (tmp_path / "list.m3u8").write_text("#EXTM3U\npart.ts\n")
    (tmp_path / "empty.avi").touch()
    (tmp_path / "note.avi").write_bytes(bytes(range(1, 200)))
    with pytest.raises(OvsError, match=said):
        open_source(camera=str(tmp_path / name), options=options)
