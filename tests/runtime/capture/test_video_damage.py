"""Damaged videos: no frame is lost without a word, and none that decodes; intact ones give no word."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import av
import numpy as np
import pytest
from support.clips import cut, write_clip
from support.ffmpeg import ffmpeg

from ovs_edge.bundle.errors import SourceError
from ovs_edge.runtime.capture.video_files.completeness import cut_short, lost_track_at
from ovs_edge.runtime.capture.video_files.losses import Losses
from ovs_edge.runtime.capture.video_files.video_source import VideoSource

PICTURES = ("-f", "lavfi", "-i", "testsrc2=s=160x120:r=10:d=4")
INTACT = {  # file -> how it is made
    "b_frames.mp4": ("-c:v", "libx264"),
    "open_gop.mkv": ("-c:v", "libx264", "-x264-params", "open-gop=1:keyint=8"),
    "alt_ref.webm": ("-c:v", "libvpx", "-auto-alt-ref", "1", "-lag-in-frames", "16", "-b:v", "300k"),
    "field.ts": ("-c:v", "mpeg2video", "-flags", "+ildct+ilme", "-bf", "2", "-r", "25"),
    "a.mpg": ("-c:v", "mpeg2video", "-bf", "2", "-r", "25"),
    "variable.mkv": ("-vf", "select='not(mod(n,7)*lt(n,20))'", "-fps_mode", "vfr", "-c:v", "libx264"),
    "repeated.avi": ("-vf", "select='not(mod(n,7)*lt(n,20))'", "-fps_mode", "vfr", "-c:v", "mjpeg"),
    "cut.mp4": ("-c:v", "libx264", "-g", "5", "-movflags", "frag_keyframe+empty_moov"),
    "a.gif": (),
    "a.y4m": ("-pix_fmt", "yuv420p"),
    "a.wmv": ("-c:v", "wmv2"),
    "a.flv": ("-c:v", "libx264"),
}


def made(path: Path) -> Path:
    """A clip of 4 s as `INTACT` says."""
    ffmpeg(*PICTURES, *INTACT[path.name], path)
    return path


def noise(path: Path, first: int, last: int) -> Path:
    """Replace what lies between two bytes."""
    data = bytearray(path.read_bytes())
    data[first:last] = np.random.default_rng(first).bytes(last - first)
    path.write_bytes(data)
    return path


def packets(path: Path) -> list[tuple[int, int]]:
    """Place and size of the frames in a file."""
    with av.open(str(path)) as container:
        return [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]


def decodable(path: Path) -> int:
    """Frames that come out where packet after packet is decoded."""
    count = 0
    with av.open(str(path)) as container:
        container.streams.video[0].thread_type = "NONE"
        for packet in container.demux(video=0):
            with suppress(av.error.FFmpegError):
                count += len(packet.decode())
    return count


def read(path: Path) -> tuple[int, VideoSource, list[str]]:
    told: list[str] = []
    source = VideoSource(path, told.append)
    return len(list(source)), source, told


@pytest.mark.parametrize("name", INTACT)
def test_no_word_about_an_intact_video(tmp_path: Path, name: str) -> None:
    path = made(tmp_path / name)
    had, source, told = read(path)
    assert (told, source.skipped, source.truncated) == ([], 0, None)
    assert had == decodable(path)


def test_no_word_about_two_recordings_in_one_file(tmp_path: Path) -> None:
    """Counters of MPEG-TS and the clock start again, and one pauses for 5 s."""
    part = write_clip(tmp_path / "part.ts", [*range(3), *range(8, 12)], codec="mpeg2video")
    (tmp_path / "both.ts").write_bytes(part.read_bytes() * 2)
    had, source, told = read(tmp_path / "both.ts")
    assert (had, told, source.truncated) == (14, [], None)


@pytest.mark.parametrize(("name", "codec"), [("a.avi", "mjpeg"), ("a.ts", "mpeg2video"), ("a.mkv", "libx264")])
def test_frames_that_are_not_there_are_counted(tmp_path: Path, name: str, codec: str) -> None:
    """The header of a frame is damaged, so that it cannot be found."""
    path = write_clip(tmp_path / name, [index / 10 for index in range(60)], codec)
    places = packets(path)
    noise(path, places[20][0] - 8, places[25][0])
    had, source, told = read(path)
    assert had < 60
    assert source.truncated is not None
    assert told == [source.truncated]
    assert "is damaged" in source.truncated
    missing = int(source.truncated.partition(" missing")[0].split()[-1])
    assert had + missing + source.skipped == 60


def test_a_track_that_ends_long_before_its_stated_end(tmp_path: Path) -> None:
    path = made(tmp_path / "alt_ref.webm")
    noise(path, packets(path)[1][0] - 8, path.stat().st_size)
    had, _, told = read(path)
    assert had == 1
    assert told == [f"{path} is damaged: 1 frame read, 39 missing"]


def test_frames_with_errors_are_told(tmp_path: Path) -> None:
    path = made(tmp_path / "b_frames.mp4")
    at, size = packets(path)[0]
    noise(path, at + size // 2, at + size)
    had, source, told = read(path)
    assert had == 40
    assert source.truncated == told[0]
    assert "40 of 40 frames read, 1 with errors" in told[0]


@pytest.mark.parametrize("name", ["a.gif", "a.y4m", "a.wmv", "a.flv"])
def test_files_without_an_index_that_are_cut_short(tmp_path: Path, name: str) -> None:
    path = made(tmp_path / name)
    assert cut_short(path) is None
    had, source, told = read(cut(path, 0.9))
    assert 0 < had < 40
    assert source.truncated == told[0]
    assert f"is cut short: {had} frames read, " in told[0]


def test_a_gif_without_a_trailer_is_whole(tmp_path: Path) -> None:
    path = made(tmp_path / "a.gif")
    path.write_bytes(path.read_bytes().rstrip(b";"))
    assert read(path)[2] == []


@pytest.mark.parametrize("share", [0.4, 0.55, 0.7, 0.85])
def test_all_that_decodes_before_a_break_is_read(tmp_path: Path, share: float) -> None:
    path = cut(made(tmp_path / "cut.mp4"), share)
    had, source, told = read(path)
    assert had == decodable(path)
    assert source.truncated == told[0]
    assert f"is cut short: {had} frames read" in told[0]


@pytest.mark.parametrize(("more", "says"), [(6, "skipped: 1 frame of"), (60, "1 with errors")])
def test_half_a_frame_at_the_end_is_told(tmp_path: Path, more: int, says: str) -> None:
    """MPEG-PS promises nothing. Of a picture that has a header only, the decoder makes nothing, without an error."""
    path = made(tmp_path / "a.mpg")
    data = path.read_bytes()
    path.write_bytes(data[: data.rindex(b"\0\0\1\0", 0, len(data) // 2) + more])
    had, source, told = read(path)
    assert had == decodable(path)
    assert had + source.skipped == len(packets(path))
    assert len(told) == 1
    assert says in told[0]


def test_damage_between_the_boxes_of_an_mp4(tmp_path: Path) -> None:
    path = made(tmp_path / "cut.mp4")
    at = path.read_bytes().index(b"moof", path.stat().st_size // 2)
    path.write_bytes(path.read_bytes()[: at - 4] + b"\x91\x3b\xf0\x00what" + path.read_bytes()[at + 4 :])
    had, source, told = read(path)
    assert had == decodable(path)
    assert lost_track_at(path) == at - 4
    assert cut_short(path) is None
    assert source.truncated == told[0]
    assert f"is damaged: {had} frames read, what follows byte {at - 4:,} is no part of a video" in told[0]


@pytest.mark.parametrize("name", ["open_gop.mkv", "alt_ref.webm", "a.flv"])
def test_a_video_without_a_whole_frame(tmp_path: Path, name: str) -> None:
    path = made(tmp_path / name)
    at, size = packets(path)[0]
    path.write_bytes(path.read_bytes()[: at + size // 2])
    with pytest.raises(
        SourceError, match="is cut short before its first frame ends: .* bytes are there; copy it again"
    ):
        VideoSource(path)


@pytest.mark.parametrize(
    ("times", "fault_after", "missing"),
    [
        ([0, 1, 2, 3, 7, 8, 9, 10, 11, 12], None, 0),  # a pause
        ([0, 1, 2, 3, 7, 8, 9, 10, 11, 12], 2, 3),  # the fault lies before the gap, and is met a little earlier
        ([0, 1, 2, 3, 7, 8, 9, 10, 11, 12], 5, 3),  # or with the frame behind it
        ([0, 1, 2, 3, 7, 8, 9, 10, 11, 12], 8, 0),  # elsewhere
        ([0, 1, 3, 4, 7, 8, 11, 12, 13, 14], 2, 0),  # a variable rate
        ([0, 1, 2, 3, 70, 71, 72, 73, 74, 75], 4, 0),  # another recording
    ],
)
def test_gaps_beside_a_fault(times: list[int], fault_after: int | None, missing: int) -> None:
    losses = Losses(fps=2)
    for index, time in enumerate(times):
        if fault_after == index:
            losses.fault()
        losses.frame(time / 2, 0.0, corrupt=False)
    assert (losses.missing, losses.damaged) == (missing, 0)
