"""Vocabularies that are too large for a plain CLIP."""

from __future__ import annotations

from ...bundle.manifest import Manifest
from ..inference.frame_processor import ActiveClasses

# The largest class list that such models have published results for (COCO-Stuff). With hundreds of near-synonyms every
# name gets a small share of the softmax, and which of them wins is a matter of chance.
MANY_NAMES = 171


def many_names(manifest: Manifest, active: ActiveClasses) -> str | None:
    """A sentence for the user when a plain CLIP is asked for more names than it can tell apart; else None."""
    if manifest.graph.clip_dense is None:
        return None
    count = sum(len(entry.names) for entry in active.classes)
    if count <= MANY_NAMES:
        return None
    return (
        f"{count} names are asked for at once; a plain CLIP tells at most some {MANY_NAMES} apart, and near-synonyms take "
        "each other's pixels. Ask for fewer, or for those that the pictures can show"
    )
