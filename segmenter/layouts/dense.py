"""Our own models without queries. No published files have this layout; a `model.pt` of ovs-train names its family."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any

from torch import Tensor

from ...bundle.errors import CheckpointError
from ..config import SegmenterConfig
from ..dense import DenseSegmenter
from .layout import Layout, Vocabulary


class DenseLayout(Layout):
    """Builds `DenseSegmenter`; recognises no published file."""

    family = DenseSegmenter.family
    title = "ovs-edge dense"

    def matches(self, names: AbstractSet[str]) -> int:
        """See `Layout`."""
        return 0

    def build(self, config: SegmenterConfig) -> DenseSegmenter:
        """See `Layout`."""
        return DenseSegmenter(config)

    def load(
        self, state: Mapping[str, Tensor], origin: str, vocabulary: Vocabulary | None = None
    ) -> tuple[DenseSegmenter, dict[str, Any]]:
        """See `Layout`: always raises."""
        raise CheckpointError(f"{origin} holds bare weights; a model of this kind is read from ovs-train's model.pt")
