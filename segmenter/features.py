"""What a backbone gives to the pixel decoder."""

from __future__ import annotations

from torch import Tensor

Features = tuple[Tensor, Tensor, Tensor, Tensor]  # res2..res5, each (B, C, H / stride, W / stride), strides 4 to 32
