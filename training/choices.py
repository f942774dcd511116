"""Choices of training options."""

from __future__ import annotations

from enum import Enum


class Schedule(str, Enum):
    """How the learning rate falls. Values of --schedule."""

    POLY = "poly"  # polynomial decay to 0
    STEP = "step"  # a tenth from each milestone on


class Precision(str, Enum):
    """In which type the network computes. Values of --precision."""

    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"  # on CUDA only


class NamesMode(str, Enum):
    """What a class is called in training. Values of --names."""

    PLAIN = "plain"  # its plain name
    RANDOM = "random"  # its plain name or a hand-written synonym, drawn anew at every step
    DRAW = "draw"  # its plain name, and for each region a name that the teacher finds likely (text diversification)
    MAX = "max"  # all of its names at once, compared by the nearest
    MEAN = "mean"  # all of its names at once, compared by their mean


class Device(str, Enum):
    """Values of --device."""

    CPU = "cpu"
    CUDA = "cuda"
