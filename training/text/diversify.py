"""Text diversification: a region is called by one of its category's names that fit what is seen in it.

Han et al., "Global Knowledge Calibration for Fast Open-Vocabulary Segmentation", ICCV 2023, section 3.2.
"""

from __future__ import annotations

import torch
from torch import Tensor

TEMPERATURE = 0.1  # of the softmax over a category's names; cosines of sentence vectors differ by some tenths
LIKELY = 0.1  # names less probable than this are not drawn


def likely_names(similarity: Tensor, temperature: float = TEMPERATURE) -> Tensor:
    """Indices of the names that may be drawn, from the teacher's cosines with all of them (S,).

    Those with a probability above `LIKELY`; of many names none may reach it, then the likeliest alone.
    """
    probability = (similarity / temperature).softmax(0)
    likely = (probability > LIKELY).nonzero()[:, 0]
    return likely if len(likely) else probability.argmax()[None]


def draw_name(similarity: Tensor, generator: torch.Generator, *, known: bool) -> int:
    """Index of one of the likely names, drawn uniformly; of any name where the region is not `known` to the teacher.

    Takes one random number whatever the outcome, so that resumed runs draw the same.
    """
    chance = float(torch.rand((), generator=generator))
    if not known:
        return int(chance * len(similarity))
    likely = likely_names(similarity)
    return int(likely[int(chance * len(likely))])
