"""`ovs-train` as a user runs it: learns, resumes exactly, refuses what makes no sense."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from support.photos import write_index_masks

from ovs_edge.bundle.errors import CheckpointError
from ovs_edge.segmenter.checkpoint import load_checkpoint
from ovs_edge.segmenter.config import mini
from ovs_edge.segmenter.segmenter import Segmenter
from ovs_edge.segmenter.text import load_text_encoder
from ovs_edge.training.datasets import open_dataset
from ovs_edge.training.trainer import STATE, Trainer, TrainOptions
from ovs_edge.training.vocabulary import DatasetVocabulary

OPTIONS = TrainOptions(steps=4, batch=2, crop=64, view=64, warmup=1, validate_every=2, workers=0)


def _train(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    code = "from ovs_edge.training.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], check=False, capture_output=True, text=True, timeout=300
    )


def _trainer(data: Path, output: Path, options: TrainOptions = OPTIONS) -> Trainer:
    torch.manual_seed(0)
    dataset = open_dataset(data, "train")
    return Trainer(
        Segmenter(mini()),
        load_text_encoder(mini().text),
        [(dataset, 1.0)],
        [open_dataset(data, "val")],
        output,
        options,
    )


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


def test_a_resumed_run_ends_with_the_same_weights(shapes: Path, tmp_path: Path) -> None:
    whole = _trainer(shapes, tmp_path / "whole")
    whole.run(lambda step: None, lambda step, scores: None)

    class Killed(Exception):
        pass

    broken = _trainer(shapes, tmp_path / "broken")

    def stop_at_three(step: object) -> None:
        if broken.step == 3:
            raise Killed

    with pytest.raises(Killed):
        broken.run(stop_at_three, lambda step, scores: None)
    torch.manual_seed(99)
    resumed = _trainer(shapes, tmp_path / "broken")
    resumed.resume()
    assert resumed.step == 2
    resumed.run(lambda step: None, lambda step, scores: None)
    for one, other in zip(whole.model.state_dict().values(), resumed.model.state_dict().values(), strict=True):
        assert torch.equal(one, other)
    for one, other in zip(whole.averaged.state_dict().values(), resumed.averaged.state_dict().values(), strict=True):
        assert torch.equal(one, other)


def test_resume_refuses_another_recipe_and_a_broken_state(shapes: Path, tmp_path: Path) -> None:
    trainer = _trainer(shapes, tmp_path)
    trainer.save({})
    other = _trainer(shapes, tmp_path, TrainOptions(**{**OPTIONS.__dict__, "lr": 1e-5}))
    with pytest.raises(CheckpointError, match="other options"):
        other.resume()
    state = tmp_path / STATE
    state.write_bytes(state.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="truncated"):
        trainer.resume()


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


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--data", "no/such/folder"], "no folder"),
        (["--data", "{data}", "--preset", "huge"], "no preset 'huge'"),
        (["--data", "{data}", "--crop", "100"], "multiple of 32"),
        (["--data", "{data}:often"], "not a positive number"),
        (["--data", "{data}", "--device", "cuda"], "no CUDA device"),
    ],
)
def test_impossible_requests_are_one_line(shapes: Path, tmp_path: Path, arguments: list[str], words: str) -> None:
    if "cuda" in arguments and torch.cuda.is_available():
        pytest.skip("a CUDA device is present: the request is possible here")
    output = tmp_path / "run"
    result = _train([*(part.format(data=shapes) for part in arguments), "-o", str(output)])
    assert result.returncode == 2
    assert len(result.stderr.strip().splitlines()) == 1, result.stderr
    assert words in result.stderr
    assert not (output / "model.pt").exists()


def test_an_earlier_run_is_not_overwritten(shapes: Path, tmp_path: Path) -> None:
    (tmp_path / STATE).write_bytes(b"precious")
    result = _train(["--data", str(shapes), "-o", str(tmp_path)])
    assert result.returncode == 2
    assert "--resume" in result.stderr
    assert (tmp_path / STATE).read_bytes() == b"precious"
