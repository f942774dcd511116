"""One call from a checkpoint file to a bundle folder: what `ovs-export` runs, and `ovs_edge.export_bundle`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..bundle.manifest import Manifest
from ..segmenter.checkpoint import load_checkpoint
from .bundle_writer import Checkpoint, write_bundle
from .options import ExportRequest, resolve
from .parity import Parity


def export_bundle(
    checkpoint: str | Path,
    output: str | Path,
    request: ExportRequest | None = None,
    *,
    clip_text: str | None = None,
    trust_pickle: bool = False,
    tell: Callable[[str], None] = lambda step: None,
    on_parity: Callable[[Parity], None] = lambda parity: None,
) -> Manifest:
    """Export the checkpoint into the bundle folder `output` and return its manifest.

    The exported graph runs in ONNX Runtime beside torch; `on_parity` is given the comparison before it is judged.
    `clip_text` names the CLIP text encoder of a checkpoint without one, `tell` is called at the start of each step.
    Nothing appears at `output` unless every comparison passes, and an existing bundle there is replaced only then.
    Raises `CheckpointError`, `UsageError`, `ParityError`, `BundleError`.
    """
    path = Path(checkpoint)
    model, extras = load_checkpoint(path, trust_pickle=trust_pickle)
    if clip_text is not None:
        from ..segmenter.text.clip_text_weights import give_text_tower

        give_text_tower(model, extras, clip_text, str(path))
    options = resolve(model.config, request)
    return write_bundle(Path(output), Checkpoint(path, model, extras), options, tell, on_parity)
