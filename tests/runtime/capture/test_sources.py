"""Photos, folders, clips, cameras, the demo."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from ovs_edge.bundle.errors import MissingExtraError, SourceError, UsageError
from ovs_edge.runtime.capture.demo import FRAMES_EACH, PHOTOS, SIZE, DemoSource, photo_folder
from ovs_edge.runtime.capture.options import CaptureOptions
from ovs_edge.runtime.capture.photo_source import PhotoSource, find_photos
from ovs_edge.runtime.capture.photos import read_photo
from ovs_edge.runtime.capture.registry import open_source
from ovs_edge.runtime.capture.video_files.video_source import VideoSource
from ovs_edge.runtime.frame import Frame
from ovs_edge.runtime.inference.preprocess import to_frame, to_input
from ovs_edge.runtime.opencv import cv2


def write_clip(path: Path, frames: int = 12, size: tuple[int, int] = (48, 64), fps: float = 10.0) -> Path:
    """A clip whose frame n has brightness 20 * n."""
    codec = "MJPG" if path.suffix == ".avi" else "mp4v"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), fps, (size[1], size[0]))
    for index in range(frames):
        writer.write(np.full((*size, 3), 20 * index % 250, np.uint8))
    writer.release()
    return path


@pytest.mark.parametrize(
    ("image", "suffix"),
    [
        (np.full((5, 7), 90, np.uint8), ".png"),
        (np.full((5, 7, 3), 90, np.uint8), ".png"),
        (np.full((5, 7, 4), 90, np.uint8), ".png"),
        (np.full((5, 7), 90 * 257, np.uint16), ".png"),
        (np.full((5, 7, 3), 90 * 257, np.uint16), ".tiff"),
        (np.full((1, 1), 90, np.uint8), ".bmp"),
    ],
)
def test_any_kind_of_picture_becomes_8_bit_bgr(tmp_path: Path, image: np.ndarray, suffix: str) -> None:
    path = tmp_path / f"photo{suffix}"
    path.write_bytes(cv2.imencode(suffix, image)[1].tobytes())
    decoded = read_photo(path)
    assert decoded.dtype == np.uint8
    assert decoded.shape == (*image.shape[:2], 3)
    assert abs(int(decoded[0, 0, 0]) - 90) <= 1


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize("kept", [0.0, 0.3, 0.7, 0.99])
def test_a_picture_cut_short_is_refused(tmp_path: Path, suffix: str, kept: float) -> None:
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    data = cv2.imencode(suffix, image)[1].tobytes()
    path = tmp_path / f"photo{suffix}"
    path.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(SourceError, match=r"cut short|does not decode"):
        read_photo(path)


def test_a_jpeg_with_data_after_its_end_is_whole(tmp_path: Path) -> None:
    data = cv2.imencode(".jpg", np.zeros((8, 8, 3), np.uint8))[1].tobytes()
    (tmp_path / "a.jpg").write_bytes(data + b"maker notes" * 10)
    assert read_photo(tmp_path / "a.jpg").shape == (8, 8, 3)


def test_a_folder_in_the_order_of_names(tmp_path: Path) -> None:
    for name, level in (("b.png", 20), ("a.jpg", 10), ("a.png", 15)):
        cv2.imwrite(str(tmp_path / name), np.full((4, 4, 3), level, np.uint8))
    (tmp_path / "notes.txt").write_text("no photo")
    source = PhotoSource(find_photos(str(tmp_path)))
    frames = list(source)
    assert source.total == 3
    assert [frame.name for frame in frames] == ["a_jpg", "a_png", "b"]
    assert [frame.index for frame in frames] == [0, 1, 2]
    assert [int(frame.image.mean()) for frame in frames] == [10, 15, 20]


@pytest.mark.parametrize("suffix", [".avi", ".mp4"])
def test_a_clip_frame_by_frame(tmp_path: Path, suffix: str) -> None:
    source = VideoSource(write_clip(tmp_path / f"clip{suffix}"))
    frames = list(source)
    source.close()
    source.close()
    assert (source.total, source.fps, source.live) == (12, 10.0, False)
    assert [round(frame.image.mean() / 20) for frame in frames] == list(range(12))
    assert frames[5].time == 0.5
    assert frames[5].name == "clip_000005"


def test_a_glob_of_photos(tmp_path: Path) -> None:
    for name in ("shot1.png", "shot2.png", "other.png", "shot3.txt"):
        cv2.imwrite(str(tmp_path / name), np.zeros((4, 4, 3), np.uint8)) if name.endswith("png") else (
            tmp_path / name
        ).write_text("no photo")
    source = open_source(f"{tmp_path}/shot*", None)
    assert [frame.name for frame in source] == ["shot1", "shot2"]
    assert source.total == 2
    (tmp_path / "odd[1].png").write_bytes((tmp_path / "shot1.png").read_bytes())  # a name, not a pattern
    assert [frame.name for frame in open_source(f"{tmp_path}/odd[1].png", None)] == ["odd[1]"]
    for pattern, says in (("shot*.txt", "no photo among them"), ("*.jpeg", "cannot read")):
        with pytest.raises(SourceError, match=says):
            open_source(f"{tmp_path}/{pattern}", None)


def test_a_clip_through_a_named_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.avi")
    data = write_clip(tmp_path / "clip.avi").read_bytes()
    writer = threading.Thread(target=lambda: (tmp_path / "pipe.avi").write_bytes(data), daemon=True)
    writer.start()
    source = open_source(str(tmp_path / "pipe.avi"), None)
    assert [round(frame.image.mean() / 20) for frame in source] == list(range(12))
    source.close()
    writer.join(10)
    assert not writer.is_alive()


def test_a_clip_on_standard_input(tmp_path: Path) -> None:
    code = "from ovs_edge.runtime.capture.registry import open_source; print(len(list(open_source('-', None))))"
    with write_clip(tmp_path / "clip.avi").open("rb") as clip:
        ran = subprocess.run([sys.executable, "-c", code], stdin=clip, capture_output=True, text=True, check=True)
    assert ran.stdout == "12\n"
    with write_clip(tmp_path / "clip.mp4").open("rb") as clip:  # its index is at the end
        failed = subprocess.run([sys.executable, "-c", code], stdin=clip, capture_output=True, text=True, check=False)
    assert "MPEG-TS" in failed.stderr or failed.stdout == "12\n"


def test_the_demo_pans_over_real_photos() -> None:
    frames = list(DemoSource())
    assert len(frames) == FRAMES_EACH * len(PHOTOS) == DemoSource.total
    assert all(frame.image.shape == (*SIZE, 3) for frame in frames)
    assert len({frame.name for frame in frames}) == len(frames)
    first, last = frames[0].image.astype(int), frames[FRAMES_EACH - 1].image.astype(int)
    assert np.abs(first - last).mean() > 5
    np.testing.assert_array_equal(frames[7].image, list(DemoSource())[7].image)
    assert (photo_folder() / PHOTOS[0]).is_file()


def test_a_missing_demo_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"ovs-edge\[demo\]"):
        DemoSource()


def test_both_or_neither_is_refused() -> None:
    with pytest.raises(UsageError, match="neither"):
        open_source(None, None)
    with pytest.raises(UsageError, match="both"):
        open_source("a.jpg", "0")


@pytest.mark.parametrize("name", ["", "no/such.jpg", "x" * 5000, "nul\0.jpg"])
def test_a_source_that_is_not_there(name: str) -> None:
    with pytest.raises(SourceError):
        open_source(name, None)


def test_what_does_not_decode(tmp_path: Path) -> None:
    for name in ("text.mp4", "text.jpg", "text", "empty.mp4", "frame1.mp4"):
        (tmp_path / name).write_text("" if name.startswith("empty") else "This is no video.\n" * 50)
        with pytest.raises(SourceError, match="does not decode"):
            open_source(str(tmp_path / name), None)
    (tmp_path / "folder").mkdir()
    with pytest.raises(SourceError, match="holds no photos"):
        open_source(str(tmp_path / "folder"), None)


@pytest.mark.parametrize("device", ["97", "/dev/video97", "", "-1", "²", "9" * 30, "x" * 5000, "nul\0"])
def test_an_unreadable_camera(device: str) -> None:
    with pytest.raises(SourceError, match="Devices here"):
        open_source(None, device)


def test_a_frame_checks_its_image() -> None:
    with pytest.raises(ValueError, match="BGR"):
        Frame(np.zeros((4, 4), np.uint8), 0, 0.0, "grey")


@pytest.mark.parametrize("shape", [(1, 1), (30, 4000), (300, 200), (48, 64)])
def test_input_and_back(shape: tuple[int, int]) -> None:
    """A picture whose left half is white, through the network's input and back, has the same half."""
    image = np.zeros((*shape, 3), np.uint8)
    image[:, : shape[1] // 2] = 255
    tensor, letterbox = to_input(image, (48, 64))
    assert tensor.shape == (1, 48, 64, 3)
    assert tensor.dtype == np.uint8
    labels = (tensor[0, ..., 0] > 127).astype(np.int32)
    back, confidence = to_frame(labels, labels.astype(np.float32), letterbox)
    assert back.shape == confidence.shape == shape
    tolerance = -(-shape[1] // letterbox.scaled[1])
    assert abs(int(back[shape[0] // 2].sum()) - shape[1] // 2) <= tolerance


def test_recordings_have_no_camera_options() -> None:
    with pytest.raises(UsageError, match="for cameras and streams"):
        open_source("demo", None, CaptureOptions(flip="both"))


def test_garbage_is_refused_or_lost_not_a_crash(tmp_path: Path) -> None:
    """Random bytes for a stream, and a stream that turns into random bytes."""
    rng = np.random.default_rng(0)
    whole = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(whole), cv2.VideoWriter_fourcc(*"MJPG"), 12, (64, 48))
    for _ in range(20):
        writer.write(rng.integers(0, 256, (48, 64, 3), np.uint8))
    writer.release()
    data = whole.read_bytes()
    (tmp_path / "broken.avi").write_bytes(data[: len(data) // 2] + rng.bytes(len(data) // 2))
    (tmp_path / "noise.avi").write_bytes(rng.bytes(50_000))
    assert 1 <= len(list(VideoSource(tmp_path / "broken.avi"))) <= 20
    with pytest.raises(SourceError, match="does not decode"):
        VideoSource(tmp_path / "noise.avi")
    with pytest.raises(SourceError, match="does not decode as a video"):
        open_source(None, str(tmp_path / "noise.avi"))
