"""A convolution with a fixed norm: the same numbers and gradients as the two layers."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from ovs_edge.segmenter.backbone import ConvFixedNorm

LAYERS = [
    pytest.param((6, 8, 1, 1, 1), (9, 12), id="pointwise"),
    pytest.param((3, 8, 3, 2, 1), (9, 12), id="stem"),
    pytest.param((6, 6, 3, 1, 6), (9, 12), id="depthwise"),
    pytest.param((6, 6, 5, 2, 6), (12, 16), id="depthwise, stride 2"),
    pytest.param((6, 6, 5, 2, 6), (9, 13), id="depthwise, stride 2, odd sides"),
    pytest.param((6, 6, 3, 2, 6), (1, 2), id="depthwise, smaller than its kernel"),
]


def _layer(inputs: int, outputs: int, kernel: int, stride: int, groups: int) -> ConvFixedNorm:
    torch.manual_seed(1)
    norm = nn.BatchNorm2d(outputs, eps=1e-3)
    for values in (norm.weight.data, norm.running_var):
        assert values is not None
        values.uniform_(0.5, 2)
    for values in (norm.bias.data, norm.running_mean):
        assert values is not None
        values.normal_()
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return ConvFixedNorm(conv, norm).eval()


def _gradients(layer: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    """What the layer gives, and the gradients of its input and parameters."""
    x = x.clone().requires_grad_()
    y = layer(x)
    (y.float() * torch.linspace(-1, 1, y.numel()).view(y.shape)).sum().backward()
    assert x.grad is not None
    return [y.detach().float(), x.grad, *(p.grad.clone() for p in layer.parameters() if p.grad is not None)]


@pytest.mark.parametrize(("sizes", "side"), LAYERS)
def test_gradients_are_those_of_the_two_layers(sizes: tuple[int, int, int, int, int], side: tuple[int, int]) -> None:
    layer = _layer(*sizes)
    plain = nn.Sequential(*copy.deepcopy(layer)).eval()
    x = torch.randn(2, sizes[0], *side).to(memory_format=torch.channels_last)
    found, expected = _gradients(layer, x), _gradients(plain, x)
    assert len(found) == len(expected) == 5  # output, input, kernel, scale, shift
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_bf16_gives_nearly_the_same_gradients() -> None:
    layer = _layer(16, 16, 5, 2, 16)
    x = torch.randn(2, 16, 24, 24)
    expected = _gradients(layer, x)
    layer.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        found = _gradients(layer, x)
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.cosine_similarity(ours.flatten(), theirs.flatten(), 0) > 0.999


def test_frozen_weights_get_no_gradient() -> None:
    layer = _layer(6, 6, 3, 1, 6)
    layer.requires_grad_(requires_grad=False)
    assert len(_gradients(layer, torch.randn(1, 6, 5, 5))) == 2


def test_inference_runs_the_two_layers_as_they_are() -> None:
    layer = _layer(6, 6, 3, 1, 6)
    x = torch.randn(1, 6, 8, 8)
    with torch.no_grad():
        assert torch.equal(layer(x), layer[1](layer[0](x)))


def test_statistics_that_are_learned_move() -> None:
    layer = _layer(6, 8, 1, 1, 1).train()
    mean = layer[1].running_mean.clone()
    layer(torch.randn(2, 6, 4, 4)).sum().backward()
    assert not torch.equal(mean, layer[1].running_mean)
