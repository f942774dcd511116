"""The options of a `Segmenter`, apart from the engine it runs on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from ...bundle.errors import UsageError
from ...bundle.manifest import Manifest, Task
from ..inference.refinement import UNREFINED, Refinement
from .sensitivity import Sensitivity

THRESHOLD = 0.3  # default confidence threshold, where the bundle states none


@dataclass(frozen=True)
class SegmenterOptions:
    """How a segmenter labels pixels, apart from the engine it runs on."""

    background: str = "auto"  # background classes: "auto" (the trained names), "none", or names such as "wall,floor"
    threshold: float | None = None  # confidence, 0..1, below which pixels get no label; None: the bundle's, or 0.3
    task: str = "auto"  # "semantic", "panoptic", or "auto": what the bundle can do
    stuff: Sequence[str] = ()  # panoptic: classes without instances, besides those that the bundle lists
    exact_words: bool = False  # leave out-of-vocabulary names as they are (vocabulary/out_of_vocabulary.py)
    sensitivity: str = "normal"  # "low", "normal" or "high": how readily a class is found (vocabulary/sensitivity.py)
    refinement: Refinement = UNREFINED  # labels along the frame's edges, small regions; off by default

    def __post_init__(self) -> None:
        for name, kind in (("background", str), ("task", str), ("sensitivity", str)):
            if not isinstance(getattr(self, name), kind):
                raise TypeError(f"{name} is a {type(getattr(self, name)).__name__}, expected a text")
        if isinstance(self.stuff, str):  # whose letters would be taken for names
            raise TypeError(f"stuff is the text {self.stuff[:40]!r}, expected a list of names")


class LoadOptions(TypedDict, total=False):
    """Further keyword arguments of `Segmenter.load`: those of `SegmenterOptions` and of `EngineOptions`."""

    background: str
    threshold: float | None
    task: str
    stuff: Sequence[str]
    exact_words: bool
    sensitivity: str
    refinement: Refinement
    plan: str | Path | None
    force: bool
    side_by_side: bool


def parse_task(name: str, manifest: Manifest) -> Task:
    """What `task` of the options means for a bundle. Raises `UsageError`."""
    if name == "auto":
        return manifest.graph.task
    if name == "semantic":
        return "semantic"
    if name == "panoptic":
        return "panoptic"
    raise UsageError(f"the task is {name!r}, expected auto, semantic or panoptic")


def parse_sensitivity(name: str) -> Sensitivity:
    """The sensitivity of a name. Raises `UsageError`."""
    try:
        return Sensitivity(name)
    except ValueError as error:
        raise UsageError(f"the sensitivity is {name!r}, expected low, normal or high") from error
