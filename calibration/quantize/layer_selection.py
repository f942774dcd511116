"""Which groups of layers become INT8: all that pay for the damage they do, until the bar holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from ..graph.layers import Layer, groups
from .comparison import Maps, compare, load, milliseconds
from .qdq import Scheme, chosen, quantised
from .ranges import Statistics
from .samples import Sample

_MARGIN = 0.5  # of what the bar allows is kept in hand: among pictures not seen yet, some will do worse than any so far


@dataclass(frozen=True)
class Group:
    """A group of layers, the damage when it alone is quantised, and what it saves where all others are.

    A layer in INT8 between two that are not pays for the way in and out, so that no group alone would save anything.
    """

    name: str
    layers: int
    work: float  # its share of all multiply-adds that could be quantised
    damage: float  # share of the pixels that get another label
    saved: float  # of FP32's time on a CPU, or of all multiply-adds where no time can be measured
    quantised: bool


@dataclass(frozen=True)
class Choice:
    """Every group with its fate."""

    groups: tuple[Group, ...]  # in the order of the graph
    agreement: float  # of all that was kept, on the pictures for choosing

    @property
    def names(self) -> frozenset[str]:
        """Groups that are quantised."""
        return frozenset(group.name for group in self.groups if group.quantised)


@dataclass(frozen=True)
class Bench:
    """What every trial needs."""

    model: onnx.ModelProto  # folded, FP32
    layers: Sequence[Layer]
    statistics: Statistics
    scheme: Scheme
    reference: Any  # session of the FP32 graph
    expected: Sequence[Maps]  # its labels
    samples: Sequence[Sample]
    threads: int

    def session(self, names: frozenset[str]) -> Any:
        """The graph with these groups in INT8, as its engine would compute it."""
        model = quantised(self.model, chosen(self.layers, names), self.statistics, self.scheme)
        return load(model, self.threads, exact=not self.scheme.whole)


def choose(bench: Bench, bar: float, without: frozenset[str], tick: Callable[[], None]) -> Choice:
    """Measure each group, quantise all that save something, then fewer until the agreement holds.

    What is left out first does most damage for what it saves. `without` names groups that are never quantised; `tick`
    is called before each group, and at last.
    """
    total = sum(layer.work for layer in bench.layers) or 1
    damage: dict[str, float] = {}
    saved: dict[str, float] = {}
    names = [name for name in groups(bench.layers) if name not in without]
    everything = bench.session(frozenset(names))
    for name in names:
        tick()
        alone = bench.session(frozenset({name}))
        damage[name] = 1 - compare(bench.expected, alone, bench.samples).agreement
        if bench.scheme.whole:
            others = bench.session(frozenset(names) - {name})
            fp32, before, after = milliseconds([bench.reference, others, everything], bench.samples).T
            saved[name] = float(np.median(before - after) / np.median(fp32))
        else:
            saved[name] = sum(layer.work for layer in chosen(bench.layers, {name})) / total
    kept = [name for name in names if saved[name] > 0]
    kept.sort(key=lambda name: damage[name] / saved[name])
    tick()
    while True:
        agreement = compare(bench.expected, bench.session(frozenset(kept)), bench.samples).agreement
        if agreement >= bar + _MARGIN * (1 - bar) or not kept:
            break
        kept.pop()
    found = []
    for name in groups(bench.layers):
        layers = chosen(bench.layers, {name})
        work = sum(layer.work for layer in layers) / total
        found.append(Group(name, len(layers), work, damage.get(name, 0.0), saved.get(name, 0.0), name in kept))
    return Choice(tuple(found), agreement)
