"""How the learning rate moves, and where chance comes from."""

from __future__ import annotations

import numpy as np
import torch

from .choices import Schedule


def rate_factor(
    step: int, steps: int, warmup: int, schedule: Schedule, power: float, milestones: tuple[float, ...]
) -> float:
    """Share of the peak learning rate at `step` (0 … `steps` - 1): a linear warm-up, then a polynomial decay to 0, or a
    tenth of it from each milestone on, a share of `steps`."""
    warm = min(1.0, (step + 1) / max(1, warmup))
    if schedule == Schedule.STEP:
        return warm * float(0.1 ** sum(step >= round(milestone * steps) for milestone in milestones))
    return warm * float(max(0.0, 1 - step / steps) ** power)


def chance(*key: int) -> torch.Generator:
    """A generator that depends on the numbers of `key` alone, so that a resumed or distributed run draws the same."""
    seed = np.random.SeedSequence(key).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(seed))
