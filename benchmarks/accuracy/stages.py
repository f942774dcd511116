"""The stages from checkpoint to device, each behind the `Segmenter` that `ovs-run` uses.

torch   the checkpoint and its text encoder in torch, FP32
fp32    the bundle's ONNX graph and, from here on, the bundle's text encoder
…       every other precision of the bundle
plan    a TensorRT plan of the bundle, on a GPU
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ...bundle.bundle import Bundle, sha256
from ...bundle.errors import UsageError, require
from ...bundle.manifest import Task
from ...runtime.engines.plan import Plan
from ...runtime.engines.session import RawOutputs
from ...runtime.segmenter import Segmenter, SegmenterOptions
from ...runtime.vocabulary.class_vectors import Progress

if TYPE_CHECKING:
    from typing_extensions import Self

TORCH, PLAN = "torch", "plan"
_ORDER = ("fp32", "fp16", "int8-cpu", "int8")  # of the precisions; others follow by name


@dataclass(frozen=True)
class Stage:
    """One way to run a bundle."""

    name: str  # TORCH, PLAN, or one of the bundle's precisions
    checkpoint: Path | None = None  # of TORCH
    plan: Path | None = None  # of PLAN: a folder that ovs-build made


def choose_stages(bundle: Bundle, wanted: str, checkpoint: Path | None, plan: Path | None) -> list[Stage]:
    """Stages of a comma-separated list, or for "all" every stage that can be run, in their order.

    Raises `UsageError` for a stage that the bundle does not have, or whose file is missing or of another bundle.
    """
    have = sorted(bundle.manifest.precisions, key=lambda name: (_ORDER.index(name) if name in _ORDER else 99, name))
    if wanted == "all":
        names = [*([TORCH] if checkpoint else []), *have, *([PLAN] if plan else [])]
    else:
        names = [name.strip() for name in wanted.split(",") if name.strip()]
    unknown = [name for name in names if name not in (TORCH, PLAN, *have)]
    if unknown or not names or len(set(names)) < len(names):
        raise UsageError(
            f"the stages are {wanted!r}, expected 'all' or different ones of: {', '.join((TORCH, *have, PLAN))}"
        )
    if TORCH in names:
        if bundle.manifest.graph.clip_dense is not None:
            raise UsageError(
                f"the stage torch reads a checkpoint, and {bundle.path} was made from plain CLIP weights; leave it out, "
                "or evaluate the weights in torch with: --recipe published --clip MODEL/WEIGHTS"
            )
        if checkpoint is None:
            raise UsageError(
                "the stage torch needs the checkpoint that the bundle was made from: --checkpoint model.pt"
            )
        made_from = bundle.manifest.provenance.get("checkpoint_sha256")
        if checkpoint.is_file() and sha256(checkpoint) != made_from:
            raise UsageError(
                f"{checkpoint} is not the checkpoint that {bundle.path} was made from (sha256 {str(made_from)[:12]}…)"
            )
    if PLAN in names and plan is None:
        raise UsageError("the stage plan needs a plan of the bundle: --plan NAME.plan, made by ovs-build")
    return [Stage(name, checkpoint if name == TORCH else None, plan if name == PLAN else None) for name in names]


def open_stage(path: Path, stage: Stage, threads: int, stuff: Sequence[str] | None) -> Segmenter:
    """A segmenter without background classes or confidence threshold: every pixel gets one of the active classes.

    `stuff` names the classes without instances, for panoptic segmentation; None is semantic segmentation.
    Raises `BundleError`, `UsageError`, `CheckpointError`, `MissingExtraError`.
    """
    panoptic = stuff is not None and Bundle.open(path, verify=False).manifest.graph.task == "panoptic"
    task: Task = "panoptic" if panoptic else "semantic"
    words = tuple(stuff or ()) if panoptic else ()
    if stage.name == TORCH:
        assert stage.checkpoint is not None
        bundle = Bundle.open(path)
        reference = TorchReference(bundle, stage.checkpoint, threads)
        return Segmenter(bundle.manifest, reference, reference, SegmenterOptions("none", 0.0, task, words))
    options: Any = {"background": "none", "threshold": 0.0, "task": task, "stuff": words}
    if stage.name == PLAN:
        assert stage.plan is not None
        precision = Plan.open(stage.plan).sidecar.precision
        return Segmenter.load(path, precision, threads, "tensorrt", plan=stage.plan, **options)
    # Forced: the accuracy of a precision that failed its parity check can be measured as well.
    return Segmenter.load(path, stage.name, threads, "cpu", force=True, **options)


class TorchReference:
    """The checkpoint in torch, as session and as text encoder: the reference of all later stages."""

    at_once = 1

    def __init__(self, bundle: Bundle, checkpoint: Path, threads: int) -> None:
        torch = require("torch", "export")
        from ...export.options import ExportRequest, resolve
        from ...segmenter.checkpoint import load_checkpoint
        from ...segmenter.text.encoder import load_text_encoder

        if threads:
            torch.set_num_threads(threads)
        self._model, extras = load_checkpoint(checkpoint)
        self._text = load_text_encoder(self._model.config.text, extras.get("text_encoder"), str(checkpoint))
        graph = bundle.manifest.graph
        request = ExportRequest(
            size=bundle.manifest.input_size,
            decoder_layers=graph.decoder_layers,
            masks=graph.masks,
            msda=graph.msda,
            task=graph.task,
        )
        self._options = resolve(self._model.config, request)

    def encode(self, names: Sequence[str], progress: Progress | None = None) -> npt.NDArray[np.float32]:
        """See `runtime.vocabulary.class_vectors.Encoder`."""
        return np.asarray(self._text.encode(names).numpy(), np.float32)

    def preload(self) -> None:
        """See `runtime.vocabulary.class_vectors.Encoder`: loaded already."""

    def run(
        self, image: npt.NDArray[np.uint8], text_embeddings: npt.NDArray[np.float32]
    ) -> tuple[npt.NDArray[np.integer], npt.NDArray[np.float32]]:
        """See `Session.run`."""
        labels, confidence = self._reference(image)(0, text_embeddings)
        return labels, confidence

    def run_raw(self, image: npt.NDArray[np.uint8], text_embeddings: npt.NDArray[np.float32]) -> RawOutputs:
        """See `Session.run_raw`."""
        reference = self._reference(image)
        labels, confidence = reference(0, text_embeddings)
        output = reference.output(0, text_embeddings)
        return RawOutputs(labels, confidence, output.mask_logits.numpy(), output.class_logits.numpy())

    def _reference(self, image: npt.NDArray[np.uint8]) -> Any:
        from ...export.parity import Reference

        return Reference(self._model, self._options, [image])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to free."""
