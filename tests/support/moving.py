"""Predictions with known regions that move: what is tracked and counted can be told exactly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ovs_edge.runtime.inference.prediction import NOTHING, Prediction

Box = tuple[int, int, int, int]


def prediction(
    boxes: Mapping[str, Sequence[Box]], classes: Sequence[str] = ("person", "car"), size: tuple[int, int] = (240, 320)
) -> Prediction:
    """A semantic prediction (H, W) with filled boxes x0, y0, x1, y1 of each class; later ones cover earlier ones."""
    labels = np.full(size, NOTHING, np.int32)
    for label, found in boxes.items():
        for x0, y0, x1, y1 in found:
            labels[max(0, y0) : max(0, y1), max(0, x0) : max(0, x1)] = list(classes).index(label)
    return Prediction(labels, np.full(size, 0.9, np.float32), tuple(classes))
