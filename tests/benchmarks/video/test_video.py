"""`ovs-bench video`: its counts by hand, and the whole command on a clip whose answers are known."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ovs_edge.benchmarks.report.report import tables
from ovs_edge.benchmarks.video.metrics import Flicker, mask_iou, unmoving
from ovs_edge.benchmarks.video.video import Mode, measure_clip
from ovs_edge.bundle.errors import DatasetError
from ovs_edge.data.clips import Clip, davis_clips
from ovs_edge.runtime.inference.smoothing import STRENGTH
from ovs_edge.runtime.segmenter import Segmenter

FRAMES = 8


def test_iou_by_hand() -> None:
    predicted = np.array([[1, 1, 0], [0, 1, 0]], np.bool_)
    truth = np.array([[0, 1, 1], [0, 1, 1]], np.bool_)
    assert mask_iou(predicted, truth) == 2 / 5
    assert mask_iou(predicted, np.zeros_like(truth)) == 0
    assert mask_iou(np.zeros_like(truth), np.zeros_like(truth)) == 1


def test_flicker_by_hand() -> None:
    first = np.array([[0, 0, 1, -1]])
    second = np.array([[0, 1, 1, 2]])
    still = np.array([[True, True, True, False]])
    one = Flicker().add(first, second, still)
    assert (one.changed, one.counted, one.rate) == (1, 3, 1 / 3)
    two = one.add(second, first)
    assert (two.changed, two.counted, two.rate) == (3, 7, 3 / 7)
    assert Flicker().rate == 0  # nothing counted


def test_unmoving_by_hand() -> None:
    flow = np.array([[[0.3, 0.4], [0.29, 0.4], [0, -2.0], [0, 0]]], np.float32)
    assert unmoving(flow, 0.5).tolist() == [[False, True, False, True]]


@settings(max_examples=30, deadline=None)
@given(hnp.arrays(np.int8, (3, 4, 5), elements=st.integers(-1, 2)), hnp.arrays(np.bool_, (4, 5)))
def test_flicker_counts_each_pixel_once(maps: np.ndarray, where: np.ndarray) -> None:
    inside = Flicker().add(maps[0], maps[1], where).add(maps[1], maps[2], where)
    outside = Flicker().add(maps[0], maps[1], ~where).add(maps[1], maps[2], ~where)
    everywhere = Flicker().add(maps[0], maps[1]).add(maps[1], maps[2])
    assert inside.changed + outside.changed == everywhere.changed
    assert inside.counted + outside.counted == everywhere.counted == 40
    assert mask_iou(maps[0] > 0, maps[0] > 0) == 1


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A red thing on a ground that the model calls cyan and grey in turn, though it looks nearly the same."""
    folder = tmp_path_factory.mktemp("clips")
    (folder / "foreground.json").write_text(json.dumps({"square": "red"}))
    for part in ("frames", "masks"):
        (folder / part / "square").mkdir(parents=True)
    for index in range(FRAMES):
        image = np.full((96, 128, 3), (100, 100, 43 + 4 * (index % 2)), np.uint8)
        mask = np.zeros((96, 128), np.uint8)
        mask[16:48, 32:64] = 255
        image[mask > 0] = (0, 0, 200)
        cv2.imwrite(str(folder / "frames/square" / f"{index:05d}.png"), image)
        cv2.imwrite(str(folder / "masks/square" / f"{index:05d}.png"), mask)
    return folder


def test_a_clip_by_the_numbers(clips: Path, tiny_bundle: Path) -> None:
    plain, smoothed, keyed = Mode(0, 1), Mode(0.85, 1), Mode(0, 3)
    seen: list[int] = []
    with Segmenter.load(tiny_bundle, background="none", threads=1) as segmenter:
        rows = measure_clip(
            segmenter, davis_clips(clips)[0], [plain, smoothed, keyed], ["cyan", "grey", "red"],
            on_frame=lambda image, found, changes: seen.append(changes[plain]),
        )  # fmt: skip
    ground = 1 - 32 * 32 / (96 * 128)
    assert [row.clip for row in rows] == ["square"] * 3
    assert rows[0].classes == ("red", "cyan", "grey")
    assert rows[0].iou == rows[1].iou == rows[2].iou == 1
    assert rows[0].iou_step == 0
    assert rows[0].ious == (1.0,) * FRAMES
    assert rows[0].unmoving > 0.99
    assert rows[0].flicker_unmoving == pytest.approx(ground, abs=0.01)
    assert rows[1].flicker_unmoving == rows[1].flicker == 0
    # Key frames 0, 3 and 6: cyan, grey, cyan; two changes in seven.
    assert rows[2].flicker == pytest.approx(ground * 2 / 7, abs=0.01)
    assert [row.network_share for row in rows] == [1, 1, 3 / 8]
    assert all(row.frames == FRAMES and row.frame_ms > 0 for row in rows)
    assert rows[1].smooth_ms > 0
    assert seen[0] == 0
    assert seen[1] == pytest.approx(96 * 128 * ground, rel=0.02)


def _bench(*arguments: object) -> subprocess.CompletedProcess[str]:
    code = "from ovs_edge.benchmarks.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, "video", *map(str, arguments)],
        check=False, capture_output=True, text=True, timeout=300,
    )  # fmt: skip


def test_command_result_picture_and_tables(clips: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    results = tmp_path / "results"
    (tmp_path / "plain").symlink_to(clips / "frames/square")
    done = _bench(
        "--model", tiny_bundle, "--clips", clips, "--video", tmp_path / "plain", "--scene", "cyan,grey",
        "--keyframes", "1,2", "--picture", tmp_path / "strip.jpg", "-o", results / "video.json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = json.loads((results / "video.json").read_text())["video"]
    assert [(row["clip"], row["smooth"], row["keyframes"]) for row in rows[:3]] == [
        ("square", 0, 1), ("square", 0.9, 1), ("square", 0.9, 2),
    ]  # fmt: skip
    assert rows[0]["iou"] is not None
    assert rows[3]["iou"] is None
    assert "IoU 1.000" in done.stdout
    picture = cv2.imread(str(tmp_path / "strip.jpg"))
    assert picture.shape == (2 * 270 + 4, 5 * 360 + 4 * 4, 3)
    # Smoothed, the ground keeps its colour from picture to picture; without, it changes.
    ground = picture[[200, 474]][:, 180 + 364 * np.arange(5)].astype(int)
    assert np.abs(np.diff(ground[1], axis=0)).max() < 12 < np.abs(np.diff(ground[0], axis=0)).max()
    text = tables(results)
    assert "| square | 100.0% |" in text
    assert "| 0.00% | -100% | 1.000 | 1.000 |" in text
    assert "| mean |  |  |  | -100% | 1.000 | 1.000 |" in text
    assert "| 2 | 50% |" in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "expected --clips or --video"),
        (["--clips", "nowhere"], "holds no clips"),
        (["--video", "nowhere.mp4"], "no such file"),
        (["--video", "nowhere.mp4", "--keyframes", "2"], "begin with 1"),
        (["--video", "a/clip.mp4", "--video", "b/clip.avi"], "2 clips are called 'clip'"),
        (["--video", "nowhere.mp4", "--keyframes", "x"], "--keyframes is 'x'"),
    ],
)
def test_impossible_requests(
    arguments: list[str],
    words: str,
    tiny_bundle: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from ovs_edge.benchmarks.cli import main

    monkeypatch.setattr(sys, "argv", ["ovs-bench", "video", "--model", str(tiny_bundle), *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    error = capsys.readouterr().err
    assert ended.value.code == 2
    assert words in error
    assert len(error.strip().splitlines()) == 1


def test_broken_clips(tmp_path: Path, clips: Path) -> None:
    (tmp_path / "frames/a").mkdir(parents=True)
    (tmp_path / "foreground.json").write_text("{}")
    with pytest.raises(DatasetError, match=r"does not name a; expected"):
        davis_clips(tmp_path)
    (tmp_path / "foreground.json").write_text('{"a": "dog"}')
    with pytest.raises(DatasetError, match=r"no folder .*masks/a; expected"):
        davis_clips(tmp_path)
    (tmp_path / "masks/a").mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "frames/a/0.png"), np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(DatasetError, match=r"no mask .*masks/a/0\.png"):
        list(davis_clips(tmp_path)[0].read(None))
    cv2.imwrite(str(tmp_path / "masks/a/0.png"), np.zeros((4, 8), np.uint8))
    with pytest.raises(DatasetError, match="is 8x4, expected 8x8"):
        list(davis_clips(tmp_path)[0].read(None))


def test_the_layout_of_davis_itself(tmp_path: Path, clips: Path) -> None:
    """Masks of DAVIS 2017 are index pictures: object 1 is dark red in their palette."""
    from PIL import Image

    (tmp_path / "JPEGImages").mkdir()
    (tmp_path / "JPEGImages/480p").symlink_to(clips / "frames")
    (tmp_path / "Annotations/480p/square").mkdir(parents=True)
    for path in (clips / "masks/square").iterdir():
        indexed = Image.fromarray((np.asarray(Image.open(path)) > 0).astype(np.uint8), "P")
        indexed.putpalette([0, 0, 0, 128, 0, 0])
        indexed.save(tmp_path / "Annotations/480p/square" / path.name)
    (tmp_path / "foreground.json").write_text('{"square": "red"}')
    (clip,), (short,) = davis_clips(tmp_path), davis_clips(clips)
    assert (clip.name, clip.foreground) == ("square", "red")
    for (frame, mask), (other, expected) in zip(clip.read(None), short.read(None), strict=True):
        assert mask is not None
        assert expected is not None
        assert mask.any()
        np.testing.assert_array_equal(mask, expected)
        np.testing.assert_array_equal(frame.image, other.image)


def test_a_real_clip_is_steadier() -> None:
    """The embedded model on a street that stands still, where that clip lies beside the repository."""
    path = Path(__file__).parents[4] / "shared" / "data" / "pedestrians.avi"
    if not path.is_file():
        pytest.skip(f"no clip at {path}")
    with Segmenter.load() as segmenter:
        modes = [Mode(0, 1), Mode(STRENGTH, 1)]
        before, after = measure_clip(segmenter, Clip("street", path), modes, ["person", "grass", "road"], most=10)
    assert before.unmoving > 0.8
    assert before.flicker_unmoving > 0.003
    assert after.flicker_unmoving < 0.5 * before.flicker_unmoving
