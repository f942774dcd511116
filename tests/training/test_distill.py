"""Text-guided distillation against values worked out by hand; gradients where they must be and nowhere else."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from support.photos import write_index_masks
from torch import Tensor, nn

from ovs_edge.bundle.errors import UsageError
from ovs_edge.data.datasets import open_dataset
from ovs_edge.segmenter.config import mini
from ovs_edge.segmenter.model import SegmenterModel
from ovs_edge.segmenter.text.encoder import load_text_encoder
from ovs_edge.training.distillation.distill import (
    Distillation,
    Distiller,
    Regions,
    distill,
    pair_loss,
    rank_of,
    region_loss,
)
from ovs_edge.training.distillation.region_cache import RegionVectors, teach_regions
from ovs_edge.training.distillation.teachers import ClipTeacher, ImageNetTeacher
from ovs_edge.training.losses.losses import Coverage, LossOptions, SegmentTarget, SetLoss, classification_loss
from ovs_edge.training.losses.objective import Objective
from ovs_edge.training.options import TrainOptions
from ovs_edge.training.photos.batches import Batch
from ovs_edge.training.schedule import chance, rate_factor
from ovs_edge.training.trainer import Progress, Trainer, TrainerContext

X, Y = [1.0, 0.0], [0.0, 1.0]
DIAGONAL = [math.sqrt(0.5), math.sqrt(0.5)]
NO_REGIONS = Regions(*(torch.empty(0, 2) for _ in range(4)))


def uncentred() -> Distiller:
    return Distiller(torch.zeros(2), torch.zeros(2))


def test_region_loss_by_hand() -> None:
    """|x - y|^2 = 2 of two orthogonal unit vectors, 2 - 2 cos(45 degrees) of the other two."""
    student, teacher = torch.tensor([X, X]), torch.tensor([Y, DIAGONAL])
    assert float(region_loss(student, teacher)) == pytest.approx(2 + 2 - math.sqrt(2), abs=1e-6)


def test_pair_loss_by_hand() -> None:
    student = torch.tensor([X, DIAGONAL])
    teacher = torch.tensor([DIAGONAL, Y])
    text = torch.tensor([X, [0.6, 0.8]])
    scale = torch.tensor(0.5)
    # (a, b) = (0, 1): 0.5 * 0.6 - <x, y>; (1, 0): 0.5 * 0.6 - <diagonal, diagonal>. A region is no pair with itself.
    wanted = (0.3 - 0.0) ** 2 + (0.3 - 1.0) ** 2
    assert float(pair_loss(student, teacher, text, scale)) == pytest.approx(wanted, abs=1e-6)


def test_one_region_makes_no_pair() -> None:
    one = torch.tensor([X])
    assert float(pair_loss(one, torch.tensor([Y]), one, torch.tensor(1.0))) == 0


def test_distillation_meets_matched_and_known_regions_only() -> None:
    """Image 0: segment 0 is answered by query 1, segment 1 by query 0 and unknown to the teacher. Image 1: nothing."""
    embedding = torch.tensor([[X, Y, X], [Y, Y, Y]], requires_grad=True)
    regions = [
        Regions(torch.tensor([X, [0.0, 0.0]]), torch.tensor([X, Y]), torch.tensor([X, Y]), torch.empty(0, 2)),
        NO_REGIONS,
    ]
    nothing = torch.empty(0, dtype=torch.int64)
    result = distill(
        uncentred(), embedding, [(torch.tensor([0, 1]), torch.tensor([1, 0])), (nothing, nothing)], regions
    )
    assert (result.regions, result.pair_count) == (1, 0)
    assert float(result.region.detach()) == pytest.approx(2.0)  # |y - x|^2
    assert float(result.pairs.detach()) == 0
    result.region.backward()  # type: ignore[no-untyped-call]
    assert embedding.grad is not None
    assert [bool(row.any()) for row in embedding.grad.flatten(0, 1)] == [False, True, False, False, False, False]


def test_without_their_means_both_sides_are_compared() -> None:
    """A name above (0.6, 0) and a teacher's vector above (-0.6, 0): without these, both point upwards."""
    high = [0.6, 0.8]
    regions = [Regions(torch.tensor([[-0.6, 0.8]]), torch.tensor([high]), torch.tensor([high]), torch.empty(0, 2))]
    match = [(torch.tensor([0]), torch.tensor([0]))]
    for means, apart in (
        ((torch.zeros(2), torch.zeros(2)), 1.2**2),
        ((torch.tensor([0.6, 0.0]), torch.tensor([-0.6, 0.0])), 0.0),
    ):
        found = distill(Distiller(*means), torch.tensor([[high]]), match, regions)
        assert float(found.region.detach()) == pytest.approx(apart, abs=1e-6)


def test_how_far_a_teacher_is_from_the_label() -> None:
    names = torch.tensor([X, Y, DIAGONAL])
    teacher = torch.tensor([X, X, Y, [0.0, 0.0]])
    assert rank_of(teacher, names, torch.tensor([0, 1, 2, 1])).tolist() == [0, 2, 1, 0]


def test_no_region_at_all_still_gives_every_parameter_a_gradient() -> None:
    """Several processes wait for each other's gradients of every parameter."""
    distiller = uncentred()
    nothing = torch.empty(0, dtype=torch.int64)
    result = distill(distiller, torch.randn(1, 3, 2, requires_grad=True), [(nothing, nothing)], [NO_REGIONS])
    (result.region + result.pairs).backward()  # type: ignore[no-untyped-call]
    assert [float(p.grad.abs().sum()) for p in distiller.parameters() if p.grad is not None] == [0]


def test_classification_over_drawn_names_by_hand() -> None:
    """Two regions; the first query answers for the second region, the second for none."""
    logits = torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 2.0]])  # columns: both regions' names, "no object"
    matches = [(torch.tensor([0]), torch.tensor([1]))]
    cover = Coverage(torch.ones(2), torch.zeros(2))
    loss = classification_loss([logits], matches, [torch.tensor([1])], [cover], 0.5)
    matched = -math.log(math.e / (math.e + 2))
    void = -math.log(math.exp(2) / (math.exp(2) + 2))
    assert float(loss) == pytest.approx((matched + 0.5 * void) / 1.5, abs=1e-6)


def test_names_of_what_an_image_does_not_show_compete_with_those_drawn() -> None:
    """At first all cosines are noise, so each further name takes its share of the probability."""
    torch.manual_seed(0)
    objective = Objective(SegmenterModel(mini()), LossOptions(points=64, drawn=1, absent=True)).train()
    batch, names, regions = _batch()
    many = torch.nn.functional.normalize(torch.randn(500, 384, generator=chance(3)), dim=-1)
    losses = [
        float(
            objective(
                batch, names, [replace(region, absent=absent) for region in regions], [chance(1), chance(2)]
            ).drawn
        )
        for absent in (many[:0], many)
    ]
    assert losses[1] > losses[0] + 1
    embedding = torch.nn.functional.normalize(torch.randn(1, 3, 384, generator=chance(4)), dim=-1)
    match = (torch.tensor([1, 2]), torch.tensor([1, 0]))
    cover = Coverage(torch.ones(3), torch.zeros(3))
    terms = SetLoss(embedding.sum(), embedding.sum(), embedding.sum(), [match], [cover])
    columns = torch.cat((regions[0].drawn, many))[:, None]
    logits = objective.model.classify(embedding, columns)[0]
    # A segment's column is its index, whatever follows; "no object" is the last.
    weights = torch.ones(503)
    weights[-1] = objective.losses.no_object
    wanted = torch.nn.functional.cross_entropy(logits, torch.tensor([502, 1, 0]), weights)
    found = objective._drawn(embedding, terms, [replace(regions[0], absent=many)])
    assert float(found.detach()) == pytest.approx(float(wanted.detach()), rel=1e-5)


def _batch() -> tuple[Batch, list[Tensor], list[Regions]]:
    generator = chance(7)
    segments = torch.zeros(64, 64, dtype=torch.int64)
    segments[:, 32:] = 1
    targets = [SegmentTarget(segments, torch.tensor([0, 2])), SegmentTarget(segments, torch.tensor([1, 2]))]
    batch = Batch(torch.rand(2, 3, 64, 64, generator=generator) * 255, targets, [0, 0], [(0,), (1,)], 0)
    text = torch.nn.functional.normalize(torch.randn(3, 384, generator=generator), dim=-1)
    seen = torch.nn.functional.normalize(torch.randn(2, 384, generator=generator), dim=-1)
    own = [text[target.classes] for target in targets]
    regions = [Regions(seen, names, names, names[:0]) for names in own]
    return batch, [text[:, None]], regions


def test_every_trained_part_learns() -> None:
    torch.manual_seed(0)
    objective = Objective(SegmenterModel(mini()), LossOptions(points=64, drawn=1, region=1, pairs=1)).train()
    batch, names, regions = _batch()
    objective(batch, names, regions, [chance(1), chance(2)]).total.backward()
    without = [name for name, value in objective.named_parameters() if value.grad is None]
    assert without == []
    still = [name for name, value in objective.distiller.named_parameters() if not value.grad.abs().sum() > 0]  # type: ignore[union-attr]
    assert still == []
    assert not objective.model.backbone.training  # ImageNet's statistics stay


class _Small(nn.Module):
    """A network for a teacher, with statistics that would follow what it sees if it were let."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.norm, self.linear = nn.BatchNorm2d(3), nn.Linear(3, outputs)

    def forward(self, crops: Tensor) -> Tensor:
        logits: Tensor = self.linear(self.norm(crops).mean((2, 3)))
        return logits


@pytest.mark.parametrize("kind", ["imagenet", "clip"])
def test_a_step_leaves_teacher_and_text_as_they_are(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gradients nowhere else: even vectors that would take one get none."""
    torch.manual_seed(0)
    encoder, dataset = load_text_encoder(mini().text), open_dataset(write_index_masks(tmp_path / "shapes"), "train")
    network = _Small(20 if kind == "imagenet" else 384)
    names = torch.nn.functional.normalize(torch.randn(20, 384), dim=-1)
    teacher = (
        ImageNetTeacher(network, names) if kind == "imagenet" else ClipTeacher(network, 384, 32, [0.5] * 3, [0.2] * 3)
    )
    before = [{key: value.clone() for key, value in module.state_dict().items()} for module in (network, encoder.model)]
    regions = teach_regions(teacher, [dataset], tmp_path / "regions")
    options = TrainOptions(steps=1, batch=4, crop=64, view=64, warmup=1, workers=0, names="draw")
    losses = LossOptions(points=64, drawn=1, absent=True, region=1, pairs=1)
    context = TrainerContext(regions=regions)
    trainer = Trainer(SegmenterModel(mini()), encoder, [(dataset, 1.0)], [], tmp_path / "run", options, losses, context)

    taken: list[Tensor] = []

    def lookup(self: RegionVectors, *arguments: Any) -> Tensor:
        taken.append(found(self, *arguments).requires_grad_())
        return taken[-1]

    found = RegionVectors.lookup
    monkeypatch.setattr(RegionVectors, "lookup", lookup)
    vectors = trainer.vocabularies[0].vectors
    for row in vectors:
        row.requires_grad_()
    steps: list[Progress] = []
    trainer.run(steps.append, lambda step, scores: None)
    assert len(taken) == 4
    assert steps[0].region > 0
    assert steps[0].pairs > 0
    assert steps[0].drawn > 0
    assert all(value.grad is not None for value in trainer.objective.distiller.parameters())  # type: ignore[union-attr]
    assert [given.grad for given in (*taken, *vectors)] == [None] * (4 + len(vectors))
    for module, state in zip((network, encoder.model), before, strict=True):
        assert all(not value.requires_grad and value.grad is None for value in module.parameters())
        assert all(torch.equal(value, state[key]) for key, value in module.state_dict().items())


@pytest.mark.parametrize("term", ["drawn", "region", "pairs"])
def test_a_weight_adds_its_term_at_every_depth(term: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Same start and same chance, so the totals of two weights differ by the terms that were computed in between."""
    values: list[float] = []

    def drawn(self: Objective, *arguments: Any) -> Tensor:
        result = original_drawn(self, *arguments)
        values.append(float(result.detach()))
        return result

    def distilled(*arguments: Any) -> Distillation:
        result = distill(*arguments)
        count = result.regions if term == "region" else result.pair_count
        values.append(float(getattr(result, term).detach()) / count)
        return result

    original_drawn = Objective._drawn
    monkeypatch.setattr(Objective, "_drawn", drawn)
    monkeypatch.setattr("ovs_edge.training.losses.objective.distill", distilled)
    totals = []
    for weight in (1.0, 3.0):
        torch.manual_seed(0)
        objective = Objective(SegmenterModel(mini()), LossOptions(points=64, **{term: weight})).train()
        batch, names, regions = _batch()
        values.clear()
        totals.append(float(objective(batch, names, regions, [chance(1), chance(2)]).total.detach()))
    assert len(values) == mini().query_decoder.layers + 1
    assert totals[1] - totals[0] == pytest.approx(2 * sum(values), rel=1e-3)


def test_distillation_without_a_teacher_is_refused(tmp_path: Path) -> None:
    data = write_index_masks(tmp_path / "shapes", photos=2)
    encoder = load_text_encoder(mini().text)
    train = [(open_dataset(data, "train"), 1.0)]
    model = SegmenterModel(mini())
    for options, losses, words in (
        (TrainOptions(), LossOptions(region=1), "no teacher"),
        (TrainOptions(), LossOptions(drawn=1), "--names is 'random'"),
        (TrainOptions(names="draw"), LossOptions(), "--names is 'draw'"),
        (TrainOptions(precision="fp16"), LossOptions(), "needs a CUDA device"),
    ):
        with pytest.raises(UsageError, match=words):
            Trainer(model, encoder, train, [], tmp_path / "run", options, losses)


def test_learning_rate_schedules() -> None:
    poly = [rate_factor(step, 100, 10, "poly", 1.0, ()) for step in (0, 9, 50, 99)]
    assert poly == pytest.approx([0.1, 0.91, 0.5, 0.01])
    paper = [rate_factor(step, 50_000, 1, "step", 0.9, (0.8, 0.9)) for step in (0, 39_999, 40_000, 44_999, 45_000)]
    assert paper == pytest.approx([1, 1, 0.1, 0.1, 0.01])


def test_chance_depends_on_all_of_its_key() -> None:
    drawn = [float(torch.rand((), generator=chance(*key))) for key in ((0, 1, 2), (0, 1, 2), (1, 0, 2), (0, 1, 3))]
    assert drawn[0] == drawn[1]
    assert len(set(drawn)) == 3
