"""`ovs-bench video --data`: labelled sequences through the streaming runtime, with answers known in advance."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from support import tiny_bundle as tiny

from ovs_edge.benchmarks.cli import app, main
from ovs_edge.benchmarks.report.accuracy_tables import sequences_table
from ovs_edge.benchmarks.video.sequences import measure_sequences
from ovs_edge.benchmarks.video.video import Mode
from ovs_edge.bundle.errors import DatasetError
from ovs_edge.data.video_sets import open_videos
from ovs_edge.runtime.segmenter import Segmenter

FRAMES = 18
SKY, GRASS, WALL = 29, 16, 1  # values of VSPW's masks
GREY_SHARE = 0.25


@pytest.fixture(scope="module")
def vspw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sky above grass, and a quarter of wall that the model calls wall and sky in turn, though it hardly changes.

    The last frame has no mask.
    """
    folder = tmp_path_factory.mktemp("vspw")
    for part in ("origin", "mask"):
        (folder / "data/clip" / part).mkdir(parents=True)
    for index in range(FRAMES):
        image = np.zeros((96, 128, 3), np.uint8)
        image[:48, :, 0] = image[48:, :64, 1] = 200
        image[48:, 64:] = (132 + 10 * (index % 2), 50, 50)
        mask = np.full((96, 128), SKY, np.uint8)
        mask[48:, :64], mask[48:, 64:] = GRASS, WALL
        cv2.imwrite(str(folder / f"data/clip/origin/{index:08d}.jpg"), image, [cv2.IMWRITE_JPEG_QUALITY, 100])
        if index < FRAMES - 1:
            cv2.imwrite(str(folder / f"data/clip/mask/{index:08d}.png"), mask)
    (folder / "val.txt").write_text("clip\n")
    return folder


def test_vspw_without_and_with_smoothing(vspw: Path, tiny_bundle: Path) -> None:
    seen: list[None] = []
    with Segmenter.load(tiny_bundle, background="none", threshold=0.0, threads=1) as segmenter:
        modes = [Mode(0.0, 1), Mode(0.9, 1), Mode(0.9, 4)]
        plain, smooth, keyed = measure_sequences(
            segmenter, open_videos(str(vspw)), modes, on_frame=lambda: seen.append(None)
        )
    assert len(seen) == FRAMES
    assert plain.frames == FRAMES - 1
    assert plain.classes == 124
    # Wall in 9 of 17 frames, else sky; blurred edges aside.
    assert plain.per_class["grass"] == pytest.approx(1, abs=0.05)
    assert plain.per_class["wall"] == pytest.approx(9 / 17, abs=0.06)
    assert plain.consistency["8"] == pytest.approx(1 - GREY_SHARE, abs=0.03)
    assert plain.strict_consistency["8"] == pytest.approx(1 - GREY_SHARE, abs=0.03)
    assert plain.consistency["16"] == pytest.approx(1 - GREY_SHARE, abs=0.03)
    # The first frame says wall, and so it stays.
    assert smooth.per_class["wall"] == pytest.approx(1, abs=0.06)
    assert smooth.consistency["8"] == pytest.approx(1, abs=0.01)
    assert smooth.strict_consistency["8"] > 0.95
    assert keyed.consistency["16"] == pytest.approx(1, abs=0.01)
    assert plain.novel is None
    assert plain.panoptic is None


def test_frames_of_two_sizes(vspw: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    for part, name in (("origin", "a.jpg"), ("mask", "a.png"), ("origin", "b.jpg"), ("mask", "b.png")):
        path = tmp_path / "data/clip" / part / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.full((40, 50 if name[0] == "a" else 60), SKY, np.uint8))
    (tmp_path / "val.txt").write_text("clip\n")
    with (
        Segmenter.load(tiny_bundle, background="none", threads=1) as segmenter,
        pytest.raises(DatasetError, match=r"the clip clip is 50x40, and 60x40 from b\.jpg on"),
    ):
        measure_sequences(segmenter, open_videos(str(tmp_path)), [Mode(0.0, 1)])


def test_command_on_vipseg_with_a_panoptic_bundle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Three frames of sky and grass, and a box, which is one of the novel classes and is not found."""
    folder, bundle = tmp_path / "vipseg", tiny.build(tmp_path / "tiny.ovs", panoptic=True)
    image = np.zeros((96, 128, 3), np.uint8)
    image[:, :64, 0] = image[:, 64:, 1] = 200
    mask = np.full((96, 128), SKY, np.uint16)
    mask[:, 64:] = GRASS
    mask[:16, :16] = 7700
    for index in range(3):
        for part, picture, suffix in (("imgs", image, "jpg"), ("panomasks", mask, "png")):
            path = folder / part / "one" / f"{index:08d}.{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), picture)
    (folder / "val.txt").write_text("one\n")
    output = tmp_path / "vipseg.json"
    options = ["--data", str(folder), "--data", f"vipseg:{folder}"]
    app(["video", "--model", str(bundle), *options, "-o", str(output)], standalone_mode=False)
    document = json.loads(output.read_text())
    plain = document["sequences"][0]
    # Panoptic frames are not smoothed: no row says that they were.
    assert [(row["smooth"], row["keyframes"]) for row in document["sequences"]] == [(0, 1)] * 2
    assert plain["frames"] == 3
    assert plain["novel"]["novel"] == 0
    assert plain["novel"]["base"] > 0.9
    assert plain["novel"]["harmonic"] == 0
    assert plain["consistency"] == {"8": None, "16": None}  # the clip is too short
    quality = plain["panoptic"]
    assert sorted(quality["by_window"]) == ["1", "2"]
    assert quality["things"] == 0
    assert quality["stuff"] > 0.9
    assert quality["vpq"] == pytest.approx(sum(quality["by_window"].values()) / 2)
    out, error = capsys.readouterr()
    assert error.count("is panoptic and not smoothed") == 1
    assert f"VPQ {quality['vpq']:.3f}" in out
    assert "VC8 none" in out
    assert "novel 0.000" in out
    assert f"| vipseg | 0 | 1 | 3 | {plain['miou']:.3f} |" in sequences_table(document)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--data", "nowhere"], "no video set that is known"),
        (["--data", "a", "--video", "b"], "or else --data"),
        (["--data", "a", "--smooth", "0"], "a --smooth above 0"),
    ],
)
def test_impossible_requests(
    arguments: list[str], words: str, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["ovs-bench", "video", "--model", str(tiny_bundle), *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    error = capsys.readouterr().err
    assert ended.value.code == 2
    assert words in error
    assert len(error.strip().splitlines()) == 1
