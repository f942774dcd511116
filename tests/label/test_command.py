"""`ovs-label` from sources to outputs: what is labelled, left out, refused, and gone on with."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from support.clips import cut, write_clip
from support.label_job import BAD, coco, command, encoded, environment, label, photo, tree, write_photos, write_zip

from ovs_edge.label.job import LabelJob
from ovs_edge.label.store import LocalStore
from ovs_edge.runtime.segmenter import Segmenter


def test_photos_archives_and_videos_in_one_job(tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    source = write_photos(tmp_path / "in", 3)
    (source / "bad.jpg").write_bytes(BAD)
    write_zip(source / "more.zip", {"../../../0.png": encoded(photo("green")), "evil.png": BAD})
    write_clip(source / "clip.mp4", [index / 10 for index in range(25)])
    (source / "broken.mp4").write_bytes(BAD)
    out = tmp_path / "out"
    assert label(monkeypatch, tiny_bundle, source, "-o", out) == 3
    found = coco(out)
    names = ["in_0_png.png", "1.png", "2.png", "more.zip_0_png.png"]
    assert list(found) == [*names, *(f"clip_{index:06d}.jpg" for index in range(3))]
    assert found["1.png"] == [("green", 32 * 48)]  # the other half is blue, which nobody asked for
    assert found[names[3]] == [("green", 64 * 48)]
    assert sorted(path.name for path in (out / "images").iterdir()) == sorted(found)
    said = capsys.readouterr().out
    assert "7 pictures labelled, 3 inputs left out" in said
    told = (out / "left_out.txt").read_text().splitlines()
    assert len(told) == 3 and "bad.jpg" in told[0] and "more.zip: evil.png" in told[1] and "broken.mp4" in told[2]
    assert not (tmp_path / "0.png").exists() and not (tmp_path.parent / "0.png").exists()
    manifest = json.loads((out / ".ovs-label/manifest.json").read_text())
    assert manifest["complete"] and (manifest["labelled"], manifest["bad"]) == (7, 3)
    assert manifest["settings"]["classes"] == ["red", "green"] and len(manifest["settings"]["digest"]) == 64
    before = tree(out)
    assert label(monkeypatch, tiny_bundle, source, "-o", out, "--skip-errors") == 0
    assert tree(out) == before


def test_labels_are_those_of_predict(tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_photos(tmp_path / "in", 4)
    assert label(monkeypatch, tiny_bundle, source, "-o", tmp_path / "out", "--format", "masks") == 0
    from ovs_edge.runtime.opencv import cv2

    with Segmenter.load(tiny_bundle) as segmenter:
        segmenter.set_classes("red,green")
        for path in sorted(source.iterdir()):
            mask = cv2.imread(str(tmp_path / f"out/masks/train/{path.name}"), cv2.IMREAD_UNCHANGED)
            labels = segmenter.predict(path).labels
            assert np.array_equal(np.where(mask == 255, -1, mask.astype(np.int32)), labels)


def test_what_a_job_keeps_is_nothing_to_other_tools(tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    from ovs_edge.data.formats.label_format import ReadOptions
    from ovs_edge.data.formats.registry import find_format

    source = write_photos(tmp_path / "in", 3)
    for name, read_as in (
        ("coco", "coco"),
        ("yolo", "yolo"),
        ("masks", "published"),
        ("labelme", "labelme"),
        ("cvat", "cvat"),
    ):
        out = tmp_path / name
        assert label(monkeypatch, tiny_bundle, source, "-o", out, "--format", name, "--review", "2") == 0
        found = find_format(out)
        photos = found.read(out, ReadOptions())
        assert (found.name, len(photos.photos), photos.skipped) == (read_as, 3, ())


def test_a_panoptic_bundle_tells_instances_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from support.tiny_bundle import build

    bundle = build(tmp_path / "pan.ovs", panoptic=True)
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.png").write_bytes(encoded(photo("red")))  # a query for each half
    assert label(monkeypatch, bundle, tmp_path / "in", "-o", tmp_path / "out") == 0
    assert [name for name, _ in coco(tmp_path / "out")["a.png"]] == ["red", "red"]
    assert label(monkeypatch, bundle, tmp_path / "in", "-o", tmp_path / "one", "--task", "semantic") == 0
    assert coco(tmp_path / "one")["a.png"] == [("red", 48 * 64)]


def test_what_was_added_is_labelled_and_the_rest_is_left_as_it_is(tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    source, out = write_photos(tmp_path / "in", 2), tmp_path / "out"
    assert label(monkeypatch, tiny_bundle, source, "-o", out) == 0
    before = (out / ".ovs-label/records/000000-0000-end.jsonl").stat().st_mtime_ns
    (source / "9.png").write_bytes(encoded(photo("red")))
    capsys.readouterr()
    assert label(monkeypatch, tiny_bundle, source, "-o", out) == 0
    assert "2 pictures were done, 1 new" in capsys.readouterr().out
    assert sorted(coco(out)) == ["0.png", "1.png", "9.png"]
    assert (out / ".ovs-label/records/000000-0000-end.jsonl").stat().st_mtime_ns == before


def test_other_settings_and_foreign_folders_are_refused(tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    source, out = write_photos(tmp_path / "in", 2), tmp_path / "out"
    assert label(monkeypatch, tiny_bundle, source, "-o", out) == 0
    before = tree(out)
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "letter.txt").write_text("x")
    for words, expected in (
        (["-o", out, "--threshold", "0.9"], "begun with threshold '0.3', now it is '0.9'"),
        (["-o", out, "--classes", "red"], "begun with classes 'red,green', now it is 'red'"),
        (["-o", out, "--format", "yolo"], "begun with format 'coco', now it is 'yolo'"),
        (["-o", mine], "was not written by ovs-label"),
        (["-o", source], "is what is to be labelled"),
        (["-o", tmp_path / "x", "--every", "soon"], "--every"),
        (["-o", tmp_path / "x", "--format", "word"], "--format is 'word'"),
        (["-o", tmp_path / "x", "--format", "yolo", "--shape", "mask"], "--shape mask is not for yolo"),
        (["-o", tmp_path / "x", "--num-gpus", "1"], "add --ray auto"),
        (["-o", "http://host/x"], "cannot be labelled"),
    ):
        capsys.readouterr()
        assert label(monkeypatch, tiny_bundle, source, *words) == 2
        error = capsys.readouterr().err
        assert expected in error and error.count("\n") == 1
    assert label(monkeypatch, tiny_bundle, tmp_path / "none.jpg", "-o", tmp_path / "x") == 2
    (tmp_path / "empty").mkdir()
    assert label(monkeypatch, tiny_bundle, tmp_path / "empty", "-o", tmp_path / "x") == 2
    assert tree(out) == before and [path.name for path in mine.iterdir()] == ["letter.txt"]
    assert not (tmp_path / "x").exists()
    (out / ".ovs-label/manifest.json").write_text("{}")
    assert label(monkeypatch, tiny_bundle, source, "-o", out) == 2


def test_two_runs_never_write_the_same_job(tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    source, out = write_photos(tmp_path / "in", 2), tmp_path / "out"
    assert label(monkeypatch, tiny_bundle, source, "-o", out) == 0
    job = LabelJob.open(LocalStore(out))
    assert job is not None
    handle = job.locked()
    assert handle is not None
    assert label(monkeypatch, tiny_bundle, source, "-o", out) == 2
    assert "another ovs-label is writing" in capsys.readouterr().err
    os.close(handle)


def test_videos_by_time_and_what_breaks_off_is_told(tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    clip = write_clip(tmp_path / "clip.avi", codec="mjpeg", times=[index / 10 for index in range(40)])
    cut(clip, 0.6)
    out = tmp_path / "out"
    assert label(monkeypatch, tiny_bundle, clip, "-o", out, "--every", "5f", "--shard-size", "2") == 3
    names = list(coco(out))
    assert 3 <= len(names) < 8 and names == [f"clip_{index:06d}.jpg" for index in range(len(names))]
    records = sorted(path.name for path in (out / ".ovs-label/records").iterdir())
    assert len(records) == (len(names) + 1) // 2 and records[-1].endswith("-end.jsonl")
    assert "clip.avi" in (out / "left_out.txt").read_text()


def test_a_turned_photo_and_names_that_differ_in_folder_only(tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    for folder in ("a", "b"):
        (tmp_path / f"in/{folder}").mkdir(parents=True)
        (tmp_path / f"in/{folder}/x.jpg").write_bytes(encoded(photo("red", size=(64, 48)), 6))
    out = tmp_path / "out"
    assert label(monkeypatch, tiny_bundle, tmp_path / "in", "-r", "-o", out) == 0
    assert list(coco(out)) == ["a_x_jpg.png", "b_x_jpg.png"]
    document = json.loads((out / "annotations/instances.json").read_text())
    assert [(entry["width"], entry["height"]) for entry in document["images"]] == [(64, 48)] * 2


def test_killed_and_restarted_it_writes_what_an_unbroken_run_writes(tiny_bundle: Path, tmp_path: Path) -> None:
    source = write_photos(tmp_path / "in", 150)
    write_clip(source / "clip.mp4", [index / 10 for index in range(30)])
    words = [*command(), str(source), "--classes", "red,green", "--model", str(tiny_bundle), "--every", "1f",
             "--shard-size", "16", "--format", "yolo"]  # fmt: skip
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    subprocess.run([*words, "-o", str(whole)], check=True, env=environment(), timeout=300)
    records = broken / ".ovs-label/records"
    for goal in (20, 90, 160):
        with subprocess.Popen([*words, "-o", str(broken)], env=environment(), stdout=subprocess.DEVNULL) as process:
            while process.poll() is None and _lines(records) < goal:
                time.sleep(0.005)
            process.send_signal(signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL, "it was too fast to be killed"
        assert goal <= _lines(records) < 180
    subprocess.run([*words, "-o", str(broken)], check=True, env=environment(), timeout=300)
    assert tree(broken) == tree(whole)


def _lines(folder: Path) -> int:
    counts: dict[str, int] = {}  # of each shard: for a moment its journal and its records are both there
    for path in folder.glob("*"):
        shard = path.stem.removesuffix("-end")
        try:
            counts[shard] = max(counts.get(shard, 0), path.read_bytes().count(b"\n"))
        except FileNotFoundError:  # it has just been replaced by its shard
            continue
    return sum(counts.values())


def test_interrupted_it_ends_and_goes_on(tiny_bundle: Path, tmp_path: Path) -> None:
    source, out = write_photos(tmp_path / "in", 150), tmp_path / "out"
    words = [*command(), str(source), "--classes", "red,green", "--model", str(tiny_bundle), "-o", str(out)]
    with subprocess.Popen(words, env=environment(), stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None and _lines(out / ".ovs-label/records") < 10:
            time.sleep(0.005)
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=60)
    assert (process.returncode, "Traceback" in error) == (130, False)
    subprocess.run(words, check=True, env=environment(), timeout=300)
    assert len(coco(out)) == 150


def test_labelling_needs_no_torch(tiny_bundle: Path, tmp_path: Path) -> None:
    source = write_photos(tmp_path / "in", 2)
    code = """
import sys
absent = {"torch", "torchvision", "open_clip", "onnx", "PIL", "scipy", "pyarrow", "ray", "supervision"}
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in absent:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
from ovs_edge.label.cli import main
main()
"""
    words = [*command()[:3], "-c", code, str(source), "--classes", "red", "--model", str(tiny_bundle), "-o",
             str(tmp_path / "out"), "--review", "1"]  # fmt: skip
    ran = subprocess.run(words, env=environment(), capture_output=True, text=True, check=False, timeout=120)
    assert (ran.returncode, ran.stderr) == (0, "")
    for extra, option in (("label", ["--format", "parquet"]), ("ray", ["--ray", "auto"])):
        words = [*words[: words.index("-o")], "-o", str(tmp_path / extra), *option]
        ran = subprocess.run(words, env=environment(), capture_output=True, text=True, check=False, timeout=120)
        assert ran.returncode == 2 and f"ovs-edge[{extra}]" in ran.stderr.splitlines()[-1]
