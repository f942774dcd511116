"""Reads regions with a bundle's FP32 graph, in a session of its own that is opened when the first one is read.

The graph that runs, in whatever precision and on whatever engine, is left as it is: it computes nothing more for
examples that are never shown, and vectors are the same with every precision.
"""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ...bundle.bundle import Bundle
from ...bundle.errors import BundleError, UsageError
from ..engines.onnx_runtime import open_graph
from ..inference.preprocess import to_input
from ..vocabulary.centring import unit
from .features import PictureFeatures, PlaceFeatures, QueryFeatures
from .fitting import FittedVector
from .graph_values import with_outputs
from .place_statistics import PlaceStatistics
from .region import Mask, ShownRegion, as_mask, box_mask, pixel_of
from .region_spec import EXAMPLES, PlacesSpec, QueriesSpec, RegionSpec
from .text_space import ProjectedTextSpace, TextSpace

_MOST_BYTES = 8 * 2**20  # of examples.json
_PRECISION = "fp32"

Image = npt.NDArray[np.uint8]  # (H, W, 3) BGR


@dataclass(frozen=True)
class ReadRegion:
    """What was read of a region."""

    mask: Mask  # (H, W) of the picture: of a point, the region under it
    vector: npt.NDArray[np.float32]  # (C,), unit, as the network compares it
    features: PictureFeatures  # of the whole picture

    def winners(self, names: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Share (N,) of the region in which each of `names` (N, C), unit, is the nearest."""
        return self.features.winners(self.mask, names)

    def fitted(self, rivals: npt.NDArray[np.float32]) -> FittedVector | None:
        """The vector fitted to win the region against `rivals` (R, C), unit; None where none can be fitted."""
        return self.features.fitted(self.mask, rivals)


class RegionReader:
    """The regions of pictures as vectors. Every method may be called from any thread."""

    def __init__(self, bundle: Bundle, threads: int = 0) -> None:
        self._bundle, self._threads = bundle, threads
        self._lock = threading.Lock()
        self._session: Any = None
        self._spec: RegionSpec | None = None
        self._space: TextSpace | None = None
        self._statistics: PlaceStatistics | None = None
        self._latest: tuple[bytes, PictureFeatures] | None = None  # a click is looked at, then added

    @property
    def available(self) -> bool:
        """Whether the bundle says how its regions are read."""
        return EXAMPLES in self._bundle.manifest.digests

    @property
    def identity(self) -> str:
        """Digest of what gives vectors their meaning: vectors of another identity mean nothing here."""
        return self._bundle.manifest.digests[self._bundle.manifest.precisions[_PRECISION]]

    def open(self) -> None:
        """Load the graph now. Raises `UsageError` for a bundle without examples, `BundleError`."""
        with self._lock:
            self._opened()

    def close(self) -> None:
        """Free the graph; it is loaded again when the next region is read."""
        with self._lock:
            self._session = self._latest = None

    @property
    def space(self) -> TextSpace:
        """Between text vectors and those of regions. Raises as `open`."""
        with self._lock:
            self._opened()
            assert self._space is not None
            return self._space

    def features(self, image: Image) -> PictureFeatures:
        """The features of a picture; those of the latest one are kept. Raises as `open`."""
        digest = hashlib.sha256(str(image.shape).encode())
        digest.update(np.ascontiguousarray(image).data)  # a large picture is not copied for it
        key = digest.digest()
        with self._lock:
            if self._latest is None or self._latest[0] != key:
                self._latest = key, self._read(image)
            return self._latest[1]

    def read(self, image: Image, region: ShownRegion) -> ReadRegion:
        """The vector of a region, and its pixels. Raises `UsageError` for a region outside of the picture."""
        size = (image.shape[0], image.shape[1])
        if region.point is not None:
            x, y = pixel_of(region.point, size)
            features = self.features(image)
            mask = features.proposal(x, y)
        else:
            if region.box is not None:
                mask = box_mask(region.box, size)
            else:
                assert region.mask is not None
                mask = as_mask(region.mask, size)
            features = self.features(image)
        vector = features.vector(mask)
        if not np.isfinite(vector).all():
            raise BundleError(f"{self._bundle.path} gives a region numbers that are not finite; export it again")
        return ReadRegion(mask, vector, features)

    def _opened(self) -> tuple[Any, RegionSpec]:
        if self._session is None or self._spec is None:
            spec = read_spec(self._bundle)
            known = {value.name for value in self._bundle.manifest.graph.outputs}
            path = self._bundle.path / self._bundle.manifest.precisions[_PRECISION]
            further = [value for value in spec.values if value.name not in known]
            try:
                model = with_outputs(path.read_bytes(), further)
            except OSError as error:
                raise BundleError(f"cannot read {path} ({error}); copy the bundle again") from error
            # On the CPU, like the text encoder: it must not take a GPU's memory, nor delay the stream there.
            self._session = open_graph(path, self._threads, "cpu", arena=False, contents=model)
            self._spec = spec
            measured = None if spec.places is None else spec.places.statistics
            if measured is not None:
                self._statistics = PlaceStatistics.of(np.array(measured.mean), np.array(measured.covariance))
            self._space = self._text_space(spec)
        return self._session, self._spec

    def _text_space(self, spec: RegionSpec) -> TextSpace:
        given = None if spec.places is None else spec.places.projection
        if given is None:
            return TextSpace()
        height, width = self._bundle.manifest.input_size
        weight, bias = self._run([given.weight.name, given.bias.name], np.zeros((1, height, width, 3), np.uint8))
        return ProjectedTextSpace(weight, bias, None if self._statistics is None else self._statistics.unused)

    def _read(self, image: Image) -> PictureFeatures:
        _, spec = self._opened()
        tensor, letterbox = to_input(image, self._bundle.manifest.input_size)
        if spec.places is not None:
            (vectors,) = self._run([spec.places.vectors.name], tensor)
            return PlaceFeatures(_rows(vectors, spec.places), _boxes(spec.places), letterbox, self._statistics)
        assert spec.queries is not None
        *parts, masks = self._run([value.name for value in spec.values], tensor)
        return QueryFeatures(_mixed(parts, spec.queries), _probabilities(masks[0]), letterbox)

    def _run(self, values: list[str], tensor: Image) -> list[npt.NDArray[np.float32]]:
        text = np.zeros((1, 1, self._bundle.manifest.text.dim), np.float32)
        text[..., 0] = 1
        try:
            found = self._session.run(values, {"image": tensor, "text_embeddings": text})
        except Exception as error:  # the binding raises a dozen unrelated types
            raise BundleError(
                f"{self._bundle.path} does not give what its {EXAMPLES} promises ({error}); export the bundle again"
            ) from error
        return [np.asarray(value, np.float32) for value in found]


def read_spec(bundle: Bundle) -> RegionSpec:
    """What a bundle says of its regions. Raises `UsageError` for one that cannot read examples, `BundleError`."""
    if EXAMPLES not in bundle.manifest.digests:
        raise UsageError(
            f"the bundle {bundle.path} takes names only: it was exported before examples could be shown; export it "
            "again with ovs-export"
        )
    path = bundle.path / EXAMPLES
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise BundleError(f"{path} is larger than {_MOST_BYTES >> 20} MiB; export the bundle again")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BundleError(f"cannot read {path} ({error}); export the bundle again") from error
    spec = RegionSpec.from_json(text, str(path), bundle.manifest.text.dim)
    height, width = bundle.manifest.input_size
    if spec.places is not None and any(box[2] > height or box[3] > width for box in spec.places.windows):
        raise BundleError(f"{path} has windows outside the input of {width}x{height}; export the bundle again")
    return spec


def _rows(vectors: npt.NDArray[np.float32], places: PlacesSpec) -> npt.NDArray[np.float32]:
    """Vectors (N, C) of all places, window by window, row by row."""
    if places.channels_first:
        vectors = np.moveaxis(vectors, 1, -1)
    return np.ascontiguousarray(vectors.reshape(-1, vectors.shape[-1]))


def _boxes(places: PlacesSpec) -> npt.NDArray[np.int32]:
    """Boxes (N, 4) of all places: top, left, bottom, right in the input's pixels."""
    rows, columns = places.grid
    boxes = []
    for top, left, bottom, right in places.windows:
        ys = np.linspace(top, bottom, rows + 1).round().astype(np.int32)
        xs = np.linspace(left, right, columns + 1).round().astype(np.int32)
        low_y, low_x = np.meshgrid(ys[:-1], xs[:-1], indexing="ij")
        high_y, high_x = np.meshgrid(ys[1:], xs[1:], indexing="ij")
        boxes.append(np.stack([low_y, low_x, high_y, high_x], axis=-1).reshape(-1, 4))
    return np.concatenate(boxes)


def _mixed(parts: list[npt.NDArray[np.float32]], queries: QueriesSpec) -> npt.NDArray[np.float32]:
    """Vectors (Q, D) as a name's logit weighs the classifiers."""
    total = np.zeros(parts[0].shape[1:], np.float32)
    for part, share in zip(parts, queries.shares, strict=True):
        total += np.float32(share) * part[0]
    return unit(total)


def _probabilities(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return np.asarray(1 / (1 + np.exp(-np.clip(logits, -30, 30))), np.float32)
