"""What of a graph tells the vector of a region: the values' names, and their place inside the graph.

The values are traced as further outputs, so that they have names and shapes, and are then taken off the list of
outputs: the exported graph has the outputs of its contract and nothing that is computed for these values alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import onnx
import torch

from ...bundle.errors import ParityError
from ...bundle.manifest import TensorSpec
from ...runtime.examples.region_spec import PlacesSpec, ProjectionSpec, QueriesSpec, RegionSpec, StatisticsSpec
from ...segmenter.clip_dense.model import ClipDense
from ...segmenter.dense import DenseSegmenter
from ...segmenter.model import ImageModel, MaskModel
from ..options import ExportOptions
from ..parity import rgb

PLACES = "region_places"
MASKS = "region_masks"
QUERIES = "region_queries"
_STRIDE = 8  # of the places of a model without queries


def region_spec(model: ImageModel, options: ExportOptions) -> RegionSpec | None:
    """Which values of the exported graph tell the vector of a region; None for a family that has none."""
    height, width = options.size
    if options.batch > 1:  # they are read from graphs of one image
        return None
    if isinstance(model, DenseSegmenter):
        config = model.config.dense
        assert config is not None
        grid, dim, channels = (height // _STRIDE, width // _STRIDE), model.config.text.dim, config.embedding
        projection = ProjectionSpec(
            TensorSpec("model.names.project.weight.T", "float32", (dim, channels)),
            TensorSpec("model.names.project.bias", "float32", (channels,)),
        )
        vectors = TensorSpec(PLACES, "float32", (1, channels, *grid))
        whole = ((0, 0, height, width),)
        return RegionSpec(
            places=PlacesSpec(vectors, channels_first=True, grid=grid, windows=whole, projection=projection)
        )
    if isinstance(model, MaskModel):
        queries = model.config.query_decoder.queries
        shares = model.classifier_shares()
        vectors_of = tuple(
            TensorSpec(f"{QUERIES}_{index}", "float32", (1, queries, model.config.text.dim))
            for index in range(len(shares))
        )
        masks = "mask_logits" if options.task == "panoptic" else MASKS
        return RegionSpec(
            queries=QueriesSpec(vectors_of, shares, TensorSpec(masks, "float32", (1, queries, height // 4, width // 4)))
        )
    return None


def with_statistics(spec: RegionSpec, model: ImageModel, photos: Iterable[npt.NDArray[np.uint8]]) -> RegionSpec:
    """`spec` with the spread of places over `photos`, uint8 (1, H, W, 3) BGR each, for a model without queries."""
    if spec.places is None or not isinstance(model, DenseSegmenter):
        return spec
    with torch.no_grad():
        found = [model.features(rgb(photo))[0].flatten(2)[0].T.double() for photo in photos]
    places = torch.cat(found)
    statistics = StatisticsSpec(
        photos=len(found),
        mean=tuple(_rounded(places.mean(0))),
        covariance=tuple(tuple(_rounded(row)) for row in places.T.cov()),
    )
    return dataclasses.replace(spec, places=dataclasses.replace(spec.places, statistics=statistics))


def _rounded(values: torch.Tensor) -> list[float]:
    """Six digits: a shorter file, and far finer than the measurement."""
    return [float(f"{value:.6g}") for value in values.tolist()]


def clip_region_spec(model: ClipDense, size: tuple[int, int]) -> RegionSpec:
    """`region_spec` of a plain CLIP for inputs of `size`: the unit vectors of all windows' patches."""
    windows, patch = model.scorer(size).windows, model.config.vision.patch
    height, width = windows.window
    grid = (height // patch, width // patch)
    boxes = tuple((top, left, top + height, left + width) for top in windows.tops for left in windows.lefts)
    vectors = TensorSpec(PLACES, "float32", (len(boxes), grid[0] * grid[1], model.config.text.dim))
    return RegionSpec(places=PlacesSpec(vectors, channels_first=False, grid=grid, windows=boxes))


def traced_names(spec: RegionSpec | None, outputs: list[str]) -> list[str]:
    """Names of all that is traced as an output: those of the contract, and the values that the trace gives besides."""
    further = () if spec is None else spec.values
    return [*outputs, *(value.name for value in further if value.name.startswith("region_"))]


def hide_values(model: onnx.ModelProto, outputs: int, spec: RegionSpec | None) -> None:
    """Keep the first `outputs` of the graph, and the values of `spec` inside it. Raises `ParityError`."""
    graph = model.graph
    hidden = list(graph.output)[outputs:]
    del graph.output[outputs:]
    graph.value_info.extend(hidden)
    if spec is None:
        return
    made = {name for node in graph.node for name in node.output} | {entry.name for entry in graph.initializer}
    read = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    for value in spec.values:
        if value.name not in made or value.name not in read:
            raise ParityError(f"the exporter did not keep the value {value.name}; use another torch version")
