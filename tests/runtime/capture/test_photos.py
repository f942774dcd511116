"""Photos: what is whole, what is skipped, names, 16 bits, and photos at web addresses."""

from __future__ import annotations

import http.server
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovs_edge.bundle.errors import SourceError, UsageError
from ovs_edge.runtime.capture.names import safe_name, unique_names
from ovs_edge.runtime.capture.options import CaptureOptions
from ovs_edge.runtime.capture.photos import decode_photo, read_photo
from ovs_edge.runtime.capture.registry import open_source
from ovs_edge.runtime.opencv import cv2
from ovs_edge.runtime.status import PLAYING

PICTURE = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)


def encoded(suffix: str, image: np.ndarray = PICTURE) -> bytes:
    return bytes(cv2.imencode(suffix, image)[1])


@pytest.mark.parametrize("seed", range(8))
def test_what_stands_after_a_photo_does_not_cut_it_short(seed: int) -> None:
    """Phones append a clip (motion photos) or a second picture, cameras their notes: any bytes, marks among them."""
    after = np.random.default_rng(seed).bytes(200_000)
    for data in (encoded(".jpg"), encoded(".png")):
        assert decode_photo(data + after, "a").shape == (40, 60, 3)
    assert decode_photo(encoded(".jpg") + encoded(".jpg")[:100], "a").shape == (40, 60, 3)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".bmp"])
def test_every_cut_is_noticed(suffix: str) -> None:
    data = encoded(suffix)
    for kept in (*range(1, 60), *range(60, len(data) - 12, 211)):
        with pytest.raises(SourceError, match=r"cut short|does not decode"):
            decode_photo(data[:kept], "a")


def test_a_picture_of_few_of_16_bits_is_stretched_and_told(tmp_path: Path) -> None:
    ramp = np.linspace(0, 1, 60)[None].repeat(40, 0)
    ranges = {"thermal": (28000, 30000, True), "14 bit": (0, 16383, True), "full": (0, 65535, False)}
    for name, (low, high, stretched) in ranges.items():
        (tmp_path / f"{name}.png").write_bytes(encoded(".png", (low + ramp * (high - low)).astype(np.uint16)))
        told: list[str] = []
        image = read_photo(tmp_path / f"{name}.png", told.append)
        assert image.dtype == np.uint8
        assert image.shape == (40, 60, 3)
        assert image.min() < 8
        assert image.max() > 247
        assert ["stretched" in text for text in told] == [True] * stretched
    (tmp_path / "flat.png").write_bytes(encoded(".png", np.full((4, 4), 30000, np.uint16)))
    assert read_photo(tmp_path / "flat.png").std() == 0


def test_damaged_unreadable_and_hidden_photos_do_not_end_a_folder(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg", "d.jfif", "e.bin"):
        (tmp_path / name).write_bytes(encoded(".jpg"))
    (tmp_path / "b.jpg").write_bytes(encoded(".jpg")[:-40])
    (tmp_path / "c.png").write_text("<html>")
    (tmp_path / "._a.jpg").write_bytes(b"\0\x05\x16\x07" + bytes(100))
    (tmp_path / ".hidden.jpg").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("BM and II are no pictures")
    os.mkfifo(tmp_path / "f.jpg")
    os.mkfifo(tmp_path / "other pipe")
    (tmp_path / "g.jpg").symlink_to("gone.jpg")
    told: list[str] = []
    source = open_source(str(tmp_path), warn=told.append)
    frames = list(source)
    assert [frame.name for frame in frames] == ["a", "d", "e"]
    assert source.total == 7
    assert [frame.index for frame in frames] == [0, 3, 4]
    assert source.skipped == 4
    assert len(told) == 5
    assert f"hidden files in {tmp_path} are left out: ._a.jpg, .hidden.jpg" in told[0]
    assert "b.jpg is cut short" in told[1]
    assert "c.png" in told[2]
    assert "a web page" in told[2]
    assert "f.jpg (it is a pipe" in told[3]
    assert "g.jpg (it is a link to nothing, gone.jpg)" in told[4]
    named = open_source(str(tmp_path / "*.jpg"), warn=told.append)
    assert ([frame.name for frame in named], named.skipped) == (["a"], 3)
    with pytest.raises(SourceError, match=r"f\.jpg \(it is a pipe, a device or a socket\); expected a photo"):
        open_source(str(tmp_path / "f.jpg"))
    for name in ("a.jpg", "d.jfif", "e.bin"):
        (tmp_path / name).unlink()
    with pytest.raises(SourceError, match="none of the 4 photos"):
        open_source(str(tmp_path), warn=told.append)


def test_several_sources_and_folders_in_folders(tmp_path: Path) -> None:
    for name in ("a/img.jpg", "b/img.jpg", "b/deep/img.png", "other.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(encoded(".jpg"))
    other = str(tmp_path / "other.jpg")
    assert [frame.name for frame in open_source([str(tmp_path / "a"), str(tmp_path / "b/*.jpg"), other, other])] == [
        "a_img_jpg", "b_img_jpg", "other",
    ]  # fmt: skip
    found = open_source(str(tmp_path), options=CaptureOptions(recursive=True, fps=4))
    assert [(frame.name, frame.time) for frame in found] == [
        ("a_img_jpg", 0.0), ("img_png", 0.25), ("b_img_jpg", 0.5), ("other", 0.75),
    ]  # fmt: skip
    (tmp_path / "nothing" / "deep").mkdir(parents=True)
    with pytest.raises(SourceError, match="--recursive looks into"):
        open_source(str(tmp_path / "nothing"))
    (tmp_path / "clip.mp4").write_bytes(b"x")
    for wrong in (str(tmp_path / "clip.mp4"), "rtsp://cam/a"):
        with pytest.raises(UsageError, match="is not a photo"):
            open_source([other, wrong])
    with pytest.raises(SourceError, match="no such file"):
        open_source([other, "gone.jpg"])


def test_names_do_not_clash() -> None:
    paths = [Path(path) for path in ("1/img.jpg", "2/img.jpg", "a.jpg", "a.png", "a_png.bmp", "É.jpg", "E\u0301.png",
                                     "X.jpg", "x.jpg", "only.jpg")]  # fmt: skip
    names = unique_names(paths)
    assert len({name.casefold() for name in names}) == len(paths)
    assert (names[:3], names[-1]) == (["1_img_jpg", "2_img_jpg", "a_jpg"], "only")
    assert unique_names(paths[::-1])[::-1] == names  # whatever the order
    assert len(set(unique_names([Path("a.jpg")] * 3))) == 3


FILES = st.lists(
    st.tuples(
        st.sampled_from("ab"),
        st.sampled_from(["a", "A", "a_jpg", "b_a", "é", "e\u0301", "x" * 200]),
        st.sampled_from([".jpg", ".png", ""]),
    ),
    max_size=12,
)


@given(FILES)
def test_any_names_are_unique(files: list[tuple[str, str, str]]) -> None:
    names = unique_names([Path(folder) / f"{stem}{suffix}" for folder, stem, suffix in files])
    assert len({name.casefold() for name in names}) == len(files)
    assert all(len(name.encode()) < 220 for name in names)


@given(st.text(st.characters(), min_size=1, max_size=400))
def test_any_name_can_be_written(text: str) -> None:
    name = safe_name(text)
    assert name
    assert "/" not in name
    assert not name.startswith(".")
    assert len(name.encode("utf-8")) <= 200


class _Server(http.server.BaseHTTPRequestHandler):
    replies: ClassVar[dict[str, tuple[str, bytes, int]]] = {}

    def do_GET(self) -> None:
        kind, body, promised = self.replies[self.path.partition("?")[0]]
        self.send_response(200 if kind else 404)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(promised or len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    _Server.replies = {
        "/snap.jpg": ("image/jpeg", encoded(".jpg"), 0),
        "/cgi/picture": ("image/png", encoded(".png"), 0),
        "/broken.jpg": ("image/jpeg", encoded(".jpg")[:500], 4000),
        "/text.jpg": ("text/html", b"<html>log in", 0),
        "/gone.jpg": ("", b"", 0),
    }
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Server) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()


def test_the_address_of_a_photo_is_one_photo(server: str) -> None:
    for address, name in ((f"{server}/snap.jpg?user=a&pwd=S3cret", "snap"), (f"{server}/cgi/picture", "picture")):
        source = open_source(address)
        frames = list(source)
        assert source.total == 1
        assert not source.live
        assert "S3cret" not in source.name
        assert [(frame.name, frame.image.shape) for frame in frames] == [(name, (40, 60, 3))]


def test_a_camera_of_single_pictures_goes_on_and_comes_back(server: str) -> None:
    source = open_source(None, f"{server}/snap.jpg?token=S3cret", CaptureOptions(rate=50))
    frames = iter(source)
    assert [next(frames).image.shape for _ in range(4)] == [(40, 60, 3)] * 4
    assert (source.live, source.state) == (True, PLAYING)
    _Server.replies["/snap.jpg"] = ("", b"", 0)
    deadline = time.monotonic() + 20
    while source.state == PLAYING and time.monotonic() < deadline:
        time.sleep(0.01)
    assert "HTTP 404" in source.state
    assert "S3cret" not in source.state
    _Server.replies["/snap.jpg"] = ("image/jpeg", encoded(".jpg"), 0)
    while source.state != PLAYING and time.monotonic() < deadline:
        time.sleep(0.01)
    assert source.state == PLAYING
    source.close()


@pytest.mark.parametrize(
    ("path", "says"),
    [("broken.jpg", "breaks off|cut short|IncompleteRead"), ("text.jpg", "a web page"), ("gone.jpg", "HTTP 404")],
)
def test_addresses_without_a_photo(server: str, path: str, says: str) -> None:
    with pytest.raises(SourceError, match=says) as refused:
        open_source(f"{server.replace('//', '//admin:S3cret@')}/{path}?token=S3cret")
    assert "S3cret" not in str(refused.value)
