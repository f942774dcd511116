"""The bundle that comes with the package, trained and exported by this code. MODEL_CARD.md describes it."""

from __future__ import annotations

from pathlib import Path

from ..bundle.errors import BundleError, CheckpointError


def default_bundle() -> Path:
    """Folder of the embedded bundle; raises `BundleError` where the installation has none."""
    path = Path(__file__).parent / "mini.ovs"
    if not path.is_dir():
        raise BundleError(
            f"this installation has no embedded model (expected {path}); give one with --model NAME.ovs, "
            "made by: ovs-export model.pt -o NAME.ovs"
        )
    return path


def default_weights() -> Path:
    """`model.pt` of the embedded bundle, for `ovs-train --start default`; raises `CheckpointError` where there is none."""
    path = Path(__file__).parent / "mini.pt"
    if not path.is_file():
        raise CheckpointError(f"this installation has no weights of the embedded model (expected {path})")
    return path
