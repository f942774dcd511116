"""The bundle that comes with the package, trained and exported by this code. MODEL_CARD.md describes it."""

from __future__ import annotations

from pathlib import Path

from ..bundle.errors import BundleError


def default_bundle() -> Path:
    """Folder of the embedded bundle; raises `BundleError` where the installation has none."""
    path = Path(__file__).parent / "mini.ovs"
    if not path.is_dir():
        raise BundleError(
            f"this installation has no embedded model (expected {path}); give one with --model NAME.ovs, "
            "made by: ovs-export model.pt -o NAME.ovs"
        )
    return path
