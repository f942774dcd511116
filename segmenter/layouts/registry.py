"""All checkpoint layouts. A new one is its own module and one entry in `LAYOUTS`."""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from ...bundle.errors import CheckpointError
from ..config import PRESETS, SegmenterConfig, preset
from ..model import ImageModel
from .dense import DenseLayout
from .fcclip import FCClipLayout
from .gkc import GkcLayout
from .layout import Layout

LAYOUTS: tuple[Layout, ...] = (
    GkcLayout(),
    FCClipLayout(),
    DenseLayout(),
)


def recognise(names: AbstractSet[str]) -> Layout | None:
    """The layout of a published file by its parameter names; None for a file of no known layout."""
    best = max(LAYOUTS, key=lambda layout: layout.matches(names))
    return best if best.matches(names) else None


def layout_of(family: str) -> Layout:
    """The layout of `SegmenterConfig.family`; raises `CheckpointError` for one this version does not know."""
    for layout in LAYOUTS:
        if layout.family == family:
            return layout
    known = ", ".join(layout.family for layout in LAYOUTS)
    raise CheckpointError(f"the model is of the family {family!r}, this version knows: {known}; update ovs-edge")


def build_model(config: SegmenterConfig) -> ImageModel:
    """The model of a config, with random weights."""
    return layout_of(config.family).build(config)


def any_preset(name: str) -> SegmenterConfig:
    """A preset by name, of ours or of a published model; raises `UsageError` naming those there are."""
    published = {name: make for layout in LAYOUTS for name, make in layout.presets.items()}
    return preset(name, {**PRESETS, **published})
