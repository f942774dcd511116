"""The parts of the published models, each against another way to compute it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from support.reference import small_config, small_model
from torch import Tensor, nn

from ovs_edge.bundle.errors import UsageError
from ovs_edge.segmenter.convnext import ConvNeXt
from ovs_edge.segmenter.fcclip import AttentionPool, FCClip, MeanPool, ensemble
from ovs_edge.segmenter.model import SegmenterModel


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(3)
        yield


def _unit(*shape: int) -> Tensor:
    return nn.functional.normalize(torch.randn(*shape), dim=-1)


def test_convnext_is_timms() -> None:
    timm = pytest.importorskip("timm", reason="timm comes with open_clip")
    theirs = timm.create_model("convnext_large", num_classes=0, depths=(1, 2, 1, 1), dims=(8, 16, 32, 64)).eval()
    for parameter in theirs.parameters():
        parameter.copy_(parameter + 0.2 * torch.randn_like(parameter))  # scales start at 1e-6 and would hide the blocks
    ours = ConvNeXt((1, 2, 1, 1), 8).eval()
    state = {name: value for name, value in theirs.state_dict().items() if not name.startswith("head.")}
    ours.load_state_dict(state)
    image = torch.randn(1, 3, 64, 96)
    x = theirs.stem(image)
    for stage, found in zip(theirs.stages, ours(image), strict=True):
        x = stage(x)
        assert torch.allclose(found, x, atol=1e-4)


@pytest.mark.parametrize("size", [(4, 6), (3, 3)])
def test_attention_pool_is_torchs(size: tuple[int, int]) -> None:
    """Against torch's own attention with a mask, as the published code calls it."""
    pool = AttentionPool(128, 3, 32)
    feature, inside = torch.randn(1, 128, *size), (torch.rand(1, 5, size[0] * size[1]) > 0.5).float()
    inside[0, :, 0] = 1
    grid = pool.positional_embedding[1:].T.reshape(1, 128, 3, 3)
    place = nn.functional.interpolate(grid, size=size, mode="bilinear").flatten(2).permute(2, 0, 1)
    tokens = feature.flatten(2).permute(2, 0, 1)
    query = (tokens.mean(0, keepdim=True) + pool.positional_embedding[:1, None]).repeat(5, 1, 1)
    keys = tokens + place
    known, _ = nn.functional.multi_head_attention_forward(
        query, keys, keys, 128, 2, None,
        torch.cat([pool.q_proj.bias, pool.k_proj.bias, pool.v_proj.bias]), None, None, add_zero_attn=False,
        dropout_p=0.0, out_proj_weight=pool.c_proj.weight, out_proj_bias=pool.c_proj.bias, training=False,
        attn_mask=inside[0] < 0.5, use_separate_proj_weight=True, q_proj_weight=pool.q_proj.weight,
        k_proj_weight=pool.k_proj.weight, v_proj_weight=pool.v_proj.weight,
    )  # fmt: skip
    assert torch.allclose(pool(feature, inside), known.transpose(0, 1), atol=1e-5)


def test_mean_pool() -> None:
    pool = MeanPool(16, 8)
    feature, inside = torch.randn(1, 16, 2, 3), torch.tensor([[[1.0, 0, 0, 1, 0, 0], [0, 0, 0, 0, 0, 0]]])
    pixels = feature[0].flatten(1)
    for query, mean in enumerate((pixels[:, [0, 3]].mean(1), torch.zeros(16))):
        known = pool.fc2(nn.functional.gelu(pool.fc1(pool.norm(mean))))
        assert torch.allclose(pool(feature, inside)[0, query], known, atol=1e-6)


def test_ensemble_is_the_published_one() -> None:
    trained, opinion = 3 * torch.randn(1, 4, 6), 3 * torch.randn(1, 4, 5)
    seen, valid = np.array([1, 0, 0, 1, 0]), np.array([1, 1, 0, 1])[:, None]
    weight = np.where(seen, 0.4, 0.8) * valid

    def softmax(x: np.ndarray) -> np.ndarray:
        e = np.exp(x - x.max(-1, keepdims=True))
        return e / e.sum(-1, keepdims=True)

    logits = trained[0].numpy().astype(np.float64)
    mixed = softmax(logits[:, :-1]) ** (1 - weight) * softmax(opinion[0].numpy().astype(np.float64)) ** weight
    void = softmax(logits)[:, -1:]
    known = np.concatenate([softmax(np.log(mixed)) * (1 - void), void], -1)
    found = ensemble(trained, opinion, torch.tensor(weight[None], dtype=torch.float32)).softmax(-1)[0].numpy()
    assert np.abs(found - known).max() < 1e-6


def test_ensemble_of_names_far_off() -> None:
    """Products of such probabilities underflow; logarithms do not."""
    trained, opinion = torch.tensor([[[100.0, -100, -1e4, 90]]]), torch.tensor([[[-100.0, 100, -1e4]]])
    found = ensemble(trained, opinion, torch.full((1, 1, 3), 0.4))
    assert bool(found.isfinite().all())
    assert found.softmax(-1)[0, 0].tolist() == pytest.approx([1, 0, 0, np.exp(-10)], abs=1e-4)


@pytest.mark.parametrize("backbone", ["clip_resnet", "convnext"])
def test_an_empty_mask_gives_numbers(backbone: str) -> None:
    model = small_model("fcclip", backbone)
    assert isinstance(model, FCClip)
    text, feature = _unit(3, 1, 48), torch.randn(1, model.backbone.channels[-1], 2, 3)
    masks = torch.full((1, 7, 16, 24), -5.0)
    masks[0, 0, 3, 3] = 6  # a speck that is gone at stride 32
    masks[0, 1, :8, :8] = 5
    inside, logits = model.out_of_vocabulary(feature, masks, text)
    assert inside.sum(-1)[0].tolist() == [0, 1, 0, 0, 0, 0, 0]
    assert bool(logits.isfinite().all())
    model.query_decoder.mask_embed.layers[-1].weight.zero_()
    model.query_decoder.mask_embed.layers[-1].bias.zero_()  # every mask logit is 0: all masks are empty
    assert bool(model(255 * torch.rand(1, 3, 64, 96), text).class_logits.isfinite().all())


@pytest.mark.parametrize("backbone", ["clip_resnet", "convnext"])
def test_nameless_classes_change_nothing(backbone: str) -> None:
    model = small_model("fcclip", backbone)
    image, text = 255 * torch.rand(1, 3, 64, 96), _unit(3, 2, 48)
    plain = model(image, text)
    padded = model(image, torch.cat((text, torch.zeros(2, 2, 48))))
    longer = model(image, torch.cat((2 * text, torch.zeros(3, 3, 48)), 1))
    probability = padded.class_logits.softmax(-1)
    assert torch.allclose(probability[..., [0, 1, 2, 5]], plain.class_logits.softmax(-1), atol=1e-5)
    assert float(probability[..., 3:5].max()) == 0
    assert torch.allclose(longer.class_logits, plain.class_logits, atol=1e-4)


def test_seen_may_be_given() -> None:
    model = small_model("fcclip")
    assert isinstance(model, FCClip)
    image, text = 255 * torch.rand(1, 3, 64, 96), _unit(3, 1, 48)
    unseen = model(image, text).class_logits
    model.set_seen_vectors(5 * text[1])
    derived = model(image, text).class_logits
    assert torch.equal(derived, model(image, text, seen=torch.tensor([0, 1, 0])).class_logits)
    assert not torch.allclose(derived, unseen)
    assert model.config.seen_names == 1
    with pytest.raises(UsageError, match="expected"):
        model.set_seen_vectors(torch.zeros(3, 5))


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_any_depth(depth: int) -> None:
    model = small_model("fcclip")
    output = model(255 * torch.rand(1, 3, 64, 96), _unit(4, 1, 48), depth)
    assert output.mask_logits.shape == (1, 7, 16, 24)
    assert output.class_logits.shape == (1, 7, 5)


def test_impossible_requests() -> None:
    model = small_model("fcclip")
    with pytest.raises(UsageError, match="decoder layers"):
        model(torch.zeros(1, 3, 64, 96), _unit(2, 1, 48), 4)
    with pytest.raises(UsageError, match="multiples of 32"):
        model(torch.zeros(1, 3, 60, 96), _unit(2, 1, 48))
    with pytest.raises(UsageError, match="family"):
        SegmenterModel(small_config("fcclip"))
    mini = dataclasses.replace(small_config("fcclip").backbone, kind="efficientnet_lite0")
    with pytest.raises(UsageError, match="image tower"):
        FCClip(dataclasses.replace(small_config("fcclip"), backbone=mini))
