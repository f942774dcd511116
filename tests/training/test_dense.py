"""Training of a model without queries: losses by hand, frozen stages, a run that learns and is resumed."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from support.photos import write_index_masks

from ovs_edge.bundle.errors import UsageError
from ovs_edge.data.datasets import open_dataset
from ovs_edge.segmenter.checkpoint import load_checkpoint
from ovs_edge.segmenter.config import preset
from ovs_edge.segmenter.dense import DenseSegmenter
from ovs_edge.segmenter.text.encoder import load_text_encoder
from ovs_edge.training.command import resolve
from ovs_edge.training.distillation.distill import Regions
from ovs_edge.training.losses.dense import (
    DenseObjective,
    dice_loss,
    near_outlines,
    outline_loss,
    place_loss,
    region_means,
)
from ovs_edge.training.losses.losses import LossOptions, SegmentTarget
from ovs_edge.training.losses.matching import BACKGROUND
from ovs_edge.training.losses.objectives import build_objective, trainable
from ovs_edge.training.options import TrainOptions
from ovs_edge.training.photos.batches import Batch
from ovs_edge.training.request import TrainRequest
from ovs_edge.training.trainer import Trainer

OPTIONS = TrainOptions(
    steps=3, batch=2, crop=64, view=64, warmup=1, validate_every=3, workers=0, frozen_stages=3, lr=1e-3
)
LOSSES = LossOptions(classification=1.0, mask=0.5, dice=0.5, pixel_text=0.4)


def _target(segments: list[list[int]], classes: list[int]) -> SegmentTarget:
    return SegmentTarget(torch.tensor(segments), torch.tensor(classes))


def test_places_of_large_regions_weigh_less() -> None:
    """8 x 8 places: class 2 on three quarters, class 0 on the rest; columns: three own names, another's, "none"."""
    segments = [[0] * 2 + [1] * 6 for _ in range(8)]
    logits = torch.tensor([1.0, 0.0, 2.0, 0.0, 0.0]).view(1, 5, 1, 1).expand(1, 5, 8, 8)
    loss, weight = place_loss(logits.log_softmax(1), [_target(segments, [0, 2])], 3, 0.5)
    log = torch.tensor([1.0, 0.0, 2.0, 0.0, 0.0]).log_softmax(0)
    small, large = (1 / math.sqrt(share) for share in (16 / 64, 48 / 64))
    assert float(weight) == pytest.approx(16 * small + 48 * large, rel=1e-5)
    assert float(loss) == pytest.approx(-16 * small * float(log[0]) - 48 * large * float(log[2]), rel=1e-5)


def test_on_background_every_name_but_the_datasets_own_is_right() -> None:
    row = torch.tensor([0.5, 1.0, -1.0, 0.0], requires_grad=True)  # two own names, another's, "none"
    logits = row.view(1, 4, 1, 1).expand(1, 4, 4, 4)
    loss, weight = place_loss(logits.log_softmax(1), [_target([[BACKGROUND] * 4] * 4, [])], 2, 0.5)
    assert float(weight) == 8
    expected = -8 * row.detach().log_softmax(0)[2:].logsumexp(0)
    assert float(loss.detach()) == pytest.approx(float(expected), rel=1e-5)
    loss.backward()  # type: ignore[no-untyped-call]
    assert row.grad is not None
    assert row.grad[0] > 0 > row.grad[2]
    assert row.grad[1] > 0 > row.grad[3]


def test_what_is_not_labelled_counts_for_nothing() -> None:
    logits = torch.randn(1, 4, 4, 4)
    target = _target([[-1] * 4] * 4, [])
    assert [float(part) for part in place_loss(logits.log_softmax(1), [target], 2, 0.5)] == [0, 0]
    assert [float(part) for part in dice_loss(logits.log_softmax(1), [target])] == [0, 0]


def test_dice_wants_the_regions_and_no_more() -> None:
    target = _target([[0, 0, BACKGROUND, -1]] * 4, [1])
    right = torch.zeros(1, 3, 4, 4)
    right[:, 1, :, :2] = 20
    right[:, 2, :, 2:] = 20
    everywhere = torch.zeros(1, 3, 4, 4)
    everywhere[:, 1] = 20
    assert float(dice_loss(right.log_softmax(1), [target])[0]) < 1e-3
    # 8 places too many in 12 known ones: 1 - (2 * 8 + 1) / (12 + 8 + 1)
    assert float(dice_loss(everywhere.log_softmax(1), [target])[0]) == pytest.approx(1 - 17 / 21, abs=1e-3)


def test_pixels_near_outlines_are_labelled_and_near_a_change_of_labels() -> None:
    labels = torch.zeros(1, 12, dtype=torch.int64)
    labels[0, 6:] = 1
    assert near_outlines(labels)[0].nonzero().flatten().tolist() == [4, 5, 6, 7, 8]
    labels[0, 8] = -1  # not labelled: neither counted nor a change
    assert near_outlines(labels)[0].nonzero().flatten().tolist() == [4, 5, 6, 7]
    assert not near_outlines(torch.full((4, 4), BACKGROUND)).any()


def test_outlines_are_compared_at_the_pixels_of_the_photo() -> None:
    """Logits of 2 x 2 places, 8 x 8 pixels: the boundary lies at the middle of the photo, or 2 pixels from it."""
    logits = torch.zeros(1, 3, 2, 2)  # two names and "none"
    logits[:, 0, :, 0] = logits[:, 1, :, 1] = 20
    options = LossOptions(points=256, background=0.5)

    def loss(left: int) -> float:
        target = _target([[0] * left + [1] * (8 - left)] * 8, [0, 1])
        total, weight = outline_loss(logits, [target], 2, options, [torch.Generator().manual_seed(0)])
        assert float(weight) == 256
        return float(total) / 256

    assert loss(4) < 0.15
    assert loss(2) > 1
    target = _target([[BACKGROUND] * 8] * 8, [])
    assert [float(part) for part in outline_loss(logits, [target], 2, options, [torch.Generator()])] == [0, 0]


def test_means_of_regions_by_hand() -> None:
    embedding = torch.tensor([[[1.0, 3.0], [5.0, 7.0]]])
    pooled, seen = region_means(embedding, _target([[0, 0], [1, -1]], [4, 2]))
    assert pooled.tolist() == [[2.0], [5.0]]
    assert seen.tolist() == [1.0, 1.0]


def test_distillation_draws_regions_to_the_teacher_but_not_the_teacher_to_them() -> None:
    torch.manual_seed(0)
    model = trainable(preset("dense_mini"))
    assert isinstance(model, DenseSegmenter)
    objective = DenseObjective(model, LossOptions(classification=0, mask=0, dice=0, pixel_text=0, region=1.0)).train()
    vectors = torch.nn.functional.normalize(torch.randn(3, 384), dim=-1)
    regions = [Regions(vectors[:1], vectors[1:2], vectors[1:2], vectors[2:])] * 2
    targets = [SegmentTarget(torch.zeros(64, 64, dtype=torch.int64), torch.tensor([0]))] * 2
    batch = Batch(torch.rand(2, 3, 64, 64) * 255, targets, [0, 0], [(0,), (1,)], 0)
    terms = objective(batch, [vectors[:, None]], regions, [torch.Generator()] * 2, [3])
    terms.total.backward()
    assert float(terms.region) > 0.1
    embed, project = model.pixel_decoder.embed.weight.grad, model.names.project.weight.grad
    assert embed is not None
    assert float(embed.abs().max()) > 0
    assert project is None or float(project.abs().max()) == 0


def test_a_run_learns_keeps_frozen_stages_and_goes_on(tmp_path: Path) -> None:
    data = write_index_masks(tmp_path / "shapes")
    dataset = open_dataset(data, "train")
    encoder = load_text_encoder(preset("dense_mini").text)

    def trainer(steps: int) -> Trainer:
        torch.manual_seed(0)
        options = TrainOptions(**{**OPTIONS.__dict__, "steps": steps})
        model = trainable(preset("dense_mini"))
        return Trainer(model, encoder, [(dataset, 1.0)], [open_dataset(data, "val")], tmp_path / "run", options, LOSSES)

    first = trainer(3)
    assert isinstance(first.objective, DenseObjective)
    before = {name: value.clone() for name, value in first.model.state_dict().items()}
    losses: list[float] = []
    scores: list[dict[str, float]] = []
    first.run(lambda step: losses.append(step.loss), lambda _, found: scores.append(found))
    assert len(losses) == 3
    assert np.isfinite(losses).all()
    assert 0 <= scores[0]["shapes"] <= 1
    after = first.model.state_dict()
    stages = [f"backbone.stages.{stage}." for stage in range(3)]
    for name, value in before.items():
        if name.startswith(("backbone.stem", *stages)) and name.endswith("weight"):
            assert torch.equal(value, after[name]), name
    assert not torch.equal(
        before["backbone.stages.6.0.project.0.weight"], after["backbone.stages.6.0.project.0.weight"]
    )
    loaded, extras = load_checkpoint(tmp_path / "run" / "model.pt")
    assert isinstance(loaded, DenseSegmenter)
    assert extras["provenance"]["step"] == 3
    again = trainer(3)
    again.resume()
    assert again.step == 3
    assert all(torch.equal(value, after[name]) for name, value in again.model.state_dict().items())


def test_what_cannot_be_frozen_is_refused(tmp_path: Path) -> None:
    from ovs_edge.training.trainer import freeze

    with pytest.raises(UsageError, match="ClipResNet"):
        freeze(trainable(preset("gkc_r50")), 1)
    assert isinstance(build_objective(trainable(preset("dense_mini")), LOSSES), DenseObjective)


def test_start_default_takes_the_embedded_model_and_its_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = tmp_path / "mini.pt"
    monkeypatch.setattr("ovs_edge.training.command.default_weights", lambda: weights)
    data = (str(write_index_masks(tmp_path / "shapes")),)
    request = TrainRequest(data=data, output=tmp_path / "run", start=Path("default"))
    recipe, options = resolve(request)
    assert options.start == weights
    assert recipe.preset == "dense_mini"
    assert json.loads(options.request)["start"] == "default"
    assert resolve(dataclasses.replace(request, recipe="plain"))[0].preset == "mini"
    assert resolve(dataclasses.replace(request, start=None))[0].preset == "mini"
    larger = resolve(dataclasses.replace(request, largest_scale=2.4))[0].train.scale
    assert larger == (recipe.train.scale[0], 2.4)
