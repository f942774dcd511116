"""Windows: where they lie, and that the products with matrices are a resize and a mean."""

from __future__ import annotations

import pytest
import torch

from ovs_edge.segmenter.clip_dense.windows import WindowGrid, WindowMerge


@pytest.mark.parametrize(
    ("size", "window", "tops", "lefts"),
    [
        ((336, 448), (224, 224), (0, 112), (0, 112, 224)),
        ((336, 400), (224, 224), (0, 112), (0, 112, 176)),
        ((224, 224), (224, 224), (0,), (0,)),
        ((160, 448), (160, 224), (0,), (0, 112, 224)),
        ((448, 336), (224, 224), (0, 112, 224), (0, 112)),
    ],
)
def test_places(size: tuple[int, int], window: tuple[int, int], tops: tuple[int, ...], lefts: tuple[int, ...]) -> None:
    grid = WindowGrid.sliding(size, 224, 112)
    assert (grid.window, grid.tops, grid.lefts) == (window, tops, lefts)
    image = torch.arange(size[0] * size[1]).reshape(1, 1, *size).float()
    crops = grid.crop(image)
    assert crops.shape == (len(tops) * len(lefts), 1, *window)
    assert float(crops[-1, 0, 0, 0]) == tops[-1] * size[1] + lefts[-1]


@pytest.mark.parametrize("size", [(48, 80), (64, 72), (32, 32), (24, 56)])
def test_merge_is_resize_and_mean(size: tuple[int, int]) -> None:
    grid = WindowGrid.sliding(size, 32, 16)
    merge = WindowMerge(grid, 8)
    maps = torch.randn(grid.count, merge.patches[0] * merge.patches[1], 3)
    total, covered = torch.zeros(3, *size), torch.zeros(1, *size)
    height, width = grid.window
    places = [(top, left) for top in grid.tops for left in grid.lefts]
    for (top, left), window in zip(places, maps, strict=True):
        small = window.T.reshape(1, 3, *merge.patches)
        full = torch.nn.functional.interpolate(small, size=grid.window, mode="bilinear", align_corners=False)
        total[:, top : top + height, left : left + width] += full[0]
        covered[:, top : top + height, left : left + width] += 1
    torch.testing.assert_close(merge(maps).permute(2, 0, 1), total / covered, atol=1e-5, rtol=1e-5)


def test_whole() -> None:
    grid = WindowGrid.whole((48, 64))
    assert grid.count == 1 and grid.window == (48, 64)
    maps = torch.randn(1, 12, 2)
    expected = torch.nn.functional.interpolate(
        maps.reshape(1, 3, 4, 2).permute(0, 3, 1, 2), size=(48, 64), mode="bilinear", align_corners=False
    )
    torch.testing.assert_close(WindowMerge(grid, 16)(maps).permute(2, 0, 1)[None], expected, atol=1e-5, rtol=1e-5)
