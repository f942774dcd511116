"""Checks a bundle's graph against its manifest before any work: a bundle may come from anywhere."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, ValueInfoProto, numpy_helper

from ...bundle.errors import BundleError, UsageError
from ...bundle.manifest import Manifest, TensorSpec

MAX_SIDE = 8192  # pixels of an input's side
_ADVICE = "export the bundle again"
_TYPES = {
    "uint8": TensorProto.UINT8,
    "int32": TensorProto.INT32,
    "int64": TensorProto.INT64,
    "float32": TensorProto.FLOAT,
}


def check_graph(path: Path, manifest: Manifest) -> None:
    """Raise unless the graph at `path` is valid ONNX with the manifest's inputs and outputs and finite weights.

    `UsageError` for a graph of several images; `BundleError` for anything else. Operators must be known, each after what
    it reads. A fixed size in the graph must be the manifest's. Weights outside the file are refused: they could be any file.
    """
    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # protobuf raises types of its own
        raise BundleError(f"{path} is no ONNX file ({_first_line(error)}); {_ADVICE}") from error
    if manifest.batch > 1:
        raise UsageError(
            f"{path.parent} takes {manifest.batch} images at once and runs in ONNX Runtime in FP32 only; export it without "
            "--batch to calibrate it or to build a plan"
        )
    height, width = manifest.input_size
    if not (0 < height <= MAX_SIDE and 0 < width <= MAX_SIDE):
        raise BundleError(
            f"the manifest of {path.parent} has an input of {width}x{height} pixels, expected sides of 1 to "
            f"{MAX_SIDE}; {_ADVICE}"
        )
    _check_values(path, model.graph.input, manifest.graph.inputs, "input")
    _check_values(path, model.graph.output, manifest.graph.outputs, "output")
    for tensor in model.graph.initializer:
        if tensor.data_location == TensorProto.EXTERNAL:
            raise BundleError(f"{path}: the weight {tensor.name[:80]!r} lies in another file; {_ADVICE}")
        if tensor.data_type in (TensorProto.FLOAT, TensorProto.FLOAT16) and not _finite(tensor):
            raise BundleError(f"{path}: the weight {tensor.name[:80]!r} holds NaN or infinite values; {_ADVICE}")
    try:
        onnx.checker.check_model(model)
    except Exception as error:  # ValidationError, or a type of its parser's
        raise BundleError(f"{path} is no valid ONNX graph ({_first_line(error)}); {_ADVICE}") from error


def _check_values(path: Path, values: Iterable[ValueInfoProto], specs: Sequence[TensorSpec], kind: str) -> None:
    found = {value.name: value.type.tensor_type for value in values}
    expected = [spec.name for spec in specs]
    if sorted(found) != sorted(expected):
        raise BundleError(
            f"{path} has the {kind}s {', '.join(sorted(found))[:200]}, its manifest "
            f"{', '.join(sorted(expected))[:200]}; {_ADVICE}"
        )
    for spec in specs:
        kept = found[spec.name]
        sizes = [dim.dim_value for dim in kept.shape.dim]  # 0 where free
        fits = len(sizes) == len(spec.shape) and all(
            not size or not isinstance(stated, int) or size == stated
            for size, stated in zip(sizes, spec.shape, strict=True)
        )
        if not fits or kept.elem_type != _TYPES.get(spec.dtype):
            raise BundleError(
                f"{path}: the {kind} {spec.name!r} differs in type or size from the manifest's {spec.dtype} "
                f"{list(spec.shape)}; {_ADVICE}"
            )


def _finite(tensor: TensorProto) -> bool:
    try:
        return bool(np.isfinite(numpy_helper.to_array(tensor)).all())
    except (ValueError, TypeError):  # its bytes do not fit its sizes
        return False


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:160]
