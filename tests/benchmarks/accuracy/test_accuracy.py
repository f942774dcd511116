"""`ovs-bench accuracy` on small real inputs: its counts are right, however they are come by."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from support import tiny_bundle as tiny
from support.plans import make_plan

from ovs_edge.benchmarks.accuracy import counting
from ovs_edge.benchmarks.accuracy.accuracy import measure_accuracy
from ovs_edge.benchmarks.accuracy.class_list import ClassQuery, entries
from ovs_edge.benchmarks.accuracy.counting import PORTION, Job, measure
from ovs_edge.benchmarks.accuracy.stages import Stage, choose_stages
from ovs_edge.benchmarks.report.accuracy_tables import line_table
from ovs_edge.bundle.bundle import Bundle, sha256
from ovs_edge.bundle.errors import DatasetError, SourceError, UsageError
from ovs_edge.data.labelled import CompositeNames
from ovs_edge.data.names.category_names import CategoryNames
from ovs_edge.data.photo_sets import open_photos
from ovs_edge.runtime.inference.refinement import Refinement
from ovs_edge.runtime.segmenter import Segmenter


def _bench(*arguments: object) -> subprocess.CompletedProcess[str]:
    code = "from ovs_edge.benchmarks.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], check=False, capture_output=True, text=True, timeout=300
    )


def _halves(folder: Path, photos: int) -> Path:
    """Photos that are red on the left and green on the right; a quarter of the truth is deliberately wrong."""
    (folder / "images/val").mkdir(parents=True)
    (folder / "masks/val").mkdir(parents=True)
    (folder / "classes.json").write_text(json.dumps(["red", "green"]))
    for index in range(photos):
        image = np.zeros((64, 96, 3), np.uint8)
        image[:, :48, 2] = image[:, 48:, 1] = 255
        truth = np.zeros((64, 96), np.uint8)
        truth[:, 48:] = 1
        truth[32 + index % 3 :, :48] = 1
        cv2.imwrite(str(folder / f"images/val/{index:02d}.png"), image)
        cv2.imwrite(str(folder / f"masks/val/{index:02d}.png"), truth)
    return folder


@pytest.fixture(scope="module")
def halves(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _halves(tmp_path_factory.mktemp("data") / "halves", 1)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three portions, the last of them short."""
    return _halves(tmp_path_factory.mktemp("data") / "many", 2 * PORTION + 3)


def test_accuracy_counts_pixels(halves: Path, tiny_bundle: Path) -> None:
    with Segmenter.load(tiny_bundle, background="none", threshold=0.0) as segmenter:
        result = measure_accuracy(segmenter, open_photos(str(halves)))
    # Red: 1/4 of the picture right, 1/2 claimed. Green: 1/2 right, 3/4 true.
    assert result.per_class == {"red": pytest.approx(0.5, abs=0.03), "green": pytest.approx(2 / 3, abs=0.03)}
    assert result.miou == pytest.approx((0.5 + 2 / 3) / 2, abs=0.03)
    assert result.pixel_accuracy == pytest.approx(0.75, abs=0.03)
    assert result.frequency_weighted == pytest.approx(0.25 * 0.5 + 0.75 * 2 / 3, abs=0.03)
    assert 0.1 < result.boundary_iou < result.miou
    assert result.panoptic is None


def test_command_writes_what_it_prints(halves: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    output, split = tmp_path / "accuracy.json", tmp_path / "split.json"
    split.write_text(json.dumps({"unseen": ["green"]}))
    done = _bench("accuracy", "--model", tiny_bundle, "--data", halves, "--split", split, "-o", output)
    assert done.returncode == 0, done.stderr
    document = json.loads(output.read_text())
    row = document["accuracy"][0]
    assert f"mIoU {row['miou']:.3f}" in done.stdout
    assert f"boundary IoU {row['boundary_iou']:.3f}" in done.stdout
    apart, red, green = row["split"], 0.5, 2 / 3
    assert (apart["seen"], apart["unseen"]) == (pytest.approx(red, abs=0.03), pytest.approx(green, abs=0.03))
    assert apart["harmonic"] == pytest.approx(2 * red * green / (red + green), abs=0.03)
    assert f"unseen {apart['unseen']:.3f}" in done.stdout
    assert document["command"].startswith("ovs-bench accuracy") and "refinement" not in document
    assert document["environment"]["cores"] >= 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["accuracy.json", "split.json"]  # no counts are left
    done = _bench(
        "accuracy", "--model", tiny_bundle, "--data", halves, "--refine-edges", "-o", tmp_path / "refined.json"
    )
    assert done.returncode == 0, done.stderr
    refinement = json.loads((tmp_path / "refined.json").read_text())["refinement"]
    assert refinement == {"edges": True, "least_region": 0.0}


def test_processes_and_interruptions_change_nothing(
    many: Path, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = Job(tiny_bundle, Stage("fp32"), open_photos(str(many)), threads=1)
    told: list[int] = []
    plain = measure(job, on_portion=told.append)
    assert told == [PORTION, PORTION, 3]
    assert plain.photos == 19
    assert measure(job, jobs=2) == plain

    counted: list[int] = []
    count = counting._portion

    def failing(segmenter: Segmenter, job: Job, number: int) -> counting._Portion:
        counted.append(number)
        if len(counted) == 3:
            raise SourceError("the disk went away")
        return count(segmenter, job, number)

    monkeypatch.setattr(counting, "_portion", failing)
    with pytest.raises(SourceError):
        measure(job, kept=tmp_path / "kept")
    files = sorted((tmp_path / "kept").glob("*/*.npz"))
    assert [path.name for path in files] == ["000000.npz", "000001.npz"]
    files[0].write_bytes(files[0].read_bytes()[:40])  # what cannot be read is counted again
    assert measure(job, kept=tmp_path / "kept") == plain
    assert counted == [0, 1, 2, 0, 2]
    # Another question shares nothing with it.
    assert dataclasses.replace(job, refinement=Refinement(edges=True)).digest != job.digest
    assert Job(tiny_bundle, Stage("fp16"), job.photos).digest != job.digest


def test_another_plan_in_the_same_folder_is_another_job(halves: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    folder = tmp_path / "a.plan"
    job = Job(tiny_bundle, Stage("plan", plan=folder), open_photos(str(halves)))
    digests = []
    for engine in (b"one", b"other"):
        shutil.rmtree(folder, ignore_errors=True)
        make_plan(Bundle.open(tiny_bundle), folder, engine)
        digests.append(job.digest)
    assert digests[0] != digests[1]


def test_errors_of_workers_reach_the_user(many: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(many, tmp_path / "many")
    photos = open_photos(str(folder))
    (folder / "images/val/09.png").write_bytes(b"no picture")
    with pytest.raises(DatasetError, match=r"09\.png does not decode"):
        measure(Job(tiny_bundle, Stage("fp32"), photos, threads=1), jobs=2)
    with pytest.raises(UsageError, match="has no precision 'int7'"):
        measure(Job(tiny_bundle, Stage("int7"), photos, threads=1), jobs=2)


def test_names_that_classes_share(tiny_bundle: Path) -> None:
    classes = [
        CategoryNames(("red", "crimson"), ()),
        CategoryNames(("table", "desk"), ()),
        CategoryNames(("grass", "desk", "lawn"), ()),
        CategoryNames(("Table", "board"), ()),
        CategoryNames(("crimson", "a, b"), ()),
    ]
    assert entries(classes, synonyms=False) == ["red", "table", "grass", "Table", "crimson"]
    assert entries(classes, synonyms=True) == ["red", "table", "grass|lawn", "Table|board", "crimson|a b"]
    with Segmenter.load(tiny_bundle, background="none") as segmenter:
        asked = ClassQuery(segmenter, classes, synonyms=True)
    assert asked.labels == ("red", "table", "grass", "board", "crimson") or asked.labels[:3] == (
        "red",
        "table",
        "grass",
    )
    assert [asked.index(index) for index in (0, 1, 2, 3)] == [0, 1, 2, 1]


def test_a_class_of_several_things_is_asked_for_by_all_of_them(tiny_bundle: Path) -> None:
    classes = [
        CompositeNames(("red", "green", "lawn"), (), label="red or green", defining=2),
        CategoryNames(("blue", "green", "sea"), ()),
        CompositeNames(("cyan", "blue", "sea"), (), label="cyan or blue", defining=2),
    ]
    assert entries(classes, synonyms=False) == ["red|green", "blue", "cyan"]
    assert entries(classes, synonyms=True) == ["red|green|lawn", "blue", "cyan"]
    with Segmenter.load(tiny_bundle, background="none") as segmenter:
        asked = ClassQuery(segmenter, classes)
    assert asked.labels == ("red or green", "blue", "cyan or blue")
    assert [asked.index(index) for index in range(3)] == [0, 1, 2]


@pytest.fixture(scope="module")
def panoptic(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A bundle with two red things of which the truth of one photo has one, and COCO data for it."""
    folder = tmp_path_factory.mktemp("panoptic")
    bundle = tiny.build(folder / "tiny.ovs", panoptic=True)
    data = folder / "coco"
    masks = data / "annotations/panoptic_val2017"
    masks.mkdir(parents=True)
    (data / "val2017").mkdir()
    image = np.zeros((96, 128, 3), np.uint8)
    image[:, :, 1] = 255
    image[24:56, 16:48] = image[24:56, 80:112] = (0, 0, 255)
    ids = np.full(image.shape[:2], 1, np.uint8)
    ids[24:56, 16:48] = 2
    ids[24:56, 80:112] = 3
    cv2.imwrite(str(data / "val2017/a.png"), image)
    cv2.imwrite(str(masks / "a.png"), np.dstack([ids * 0, ids * 0, ids]))
    parts = [{"id": 1, "category_id": 7}, {"id": 2, "category_id": 3}]
    annotation = {
        "categories": [{"id": 3, "name": "red", "isthing": 1}, {"id": 7, "name": "green", "isthing": 0}],
        "images": [{"id": 1, "file_name": "a.png"}],
        "annotations": [{"image_id": 1, "file_name": "a.png", "segments_info": parts}],
    }
    (data / "annotations/panoptic_val2017.json").write_text(json.dumps(annotation))
    return bundle, data


def test_panoptic_quality_of_a_bundle(panoptic: tuple[Path, Path], tmp_path: Path) -> None:
    bundle, data = panoptic
    output = tmp_path / "pq.json"
    done = _bench("accuracy", "--model", bundle, "--data", data, "-o", output)
    assert done.returncode == 0, done.stderr
    quality = json.loads(output.read_text())["accuracy"][0]["panoptic"]
    # Both reds are found; the one that nobody labelled does no harm.
    assert quality["rq"] == 1
    assert quality["things"] > 0.6
    assert quality["stuff"] > 0.8
    assert f"PQ {quality['pq']:.3f} (things {quality['things']:.3f}" in done.stdout


def _exported(folder: Path) -> Path:
    """The graph of a small model beside the embedded bundle's text encoder: a bundle, without an hour of parity."""
    from support import exported

    from ovs_edge.models import default_bundle

    shutil.copytree(default_bundle(), folder)
    onnx.save(exported.mini_onnx(), folder / "segmenter.onnx")
    manifest = Bundle.open(default_bundle()).manifest
    size = (1, *exported.SIZE)
    graph = dataclasses.replace(
        manifest.graph,
        inputs=tuple(
            dataclasses.replace(spec, shape=(*size, 3)) if spec.name == "image" else spec
            for spec in manifest.graph.inputs
        ),
        outputs=tuple(dataclasses.replace(spec, shape=size) for spec in manifest.graph.outputs),
        decoder_layers=exported.mini().config.query_decoder.layers,
    )
    manifest = dataclasses.replace(
        manifest,
        graph=graph,
        precisions={"fp32": "segmenter.onnx"},
        digests={**manifest.digests, "segmenter.onnx": sha256(folder / "segmenter.onnx")},
        provenance={"checkpoint_sha256": sha256(exported.checkpoint())},
    )
    (folder / "manifest.json").write_text(manifest.to_json())
    return folder


@pytest.mark.slow
def test_the_line_from_the_checkpoint_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Torch and ONNX nearly agree, and the table shows it."""
    from support import exported
    from support.photos import write_index_masks

    from ovs_edge.benchmarks.cli import app

    photos, output = write_index_masks(tmp_path / "photos", photos=1), tmp_path / "line.json"
    arguments = [
        "accuracy", "--model", _exported(tmp_path / "line.ovs"), "--data", photos, "--stages", "torch,fp32",
        "--checkpoint", exported.checkpoint(), "--synonyms", "--min-region", "0.0001", "-o", output,
    ]  # fmt: skip
    app([str(argument) for argument in arguments], standalone_mode=False)
    document = json.loads(output.read_text())
    torch, fp32 = document["line"]
    assert (torch["stage"], fp32["stage"], torch["synonyms"]) == ("torch", "fp32", True)
    # The text encoders differ as well: torch's own, and one of 8-bit weights.
    assert torch["pixel_accuracy"] == pytest.approx(fp32["pixel_accuracy"], abs=0.03)
    assert 0 < torch["pixel_accuracy"] < 1
    assert f"{fp32['miou'] - torch['miou']:+.4f}" in capsys.readouterr().out
    assert f"| photos | torch | {torch['miou']:.4f} |  |  |" in line_table(document)
    assert "deployed, `--min-region 0.0001`, validation photos" in line_table(document)


def test_stages_that_cannot_be(tiny_bundle: Path, tmp_path: Path) -> None:
    bundle = Bundle.open(tiny_bundle)
    other = tmp_path / "model.pt"
    other.write_bytes(b"something else")
    assert [stage.name for stage in choose_stages(bundle, "all", None, tmp_path / "a.plan")] == ["fp32", "plan"]
    for wanted, checkpoint, words in (
        ("torch", None, "needs the checkpoint"),
        ("torch", other, "is not the checkpoint that .* was made from"),
        ("plan", None, "needs a plan"),
        ("fp32,fp32", None, "expected 'all' or different ones of: torch, fp32, plan"),
        ("int4", None, "the stages are 'int4'"),
        ("", None, "the stages are ''"),
    ):
        with pytest.raises(UsageError, match=words):
            choose_stages(bundle, wanted, checkpoint, None)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--data", "nowhere"], "no folder nowhere"),
        (["--data", "{data}", "--data", "{data}"], "2 data sets are called 'halves'"),
        (["--data", "{data}", "--plan", "a.plan"], "add --stages all"),
        (["--data", "{data}", "--precision", "int4"], "has no precision 'int4'"),
        (["--data", "{data}", "--recipe", "published", "--clip", "a", "--refine-edges"], "--model"),
    ],
)
def test_impossible_requests_are_one_line(
    arguments: list[str], words: str, halves: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    from ovs_edge.benchmarks.cli import main

    given = [part.format(data=halves) for part in arguments]
    monkeypatch.setattr(sys, "argv", ["ovs-bench", "accuracy", "--model", str(tiny_bundle), *given])
    with pytest.raises(SystemExit) as ended:
        main()
    error = capsys.readouterr().err
    assert ended.value.code == 2
    assert words in error
    assert len(error.strip().splitlines()) == 1
