"""Deformable attention: two formulations, equal results."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ovs_edge.segmenter.deformable import DeformableAttention, pixel_centres

sides = st.integers(1, 9)


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.tuples(sides, sides), min_size=1, max_size=3),
    heads=st.sampled_from([1, 2, 4]),
    points=st.integers(1, 4),
    batch=st.integers(1, 2),
    spread=st.sampled_from([0.0, 0.3, 3.0]),
    seed=st.integers(0, 2**31),
)
def test_grid_sample_and_gather_agree(
    sizes: list[tuple[int, int]], heads: int, points: int, batch: int, spread: float, seed: int
) -> None:
    torch.manual_seed(seed)
    channels = 4 * heads
    layer = DeformableAttention(channels, len(sizes), heads, points).eval()
    # Offsets that leave the map, which both must read as zeros.
    torch.nn.init.normal_(layer.sampling_offsets.weight, std=spread)
    torch.nn.init.normal_(layer.attention_weights.weight)
    tokens = sum(height * width for height, width in sizes)
    query, value = torch.randn(2, batch, tokens, channels)
    reference = torch.cat([pixel_centres(*size) for size in sizes])
    results = []
    with torch.no_grad():
        for formulation in ("gridsample", "gather"):
            layer.formulation = formulation  # type: ignore[assignment]
            results.append(layer(query, reference, value, tuple(sizes)))
    first, second = results
    assert first.shape == (batch, tokens, channels)
    assert (first - second).abs().max() <= 1e-5 * max(1.0, float(first.abs().max()))


def test_gradients_agree() -> None:
    torch.manual_seed(0)
    layer = DeformableAttention(8, 2, 2, 3)
    torch.nn.init.normal_(layer.sampling_offsets.weight, std=0.2)
    sizes = ((3, 4), (6, 8))
    reference = torch.cat([pixel_centres(*size) for size in sizes])
    query, value = torch.randn(2, 1, 60, 8)
    gradients = []
    for formulation in ("gridsample", "gather"):
        layer.zero_grad()
        layer.formulation = formulation  # type: ignore[assignment]
        layer(query, reference, value, sizes).square().sum().backward()
        gradients.append([parameter.grad.clone() for parameter in layer.parameters() if parameter.grad is not None])
    for first, second in zip(*gradients, strict=True):
        torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-4)
