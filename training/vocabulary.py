"""Text vectors of the datasets' categories, encoded once; training draws a name of each category at every step."""

from __future__ import annotations

import torch
from torch import Tensor

from ovs_edge.segmenter.text import TextEncoder
from ovs_edge.training.datasets import SegmentationDataset


class DatasetVocabulary:
    """Names of one dataset's classes as vectors."""

    def __init__(self, dataset: SegmentationDataset, encoder: TextEncoder) -> None:
        self.names = [entry.names for entry in dataset.classes]
        self.vectors = [encoder.encode(list(names)) for names in self.names]

    @property
    def plain(self) -> Tensor:
        """(K, D): each class by its plain name."""
        return torch.stack([vectors[0] for vectors in self.vectors])

    def draw(self, plain_share: float, generator: torch.Generator) -> Tensor:
        """(K, D): each class by its plain name with probability `plain_share`, else by one of its names at random."""
        rows = []
        for vectors in self.vectors:
            plain, which = torch.rand(2, generator=generator).tolist()
            rows.append(vectors[0 if plain < plain_share else int(which * len(vectors))])
        return torch.stack(rows)


def training_vocabulary(datasets: list[SegmentationDataset]) -> list[list[str]]:
    """Every category of the datasets with its synonyms, for the bundle's manifest; equal plain names are merged."""
    merged: dict[str, dict[str, None]] = {}
    for dataset in datasets:
        for entry in dataset.classes:
            merged.setdefault(entry.names[0], {}).update(dict.fromkeys(entry.names))
    return [list(words) for words in merged.values()]


def related_words(datasets: list[SegmentationDataset]) -> dict[str, list[str]]:
    """Plain name of a category -> words for things that overlap it."""
    return {entry.names[0]: list(entry.related) for dataset in datasets for entry in dataset.classes if entry.related}
