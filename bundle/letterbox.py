"""Geometry of the one resize between a camera frame and the network's fixed input.

The frame is scaled to fit, its aspect ratio kept, and padded at the right and bottom. Geometry travels with the
tensor, so that a label map can be mapped back to the frame.
"""

from __future__ import annotations

from dataclasses import dataclass

from .errors import UsageError

PAD_BGR = (104, 116, 124)  # ImageNet's mean colour: what padding looks like after normalisation is near zero


@dataclass(frozen=True)
class Letterbox:
    """How a frame sits in the network's input. All sizes in pixels."""

    source: tuple[int, int]  # frame height, width
    target: tuple[int, int]  # network input height, width
    scaled: tuple[int, int]  # height, width of the frame inside the input, top-left aligned

    @classmethod
    def fit(cls, source: tuple[int, int], target: tuple[int, int]) -> Letterbox:
        """Geometry for a frame of `source` (height, width) in an input of `target` (height, width)."""
        if min(source) < 1 or min(target) < 1:
            raise UsageError(f"a frame of {source[1]}x{source[0]} pixels cannot be resized; give an image with pixels")
        scale = min(target[0] / source[0], target[1] / source[1])
        height = min(target[0], max(1, round(source[0] * scale)))
        width = min(target[1], max(1, round(source[1] * scale)))
        return cls(source, target, (height, width))

    def scaled_in(self, size: tuple[int, int]) -> tuple[int, int]:
        """Height, width of the frame's part in a map of `size` that covers the whole input (a label map, say)."""
        return (
            max(1, round(self.scaled[0] * size[0] / self.target[0])),
            max(1, round(self.scaled[1] * size[1] / self.target[1])),
        )
