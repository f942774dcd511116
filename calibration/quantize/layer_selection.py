"""Sensitivity analysis: chooses the groups of layers that become INT8."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import onnx

from ..graph.layers import QuantizableLayer, group_names
from .comparison import OutputMaps, compare, open_model
from .kernel_times import kernel_milliseconds
from .qdq import Int8, Scheme, layers_of_groups, quantize_layers
from .ranges import Statistics
from .samples import CalibrationSample

_MARGIN = 0.5  # share of the allowed damage that is kept in reserve for unseen images


@dataclass(frozen=True)
class LayerGroup:
    """A group of layers: the damage when it alone is quantised, and what it saves when all others are quantised, too.

    A single INT8 layer between FP32 layers pays for two conversions, so no group alone would save anything.
    """

    name: str
    layers: int
    work: float  # its share of all multiply-adds that could be quantised
    damage: float  # share of the pixels that get another label
    saved: float  # share of FP32's time on a CPU, or of all multiply-adds for a GPU
    quantised: bool


@dataclass(frozen=True)
class LayerChoice:
    """All groups, with those chosen."""

    groups: tuple[LayerGroup, ...]  # in the order of the graph
    agreement: float  # of the chosen groups, on the images for choosing

    @property
    def names(self) -> frozenset[str]:
        """Groups that are quantised."""
        return frozenset(group.name for group in self.groups if group.quantised)


@dataclass(frozen=True)
class SelectionInputs:
    """Inputs of the sensitivity analysis."""

    model: onnx.ModelProto  # folded, FP32
    layers: Sequence[QuantizableLayer]
    statistics: Statistics
    scheme: Scheme
    weights: Mapping[str, Int8]  # rounded, by node
    expected: Sequence[OutputMaps]  # its labels
    samples: Sequence[CalibrationSample]
    threads: int

    def quantized(self, names: frozenset[str]) -> onnx.ModelProto:
        """The graph with these groups in INT8."""
        layers = layers_of_groups(self.layers, names)
        return quantize_layers(self.model, layers, self.statistics, self.scheme, self.weights)

    def agreement(self, names: frozenset[str]) -> float:
        """Share of labels equal to FP32's with these groups in INT8, as the engine would compute them."""
        session = open_model(self.quantized(names), self.threads, exact=not self.scheme.whole)
        return compare(self.expected, session, self.samples).agreement

    def milliseconds(self, model: onnx.ModelProto) -> float:
        """Time of a graph, with the fewest classes, so that the layers take the largest share."""
        feeds = min(self.samples, key=lambda sample: len(sample.words.labels)).feeds
        return kernel_milliseconds(model, feeds, self.threads)


def aim(bar: float) -> float:
    """Agreement on the images for choosing that lets expect the acceptance threshold `bar` on others."""
    return bar + _MARGIN * (1 - bar)


def choose_layers(
    inputs: SelectionInputs, bar: float, without: frozenset[str], tick: Callable[[], None]
) -> LayerChoice:
    """Measure each group, quantise all that save something, then fewer until the agreement holds.

    Groups with the most damage for their saving are left out first. `without` names groups that are never quantised;
    `tick` is called before each group, and at the end.
    """
    total = sum(layer.work for layer in inputs.layers) or 1
    damage: dict[str, float] = {}
    saved: dict[str, float] = {}
    names = [name for name in group_names(inputs.layers) if name not in without]
    everything = frozenset(names)
    if inputs.scheme.whole:
        fp32 = inputs.milliseconds(inputs.model)
        int8_graph = inputs.quantized(everything)
    for name in names:
        tick()
        damage[name] = 1 - inputs.agreement(frozenset({name}))
        if inputs.scheme.whole:
            # In turns with the graph that has it in INT8: a processor is not equally fast all the time.
            without_it = inputs.milliseconds(inputs.quantized(everything - {name}))
            saved[name] = (without_it - inputs.milliseconds(int8_graph)) / fp32
        else:
            saved[name] = sum(layer.work for layer in layers_of_groups(inputs.layers, {name})) / total
    kept = [name for name in names if saved[name] > 0]
    kept.sort(key=lambda name: damage[name] / saved[name])
    tick()
    while True:
        agreement = inputs.agreement(frozenset(kept))
        if agreement >= aim(bar) or not kept:
            break
        kept.pop()
    found = []
    for name in group_names(inputs.layers):
        layers = layers_of_groups(inputs.layers, {name})
        work = sum(layer.work for layer in layers) / total
        found.append(LayerGroup(name, len(layers), work, damage.get(name, 0.0), saved.get(name, 0.0), name in kept))
    return LayerChoice(tuple(found), agreement)
