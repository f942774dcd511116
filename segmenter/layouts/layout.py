"""What every checkpoint layout provides."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, ClassVar

from torch import Tensor

from ..config import SegmenterConfig
from ..model import ImageModel

Vocabulary = Sequence[Sequence[str]]  # each training class with its names


class Layout(ABC):
    """One kind of published checkpoint: how to recognise a file of it, and how to make it our model.

    To add a layout, write a module with a subclass and put an instance of it into `registry.LAYOUTS`.
    """

    family: ClassVar[str]  # as in `SegmenterConfig.family`
    title: ClassVar[str]  # what messages and the provenance call it
    presets: ClassVar[Mapping[str, Callable[[], SegmenterConfig]]] = {}  # configs of the published sizes, by name

    @abstractmethod
    def matches(self, names: AbstractSet[str]) -> int:
        """How many of a file's parameter names belong to this layout alone; 0 for a file of another layout.

        The layout with the largest number reads the file.
        """

    @abstractmethod
    def build(self, config: SegmenterConfig) -> ImageModel:
        """The model of a config of this family, with random weights."""

    @abstractmethod
    def load(
        self, state: Mapping[str, Tensor], origin: str, vocabulary: Vocabulary | None = None
    ) -> tuple[ImageModel, dict[str, Any]]:
        """The model in eval mode and what else the file tells, see `published.load_published`.

        `origin` names the file in messages. `vocabulary` is what the file was trained with, where it is not the
        layout's usual one. Raises `CheckpointError` for parameters that are missing, unknown or of another shape.
        """
