"""`ovs-train` as a user runs it: learns, resumes exactly, refuses what makes no sense."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.photos import write_index_masks

from ovs_edge.bundle.errors import CheckpointError, UsageError
from ovs_edge.data.datasets import SegmentationDataset, open_dataset
from ovs_edge.data.names.category_names import CategoryNames
from ovs_edge.segmenter.checkpoint import load_checkpoint, save_checkpoint
from ovs_edge.segmenter.config import mini
from ovs_edge.segmenter.model import SegmenterModel
from ovs_edge.segmenter.text.encoder import load_text_encoder
from ovs_edge.training.choices import Device
from ovs_edge.training.command import run
from ovs_edge.training.distillation.region_cache import RegionVectors
from ovs_edge.training.losses.losses import LossOptions
from ovs_edge.training.options import RUN_FILE, TrainOptions
from ovs_edge.training.recipes import recipe
from ovs_edge.training.reporting.log import LOG
from ovs_edge.training.reporting.monitor import Monitor
from ovs_edge.training.request import TrainRequest
from ovs_edge.training.text.vocabulary import DatasetVocabulary, rival_names
from ovs_edge.training.trainer import STATE, Trainer, TrainerContext

OPTIONS = TrainOptions(steps=4, batch=2, crop=64, view=64, warmup=1, validate_every=2, workers=0)


def _train(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    code = "from ovs_edge.training.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], check=False, capture_output=True, text=True, timeout=300
    )


def _trainer(data: Path, output: Path, options: TrainOptions = OPTIONS, losses: LossOptions | None = None) -> Trainer:
    torch.manual_seed(0)
    dataset = open_dataset(data, "train")
    regions = _regions(len(dataset)) if losses else None
    return Trainer(
        SegmenterModel(mini()),
        load_text_encoder(mini().text),
        [(dataset, 1.0)],
        [open_dataset(data, "val")],
        output,
        options,
        losses,
        TrainerContext(regions=regions),
    )


def _regions(photos: int) -> RegionVectors:
    """Vectors by chance, as if from a teacher."""
    keys = np.concatenate([photo * 256 + np.arange(3) for photo in range(photos)])
    vectors = np.random.default_rng(0).normal(size=(len(keys), 384))
    return RegionVectors(keys, (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16), "chance")


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_index_masks(tmp_path_factory.mktemp("data") / "shapes", photos=8)


def test_training_learns_and_the_checkpoint_says_how(shapes: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    result = _train(
        ["--data", str(shapes), "-o", str(output), "--steps", "40", "--batch", "2", "--crop", "64", "--view", "64",
         "--validate-every", "40", "--workers", "1", "--threads", "1", "--lr", "2e-3"]
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "wrote" in result.stderr
    log = [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]
    losses = [entry["loss"] for entry in log if "loss" in entry]
    assert losses[-1] < 0.8 * losses[0]
    model, extras = load_checkpoint(output / "model.pt")
    assert model.config == mini()
    assert ["grass", "lawn"] in extras["training_vocabulary"]
    assert "meadow" in extras["related"]["grass"]
    assert extras["provenance"]["step"] == 40
    # Stored in half precision without a loss: what is validated is what is exported.
    for name, value in model.state_dict().items():
        if value.ndim >= 2 and value.is_floating_point():
            assert torch.equal(value, value.half().float()), name


@pytest.mark.parametrize("guided", [False, True])
def test_a_resumed_run_ends_with_the_same_weights(shapes: Path, tmp_path: Path, *, guided: bool) -> None:
    options, losses = OPTIONS, None
    if guided:
        options = replace(OPTIONS, names="draw", precision="bf16", schedule="step", milestones=(0.5,))
        losses = LossOptions(drawn=1, region=1, pairs=1, region_dropout=0.5)
    whole = _trainer(shapes, tmp_path / "whole", options, losses)
    whole.run(lambda step: None, lambda step, scores: None)

    class Killed(Exception):
        pass

    broken = _trainer(shapes, tmp_path / "broken", options, losses)

    def stop_at_three(step: object) -> None:
        if broken.step == 3:
            raise Killed

    with pytest.raises(Killed):
        broken.run(stop_at_three, lambda step, scores: None)
    torch.manual_seed(99)
    resumed = _trainer(shapes, tmp_path / "broken", options, losses)
    resumed.resume()
    assert resumed.step == 2
    resumed.run(lambda step: None, lambda step, scores: None)
    for one, other in zip(whole.objective.state_dict().values(), resumed.objective.state_dict().values(), strict=True):
        assert torch.equal(one, other)
    for one, other in zip(whole.averaged.state_dict().values(), resumed.averaged.state_dict().values(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.slow
def test_training_goes_on_from_a_model(shapes: Path, tmp_path: Path) -> None:
    """With tiny steps its weights hardly move; the new file tells where they came from, also after a resume."""
    torch.manual_seed(5)
    save_checkpoint(tmp_path / "first.pt", SegmenterModel(mini()), [["grass"]], {"step": 7})
    common = [
        "--data", str(shapes), "--batch", "2", "--crop", "64", "--view", "64", "--workers", "0", "--threads", "1",
        "--lr", "1e-7",
    ]  # fmt: skip
    began = [*common, "-o", str(tmp_path / "run"), "--start", str(tmp_path / "first.pt")]
    result = _train([*began, "--steps", "2"])
    assert result.returncode == 0, result.stderr
    (first, _), (last, extras) = (load_checkpoint(path) for path in (tmp_path / "first.pt", tmp_path / "run/model.pt"))
    for (name, value), found in zip(first.named_parameters(), last.parameters(), strict=True):
        assert torch.allclose(value, found, atol=2e-3), name
    assert extras["provenance"]["started_from"] == {"step": 7}
    assert extras["training_vocabulary"] != [["grass"]]
    resumed = _train([*common, "-o", str(tmp_path / "run"), "--steps", "2", "--resume"])
    assert resumed.returncode == 0, resumed.stderr
    assert load_checkpoint(tmp_path / "run/model.pt")[1]["provenance"]["started_from"] == {"step": 7}
    save_checkpoint(tmp_path / "other.pt", _narrow(), [["grass"]], {})
    refused = _train([*common, "-o", str(tmp_path / "other"), "--start", str(tmp_path / "other.pt"), "--steps", "2"])
    assert refused.returncode == 2
    assert "holds another model than mini" in refused.stderr


def _narrow() -> SegmenterModel:
    config = mini()
    return SegmenterModel(replace(config, query_decoder=replace(config.query_decoder, queries=8)))


def test_resume_refuses_another_recipe_and_a_broken_state(shapes: Path, tmp_path: Path) -> None:
    trainer = _trainer(shapes, tmp_path)
    trainer.save()
    for other in (
        _trainer(shapes, tmp_path, replace(OPTIONS, lr=1e-5)),
        _trainer(shapes, tmp_path, losses=LossOptions(dice=1.0)),
    ):
        with pytest.raises(CheckpointError, match="other options"):
            other.resume()
    # A state from before the data was written down.
    content = torch.load(tmp_path / STATE)
    recipe = {name: value for name, value in content["recipe"].items() if name not in ("data", "split")}
    torch.save(content | {"recipe": recipe}, tmp_path / STATE)
    with pytest.raises(CheckpointError, match=r"other options or data \(data, split\)"):
        trainer.resume()
    trainer.save()
    _trainer(shapes, tmp_path, replace(OPTIONS, workers=3)).resume()  # how photos are read decides nothing
    state = tmp_path / STATE
    state.write_bytes(state.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="cut short or damaged"):
        trainer.resume()


def test_resume_refuses_other_data_and_another_split(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `ovs-train` builds them: another folder, another share of it, another split or none."""
    other = write_index_masks(tmp_path / "others", photos=6)
    split, changed = tmp_path / "split.json", tmp_path / "changed.json"
    split.write_text(json.dumps({"unseen": ["sky"]}))
    changed.write_text(json.dumps({"unseen": ["sky"], "reserved": {"boat": "ship"}}))  # hides as much, of these data
    output = tmp_path / "run"

    def resumed(split: Path | None, *data: str) -> None:
        # Without a file of the options that began the run, which would lend what is not given.
        (output / RUN_FILE).unlink(missing_ok=True)
        run(
            TrainRequest(
                data=data, output=output, steps=1, batch=1, crop=64, view=64, workers=0, split=split,
                resume=(output / STATE).exists(), pretrained=False,
            )
        )  # fmt: skip

    resumed(split, f"{shapes}:0.5", f"{other}:0.5")
    monkeypatch.setattr(Trainer, "run", lambda *arguments: pytest.fail("went on"))
    for words, given, data in (
        ("data, split", None, (f"{shapes}:0.5", f"{other}:0.5")),
        ("data", split, (f"{other}:0.5", f"{shapes}:0.5")),
        ("data, weights of the data", split, (str(other),)),
        ("weights of the data", split, (f"{shapes}:0.4", f"{other}:0.6")),
        ("split", changed, (f"{shapes}:0.5", f"{other}:0.5")),
    ):
        with pytest.raises(CheckpointError, match=rf"other options or data \({words}\)"):
            resumed(given, *data)
    monkeypatch.undo()
    resumed(split, f"{shapes}:1", f"{other}:1")  # the same shares


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_model(shapes: Path, tmp_path: Path) -> None:
    """`ovs-train`, killed without a warning after its first saved state, and continued by its folder alone."""
    arguments = [
        "--data", str(shapes), "--steps", "6", "--batch", "2", "--crop", "64", "--view", "64", "--validate-every", "2",
        "--workers", "0", "--threads", "1",
    ]  # fmt: skip
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    code = "from ovs_edge.training.cli import main; main()"
    with subprocess.Popen(
        [sys.executable, "-c", code, *arguments, "-o", str(broken)], stderr=subprocess.DEVNULL
    ) as process:
        try:
            deadline = time.monotonic() + 120
            while not (broken / STATE).exists():
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.01)
        finally:
            process.kill()
    assert process.returncode == -signal.SIGKILL
    assert torch.load(broken / STATE)["step"] < 6
    for command in (["-o", str(broken), "--resume"], [*arguments, "-o", str(whole)]):
        result = _train(command)
        assert result.returncode == 0, result.stderr
    one, other = (torch.load(folder / "model.pt")["model"] for folder in (whole, broken))
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name
    logs = [
        [(entry["step"], "validation" in entry) for entry in map(json.loads, (folder / LOG).read_text().splitlines())]
        for folder in (whole, broken)
    ]
    assert logs[0] == logs[1] == [(1, False), (2, True), (4, True), (6, True)]


def test_the_log_goes_on_where_the_state_does(shapes: Path, tmp_path: Path) -> None:
    trainer = _trainer(shapes, tmp_path)
    trainer.step = trainer.validated = 40
    trainer.save()
    lines = [json.dumps(entry) for entry in ({"step": 20, "loss": 2.5}, {"step": 40, "validation": {"shapes": 0.5}})]
    later = [json.dumps({"step": 60, "loss": 2.0}), '{"step": 80, "lo']
    (tmp_path / LOG).write_text("\n".join([*lines, *later]))
    trainer.resume()
    assert (tmp_path / LOG).read_text().splitlines() == lines
    assert sorted(path.name for path in tmp_path.iterdir()) == [LOG, "model.pt", STATE]


def test_a_split_is_told_apart_in_validation(shapes: Path, tmp_path: Path) -> None:
    split = tmp_path / "split.json"
    split.write_text(json.dumps({"unseen": [_shown(shapes)]}))
    result = _train(
        ["--data", str(shapes), "-o", str(tmp_path / "run"), "--steps", "1", "--batch", "1", "--crop", "64",
         "--view", "64", "--workers", "0", "--threads", "1", "--no-pretrained", "--split", str(split)]
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    names = ["shapes", "shapes/seen", "shapes/unseen", "shapes/harmonic"]
    entry = json.loads((tmp_path / "run" / LOG).read_text().splitlines()[-1])
    assert list(entry["validation"]) == names
    seen, unseen, harmonic = (entry["validation"][name] for name in names[1:])
    assert harmonic == pytest.approx(2 * seen * unseen / (seen + unseen) if seen + unseen else 0)
    said = next(line for line in result.stderr.splitlines() if line.startswith("step 1: mIoU"))
    assert all(f"{name} {entry['validation'][name]:.3f}" in said for name in names)


def _shown(data: Path) -> str:
    """A category of the validation photos, of which they show another one as well."""
    val = open_dataset(data, "val")
    present = np.unique(np.concatenate([val.load(index).labels.ravel() for index in range(len(val))]))
    assert len(present) > 2  # 255 is one of them
    return val.classes[present[0]].names[0]


def test_text_stays_frozen_and_every_weight_gets_a_gradient(shapes: Path, tmp_path: Path) -> None:
    trainer = _trainer(shapes, tmp_path)
    trainer.run(lambda step: None, lambda step, scores: None)
    without = [name for name, value in trainer.model.named_parameters() if value.grad is None]
    assert without == []
    for vocabulary in trainer.vocabularies:
        assert not any(vectors.requires_grad for vectors in vocabulary.vectors)


def test_names_are_drawn_from_their_class(shapes: Path) -> None:
    vocabulary = DatasetVocabulary(open_dataset(shapes, "train"), load_text_encoder(mini().text))
    generator = torch.Generator().manual_seed(0)
    drawn = {int((vocabulary.vectors[0] == vocabulary.draw(0.0, generator)[0]).all(1).nonzero()[0]) for _ in range(40)}
    assert drawn == set(range(len(vocabulary.words[0])))
    assert torch.equal(vocabulary.draw(1.0, generator), vocabulary.plain)


def test_an_error_is_one_line(tmp_path: Path) -> None:
    result = _train(["--data", "no/such/folder", "-o", str(tmp_path / "run")])
    assert result.returncode == 2
    assert len(result.stderr.strip().splitlines()) == 1, result.stderr
    assert "no folder" in result.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"preset": "huge"}, "no preset 'huge'"),
        ({"crop": 100}, "multiple of 32"),
        ({"data": ["{data}:often"]}, "not a positive number"),
        ({"device": Device.CUDA}, "no CUDA device"),
        ({"recipe": "secret"}, "no recipe 'secret'"),
        ({"data": []}, "name a folder with --data"),
        ({"distill_region": 1.0}, "no teacher"),
    ],
)
def test_impossible_requests_are_refused(shapes: Path, tmp_path: Path, arguments: dict[str, Any], words: str) -> None:
    if arguments.get("device") == Device.CUDA and torch.cuda.is_available():
        pytest.skip("a CUDA device is present: the request is possible here")
    data = [entry.format(data=shapes) for entry in arguments.get("data", ["{data}"])]
    with pytest.raises(UsageError, match=words):
        run(TrainRequest(**{**arguments, "data": tuple(data), "output": tmp_path / "run"}))
    assert not (tmp_path / "run" / "model.pt").exists()


def test_an_earlier_run_is_not_overwritten(shapes: Path, tmp_path: Path) -> None:
    (tmp_path / STATE).write_bytes(b"precious")
    result = _train(["--data", str(shapes), "-o", str(tmp_path)])
    assert result.returncode == 2
    assert "--resume" in result.stderr
    assert (tmp_path / STATE).read_bytes() == b"precious"


def test_a_dry_run_tells_and_touches_nothing(shapes: Path, tmp_path: Path) -> None:
    result = _train(["--data", str(shapes), "-o", str(tmp_path / "run"), "--recipe", "guided", "--dry-run"])
    assert result.returncode == 0, result.stderr
    for words in ("shapes", "backbone", "distiller (training only)", "activations", "6000 steps", "teacher imagenet"):
        assert words in result.stderr
    assert not (tmp_path / "run").exists()


def test_the_paper_recipe() -> None:
    paper = recipe("paper")
    train, losses = paper.train, paper.losses
    assert (paper.preset, train.batch, train.steps, train.lr, train.crop) == ("gkc_r50", 112, 50_000, 3e-4, 512)
    assert [round(share * train.steps) for share in train.milestones] == [40_000, 45_000]
    assert (losses.classification, losses.mask, losses.dice, losses.region_dropout) == (2, 5, 5, 0.5)
    assert (train.clip, train.backbone_lr) == (0.01, 0.1)


def test_curves_and_pictures_for_tensorboard(shapes: Path, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    trainer = _trainer(shapes, tmp_path)
    monitor = Monitor(tmp_path / "tensorboard", trainer)
    trainer.run(monitor.on_step, monitor.on_validation)
    monitor.close()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("train/loss")] == [1]
    assert [event.step for event in events.Scalars("miou/shapes")] == [2, 4]
    assert {"shapes/0", "shapes/1"} == set(events.Tags()["images"])
    # Photo, truth and prediction, each 80x112 made 46x64.
    picture = events.Images("shapes/0")[-1]
    assert (picture.width, picture.height) == (3 * 64, 46)


def test_names_of_other_datasets_compete_where_they_mean_something_else(shapes: Path, tmp_path: Path) -> None:
    dataset, encoder = open_dataset(shapes, "train"), load_text_encoder(mini().text)

    def named(*categories: str) -> SegmentationDataset:
        return replace(dataset, classes=tuple(CategoryNames((name,), ()) for name in categories))

    others = ("truck", "automobile", "sky", "clock", "spoon", "horse", "banana", "stairs", "curtain")
    both = [named("car", "tree", "grass"), named(*others)]
    first, second = rival_names(both, encoder)
    assert first == [name for name in others if name != "automobile"]
    assert second == ["tree", "grass"]

    torch.manual_seed(0)
    options = replace(OPTIONS, names="plain", rivals=True)
    trainer = Trainer(SegmenterModel(mini()), encoder, [(one, 1.0) for one in both], [], tmp_path, options)
    plain = trainer.vocabularies[0].names(torch.Generator())
    widened = trainer._with_rivals(0, plain)
    assert torch.equal(widened[: len(plain)], plain)
    assert torch.allclose(widened[len(plain) :, 0], encoder.encode(first), atol=1e-6)
