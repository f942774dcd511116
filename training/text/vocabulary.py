"""Text vectors of the datasets' categories, encoded once, and by which of their names a training step classifies."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...data.datasets import SegmentationDataset
from ...data.names.category_names import distinct_names
from ...runtime.vocabulary.background import Background, Spellings, names
from ...segmenter.text.encoder import TorchTextEncoder
from ..choices import NamesMode
from ..pseudo.dataset import own_classes
from .diversify import draw_name


class DatasetVocabulary:
    """Names of one dataset's classes as vectors, and the mode in which training uses them.

    plain: plain names only. random: the plain name or a hand-written synonym by chance, at every step anew. draw: plain
    names, and beside them a name for each region that a teacher finds likely (text diversification). max and mean: all
    names of a class at once, by the nearest or by their mean (its cluster variants).
    """

    def __init__(
        self,
        dataset: SegmentationDataset,
        encoder: TorchTextEncoder,
        mode: NamesMode = NamesMode.RANDOM,
        plain_share: float = 0.5,
    ) -> None:
        self.mode, self.plain_share, self.own = mode, plain_share, own_classes(dataset)
        self.words: list[tuple[str, ...]]  # of each class, the plain name first
        if mode == NamesMode.PLAIN:
            self.words = [entry.names[:1] for entry in dataset.classes]
        elif mode == NamesMode.RANDOM:
            self.words = [entry.names for entry in dataset.classes]
        else:
            self.words = distinct_names(dataset.classes)
        encoded = encoder.encode([name for names in self.words for name in names])
        # (S, D) unit, of each class
        self.vectors: list[Tensor] = list(torch.split(encoded, [len(names) for names in self.words]))

    @property
    def plain(self) -> Tensor:
        """(K, D): each class by its plain name."""
        return torch.stack([vectors[0] for vectors in self.vectors])

    def names(self, generator: torch.Generator) -> Tensor:
        """(K, S, D): the names by which one step classifies; a zero row is no name."""
        if self.mode == NamesMode.RANDOM:
            return self.draw(self.plain_share, generator)[:, None]
        if self.mode == NamesMode.MAX:
            return nn.utils.rnn.pad_sequence(self.vectors, batch_first=True)
        if self.mode == NamesMode.MEAN:
            means = torch.stack([vectors.mean(0) for vectors in self.vectors])
            return nn.functional.normalize(means, dim=-1)[:, None]
        return self.plain[:, None]

    def draw(self, plain_share: float, generator: torch.Generator) -> Tensor:
        """(K, D): each class by its plain name with probability `plain_share`, else by one of its names at random."""
        rows = []
        for vectors in self.vectors:
            plain, which = torch.rand(2, generator=generator).tolist()
            rows.append(vectors[0 if plain < plain_share else int(which * len(vectors))])
        return torch.stack(rows)

    def draw_regions(self, classes: Tensor, teacher: Tensor, generator: torch.Generator) -> Tensor:
        """A name for each region of an image, one of those the teacher finds likely: (R, D) unit, on the CPU.

        classes (R,) int64; teacher (R, D) unit vectors in the text space, a zero row where it knows nothing.
        """
        rows = []
        for index, seen in zip(classes.tolist(), teacher, strict=True):
            vectors = self.vectors[index]
            rows.append(vectors[draw_name(vectors @ seen, generator, known=bool(seen.any()))])
        return torch.stack(rows) if rows else teacher

    def draw_absent(self, classes: Tensor, generator: torch.Generator) -> Tensor:
        """One of the names, by chance, of each class that an image with `classes` (R,) surely does not show: (N, D)
        unit.

        Classes that a model found in the photos may be anywhere.
        """
        shown = set(classes.tolist())
        chances = torch.rand(len(self.vectors), generator=generator).tolist()
        rows = [
            vectors[int(chance * len(vectors))]
            for index, (vectors, chance) in enumerate(zip(self.vectors, chances, strict=True))
            if index not in shown and index < self.own
        ]
        return torch.stack(rows) if rows else self.plain[:0]


def training_vocabulary(datasets: list[SegmentationDataset]) -> list[list[str]]:
    """Every category of the datasets with its synonyms, for the bundle's manifest; equal plain names are merged."""
    merged: dict[str, dict[str, None]] = {}
    for dataset in datasets:
        for entry in dataset.classes:
            merged.setdefault(entry.names[0], {}).update(dict.fromkeys(entry.names))
    return [list(words) for words in merged.values()]


def rival_names(datasets: list[SegmentationDataset], encoder: TorchTextEncoder) -> list[list[str]]:
    """For each dataset the plain names of the others' categories that mean none of its own.

    Chosen as at inference, where all of these names are background classes for the active classes. A model that
    has never seen them compete takes the cars of a dataset without trucks for trucks.
    """
    classes = training_vocabulary(datasets)
    background = Background(classes, encoder.encode(names(classes)).numpy(), related_words(datasets))
    found = []
    for dataset in datasets:
        plain = names(entry.names[:1] for entry in dataset.classes)
        kept = set(background.away_from(plain, background.vectors(plain)))
        # Nor may what overlaps a category of its own compete: a house in a dataset that calls houses buildings.
        own = Spellings.of(names((*entry.names, *entry.related) for entry in dataset.classes))
        found.append([entry[0] for entry in classes if entry[0] in kept and not own.match(entry[0])])
    return found


def related_words(datasets: list[SegmentationDataset]) -> dict[str, list[str]]:
    """Plain name of a category -> words for things that overlap it."""
    return {entry.names[0]: list(entry.related) for dataset in datasets for entry in dataset.classes if entry.related}
