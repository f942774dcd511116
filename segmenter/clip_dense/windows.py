"""Windows over an image, and the maps of the windows brought back to it.

Every window's map is resized bilinearly to the window, and where windows overlap they are averaged. Along each axis that
is a fixed linear function of the patches' values, so both are one product with a matrix for the rows and one for the
columns: far less memory than a full-size map for every window.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class WindowGrid:
    """Where the windows of an image lie."""

    size: tuple[int, int]  # height, width of the image in pixels
    window: tuple[int, int]  # height, width of every window
    tops: tuple[int, ...]  # first row of each row of windows
    lefts: tuple[int, ...]  # first column of each column of windows

    @classmethod
    def whole(cls, size: tuple[int, int]) -> WindowGrid:
        """One window that is the image."""
        return cls(size, size, (0,), (0,))

    @classmethod
    def sliding(cls, size: tuple[int, int], window: int, step: int) -> WindowGrid:
        """Square windows every `step` pixels, the last ones moved back inside; smaller where the image is."""
        height, width = (min(window, side) for side in size)
        return cls(size, (height, width), _starts(size[0], height, step), _starts(size[1], width, step))

    @property
    def count(self) -> int:
        """How many windows there are."""
        return len(self.tops) * len(self.lefts)

    def crop(self, image: Tensor) -> Tensor:
        """(1, C, H, W) -> (windows, C, h, w), row by row."""
        if self.count == 1:
            return image
        height, width = self.window
        crops = [image[:, :, top : top + height, left : left + width] for top in self.tops for left in self.lefts]
        return torch.cat(crops)


def _starts(side: int, window: int, step: int) -> tuple[int, ...]:
    count = max(side - window + step - 1, 0) // step + 1
    return tuple(min(index * step, side - window) for index in range(count))


class WindowMerge(nn.Module):
    """Maps of the windows' patches to one map of the image's pixels, or of their means over squares of `stride`."""

    rows: Tensor  # (H, windows down * patches down)
    columns: Tensor  # (W, windows across * patches across)

    def __init__(self, grid: WindowGrid, patch: int, stride: int = 1) -> None:
        super().__init__()
        self.grid = grid
        self.patches = (grid.window[0] // patch, grid.window[1] // patch)  # of a window
        for axis, name in enumerate(("rows", "columns")):
            starts = (grid.tops, grid.lefts)[axis]
            matrix = _axis_matrix(grid.size[axis], grid.window[axis], self.patches[axis], starts)
            matrix = matrix.reshape(-1, stride, matrix.shape[1]).mean(1)
            self.register_buffer(name, matrix, persistent=False)

    def forward(self, maps: Tensor) -> Tensor:
        """(windows, P, N) -> (H, W, N). N comes last, so that what follows runs along memory."""
        down, across = len(self.grid.tops), len(self.grid.lefts)
        height, width = self.patches
        names = maps.shape[-1]
        lying = maps.reshape(down, across, height, width, names).transpose(1, 2)
        lying = self.rows @ lying.reshape(down * height, across * width * names)
        result: Tensor = self.columns @ lying.reshape(len(self.rows), across * width, names)
        return result


def _axis_matrix(side: int, window: int, patches: int, starts: tuple[int, ...]) -> Tensor:
    """(side, windows * patches): what every pixel takes of every patch's value, along one axis."""
    # Each patch alone, resized: the columns of the resize as a matrix.
    single = nn.functional.interpolate(torch.eye(patches)[:, None], size=window, mode="linear", align_corners=False)
    matrix = torch.zeros(side, len(starts) * patches)
    covered = torch.zeros(side, 1)
    for index, start in enumerate(starts):
        matrix[start : start + window, index * patches : (index + 1) * patches] = single[:, 0].T
        covered[start : start + window] += 1
    return matrix / covered
