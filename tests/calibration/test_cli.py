"""`ovs-calibrate` from end to end: what it writes, what it refuses, and that it writes all or nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from support import conv_bundle
from support.photos import write_index_masks

from ovs_edge.benchmarks.cli import main as ovs_bench
from ovs_edge.benchmarks.report.report import tables
from ovs_edge.bundle.bundle import Bundle
from ovs_edge.calibration.cli import main
from ovs_edge.calibration.quantize import calibrate as calibration
from ovs_edge.runtime.cli import main as ovs_run

Command = Callable[..., int]


@pytest.fixture(scope="session")
def conv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with layers to quantise; shared, so read it only."""
    return conv_bundle.build(tmp_path_factory.mktemp("conv") / "conv.ovs")


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labelled photos of coloured halves."""
    return write_index_masks(tmp_path_factory.mktemp("photos") / "shapes", photos=12)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs a command's `main` with arguments; returns the exit code."""

    def run(*arguments: object, entry: Callable[[], None] = main) -> int:
        monkeypatch.setattr("sys.argv", ["ovs", *map(str, arguments)])
        try:
            entry()
        except SystemExit as stop:
            return int(stop.code or 0)
        return 0

    return run


def _files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_every_precision_is_written_with_its_verdict(
    conv: Path, photos: Path, tmp_path: Path, command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "all.ovs"
    code = command(
        conv, "--images", photos / "images" / "train", "-o", target, "--labels", photos, "--threads", 1
    )  # fmt: skip
    assert code == 0
    bundle = Bundle.open(target)
    assert list(bundle.manifest.precisions) == ["fp32", "fp16", "int8", "int8-cpu"]
    for precision in ("fp16", "int8", "int8-cpu"):
        verdict = bundle.manifest.verdicts[precision]
        assert verdict.passed
        assert verdict.finite
        assert 0.97 <= verdict.worst <= verdict.agreement <= 1
        assert verdict.photos == 4
        assert set(verdict.classes) <= {names[0] for names in bundle.manifest.training_vocabulary}
        (labelled,) = verdict.labelled
        assert (labelled.dataset, labelled.photos) == ("shapes", 2)
        assert labelled.fp32 > 0.95
        assert abs(labelled.found - labelled.fp32) < 0.03
        onnx.checker.check_model(str(bundle.graph(precision)), full_check=True)
    report = json.loads((target / "calibration.json").read_text())["precisions"]
    assert [group["name"] for group in report["int8"]["groups"]] == [
        "backbone.stages.0", "pixel_decoder.ffn", "backbone.stages.1",
    ]  # fmt: skip
    assert all(group["quantised"] for group in report["int8"]["groups"])
    assert report["int8-cpu"]["milliseconds"][0] > 0
    said = capsys.readouterr().out
    assert "warning: only 12 images" in said
    assert "int8-cpu on shapes, 2 photos: mIoU" in said
    # A further calibration keeps what it does not make.
    assert command(target, "--images", photos / "images" / "train", "--precision", "fp16", "--fp16-bar", "0.5") == 0
    again = Bundle.open(target).manifest
    assert again.verdicts["fp16"].bar == 0.5
    assert again.verdicts["int8"] == bundle.manifest.verdicts["int8"]
    assert set(json.loads((target / "calibration.json").read_text())["precisions"]) == {"fp16", "int8", "int8-cpu"}


def test_calibrating_twice_gives_identical_files(
    conv: Path, photos: Path, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = photos / "images" / "train"
    for name in ("first.ovs", "second.ovs"):
        assert command(conv, "--images", source, "-o", tmp_path / name, "--method", "entropy", "--threads", 1) == 0
    first = _files(tmp_path / "first.ovs")
    assert first == _files(tmp_path / "second.ovs")
    # What takes no stopwatch to decide is the same without the cache, too.
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "empty"))
    options = ("--precision", "fp16,int8", "--method", "entropy", "--threads", 1)
    assert command(conv, "--images", source, "-o", tmp_path / "third.ovs", *options) == 0
    third = _files(tmp_path / "third.ovs")
    for name in ("segmenter.fp16.onnx", "segmenter.int8.onnx"):
        assert third[name] == first[name]


def test_past_its_bar_a_precision_is_kept_but_refused(
    conv: Path, photos: Path, tmp_path: Path, command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "failed.ovs"
    # Every third picture judges. Where it alone is bright, no range has room for it.
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for index in range(9):
        high = 250 if index % 3 == 2 else 40
        picture = np.full((48, 64, 3), (high, high // 2, 10), np.uint8)
        picture[:, 30:] = (10, high // 2, high)
        cv2.imwrite(str(pictures / f"{index}.png"), picture)
    assert command(conv, "--images", pictures, "-o", target, "--precision", "int8") == 3
    error = capsys.readouterr().err
    assert error.startswith("error: int8 failed: ")
    assert error.count("\n") == 1
    assert not Bundle.open(target).manifest.verdicts["int8"].passed
    photo = next((photos / "images" / "val").iterdir())
    run = (
        "--model",
        target,
        "--source",
        photo,
        "--classes",
        "sky",
        "--precision",
        "int8",
        "--json",
        tmp_path / "o.jsonl",
    )
    assert command(*run, entry=ovs_run) == 2
    assert "insist with --force" in capsys.readouterr().err
    assert command(*run, "--force", entry=ovs_run) == 0


def test_too_coarse_groups_are_left_out(conv: Path, photos: Path, tmp_path: Path, command: Command) -> None:
    target = tmp_path / "strict.ovs"
    noise = tmp_path / "noise"
    noise.mkdir()
    rng = np.random.default_rng(0)
    for index in range(8):
        cv2.imwrite(str(noise / f"{index}.png"), rng.integers(0, 255, (48, 64, 3), np.uint8))
    # Noise has pixels on the border of every two classes: no group can keep them all.
    assert command(conv, "--images", noise, "-o", target, "--precision", "int8", "--int8-bar", 0.9995) == 0
    (entry,) = json.loads((target / "calibration.json").read_text())["precisions"].values()
    left_out = [group["name"] for group in entry["groups"] if not group["quantised"]]
    assert len(left_out) == 3
    assert entry["verdict"]["agreement"] > 0.9995
    source = photos / "images" / "train"
    options = ("--precision", "int8", "--leave-out", "pixel_decoder.ffn")
    assert command(conv, "--images", source, "-o", target, *options) == 0
    graph = onnx.load(target / "segmenter.int8.onnx").graph
    read = {name for node in graph.node if node.op_type == "MatMul" and "linear1" in node.name for name in node.input}
    assert not any("near" in name for name in read)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--precision", "int4"), "expected some of fp16, int8, int8-cpu"),
        (("--int8-bar", "97"), "expected a share from 0 to 1"),
        (("--leave-out", "backbone"), "no group 'backbone' to leave out; this model has: backbone.stages.0"),
        (("--labels", "nowhere"), "no folder nowhere; expected a data set"),
    ],
)
def test_bad_options(
    conv: Path, photos: Path, tmp_path: Path, command: Command, capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...], expected: str,
) -> None:  # fmt: skip
    assert command(conv, "--images", photos / "images" / "val", "-o", tmp_path / "no.ovs", *arguments) == 2
    assert expected in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("empty", "holds no photos"),
        ("one", "gives 1 usable images; expected at least 2"),
        ("black", "3 images show a single colour and are left out"),
        ("corrupt", "3 images cannot be read and are left out"),
        ("missing", "no such file or folder"),
    ],
)
def test_wrong_pictures(
    conv: Path, tmp_path: Path, command: Command, capsys: pytest.CaptureFixture[str], kind: str, expected: str
) -> None:
    folder = tmp_path / "pictures"
    if kind != "missing":
        folder.mkdir()
    rng = np.random.default_rng(0)
    for index in range({"one": 1, "black": 3, "corrupt": 3}.get(kind, 0)):
        picture = np.zeros((40, 60, 3), np.uint8) if kind == "black" else rng.integers(0, 255, (40, 60, 3), np.uint8)
        cv2.imwrite(str(folder / f"{index}.jpg"), picture)
        if kind == "corrupt":
            (folder / f"{index}.jpg").write_bytes((folder / f"{index}.jpg").read_bytes()[:300])
    target = tmp_path / "no.ovs"
    assert command(conv, "--images", folder, "-o", target) == 2
    assert expected in capsys.readouterr().err
    assert not target.exists()


def test_a_few_broken_pictures_are_counted(
    conv: Path, photos: Path, tmp_path: Path, command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "mixed"
    folder.mkdir()
    for path in (photos / "images" / "train").iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "0.jpg").write_bytes(b"no picture")
    cv2.imwrite(str(folder / "black.png"), np.zeros((40, 60, 3), np.uint8))
    assert command(conv, "--images", folder, "-o", tmp_path / "some.ovs", "--precision", "fp16") == 0
    said = capsys.readouterr().out
    assert "1 images cannot be read" in said
    assert "1 images show a single colour" in said


def test_a_video_is_sampled_evenly(conv: Path, tmp_path: Path, command: Command) -> None:
    clip = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(clip), cv2.VideoWriter_fourcc(*"MJPG"), 25, (64, 48))
    for index in range(40):
        picture = np.full((48, 64, 3), (200, 60, 20), np.uint8)
        picture[:, : index + 5] = (20, 60, 200)
        writer.write(picture)
    writer.release()
    target = tmp_path / "video.ovs"
    assert command(conv, "--images", clip, "-o", target, "--precision", "fp16", "--pictures", 16) == 0
    assert Bundle.open(target).manifest.verdicts["fp16"].photos == 5


def test_an_interruption_leaves_the_bundle_as_it_was(
    photos: Path, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = conv_bundle.build(tmp_path / "mine.ovs")
    before = _files(target)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    # At the last moment: everything else is in the temporary folder by then.
    monkeypatch.setattr(calibration, "plot", interrupted)
    assert command(target, "--images", photos / "images" / "train", "--precision", "fp16") == 130
    assert [path.name for path in tmp_path.iterdir()] == ["mine.ovs"]
    assert _files(target) == before


def test_bench_shows_verdicts_and_what_a_cpu_gains(
    conv: Path, photos: Path, tmp_path: Path, command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    photo = next((photos / "images" / "val").iterdir())
    assert command("precisions", photo, "--model", conv, entry=ovs_bench) == 2
    assert "no calibrated precision" in capsys.readouterr().err
    target = tmp_path / "cpu.ovs"
    source = photos / "images" / "train"
    assert command(conv, "--images", source, "-o", target, "--precision", "int8-cpu", "--threads", 1) == 0
    results = tmp_path / "results"
    bench = ("precisions", photo, "--model", target, "--rounds", 3, "-o", results / "made.json")
    assert command(*bench, entry=ovs_bench) == 0
    figures = json.loads((results / "made.json").read_text())["precisions"]
    assert set(figures["milliseconds"]) == {"fp32", "int8-cpu"}
    assert figures["verdicts"]["int8-cpu"]["passed"]
    assert "| int8-cpu | " in tables(results)
