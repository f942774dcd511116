"""What runs a segmenter graph, whichever engine does it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
import numpy.typing as npt

from ...bundle.bundle import Bundle
from ...bundle.errors import UsageError

if TYPE_CHECKING:
    from typing_extensions import Self

Provider = Literal["auto", "cpu", "cuda", "tensorrt"]


@dataclass(frozen=True)
class RawOutputs:
    """Everything that a panoptic graph gives."""

    labels: npt.NDArray[np.integer]  # (1, h, w)
    confidence: npt.NDArray[np.float32]  # (1, h, w)
    mask_logits: npt.NDArray[np.float32]  # (1, Q, H/4, W/4)
    class_logits: npt.NDArray[np.float32]  # (1, Q, K + 1), the last column is "no object"


class Session(Protocol):
    """A loaded graph. A context manager: leaving it frees the engine."""

    @property
    def at_once(self) -> int:
        """How many runs may be under way at the same time, each in a thread of its caller; often one."""
        ...

    def run(
        self, image: npt.NDArray[np.uint8], text_embeddings: npt.NDArray[np.float32]
    ) -> tuple[npt.NDArray[np.integer], npt.NDArray[np.float32]]:
        """Labels (1, h, w) and confidence (1, h, w) for an image (1, H, W, 3) BGR and text vectors (K, S, D).

        A zero row of the vectors is no name, and a class with no name never wins.
        """
        ...

    def run_raw(self, image: npt.NDArray[np.uint8], text_embeddings: npt.NDArray[np.float32]) -> RawOutputs:
        """`run` with the queries' masks and classes as well; only for a bundle whose task is panoptic."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def open_session(
    bundle: Bundle,
    precision: str = "fp32",
    threads: int = 0,
    provider: Provider = "auto",
    plan: Path | None = None,
    side_by_side: bool = False,
) -> Session:
    """Load the bundle's segmenter. `threads` 0 leaves the number to the engine; `plan` is a folder of `ovs-build`.

    `side_by_side` lets a CPU work on several frames at once rather than on one with all its cores.

    Raises `UsageError` for a precision or provider that is not there, `BundleError` for a graph that does not load,
    `PlanError` for a plan.
    """
    if plan is not None and provider not in ("auto", "tensorrt"):
        raise UsageError(f"a plan runs on TensorRT, the provider is {provider!r}; leave one of the two out")
    if plan is not None or provider == "tensorrt":
        from .open_plan import open_plan

        return open_plan(bundle, precision, plan)
    from .onnx_runtime import OnnxSession

    return OnnxSession(bundle, precision, threads, provider, side_by_side)
