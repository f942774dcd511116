"""The published evaluation of training-free CLIP segmentation, photo by photo, at each photo's own size, in torch.

A bundle has one input size. The published numbers were made at the photos' own proportions, with a threshold for each data
set; so they are reproduced from the weights, not from a bundle. Settings are those of the NACLIP and SC-CLIP releases.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ...bundle.errors import UsageError
from ...bundle.metrics import confusion
from ...data.labelled import PhotoSet
from ...data.names.category_names import CategoryNames
from ...segmenter.clip_dense.background import BACKGROUND_NAMES
from ...segmenter.clip_dense.config import DenseRecipe
from ...segmenter.clip_dense.model import ClipDense
from ...segmenter.clip_dense.refinement import Pamr
from ...segmenter.clip_dense.weights import ClipSource, read_clip
from ...segmenter.layouts.name_vectors import name_vectors
from .accuracy import AccuracyResult, Counts, summarise
from .boundary import boundary_counts

_LONGEST = 2048  # pixels that the long side is scaled to at most


@dataclass(frozen=True)
class PublishedSettings:
    """How one data set is evaluated."""

    short_side: int = 336  # pixels that the short side is scaled to
    scale: float = 40.0  # factor of the cosine before the softmax over all names
    threshold: float = 0.0  # probability below which a pixel is the background
    area: float = 0.0  # share of the foreground below which a class is left out of a photo
    background: bool = False  # class 0 is the background, with names of its own


NACLIP: dict[str, PublishedSettings] = {
    "voc-21": PublishedSettings(threshold=0.1, background=True),
    "voc-20": PublishedSettings(),
    "context-59": PublishedSettings(),
    "context-60": PublishedSettings(threshold=0.1, background=True),
    "coco-object": PublishedSettings(threshold=0.1, background=True),
    "coco-stuff": PublishedSettings(short_side=448),
    "ade20k-150": PublishedSettings(),
    "cityscapes": PublishedSettings(short_side=560),
}
SC_CLIP: dict[str, PublishedSettings] = {
    **NACLIP,
    "voc-21": PublishedSettings(scale=50.0, threshold=0.15, area=0.1, background=True),
    "context-60": PublishedSettings(threshold=0.15, background=True),
    "coco-object": PublishedSettings(scale=55.0, threshold=0.35, background=True),
    "coco-stuff": PublishedSettings(),
}
PUBLISHED = {DenseRecipe.naclip: NACLIP, DenseRecipe.sc_clip: SC_CLIP}


def settings_of(recipe: DenseRecipe, dataset: str) -> PublishedSettings:
    """Settings of a data set, by its kind, such as voc-21; raises `UsageError` for one that nothing was published for."""
    known = PUBLISHED[recipe]
    if dataset not in known:
        raise UsageError(
            f"{recipe.value} was not published for {dataset!r}; --recipe published knows: {', '.join(known)}. Name the "
            "kind before the folder, as in --data voc-21:FOLDER"
        )
    return known[dataset]


def read_names(path: Path, classes: Sequence[CategoryNames]) -> list[tuple[str, ...]]:
    """A published class-name file: one class a line, its names separated by commas. Raises `UsageError`.

    Its lines are put into the order of `classes` where each of these has its name in a line of its own: the releases of
    a data set number its classes differently. Otherwise they are taken as they stand.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the class names {path} ({error}); expected one class a line") from error
    found = [tuple(name.strip() for name in line.split(",") if name.strip()) for line in lines if line.strip()]
    if len(found) != len(classes) or not all(found):
        raise UsageError(
            f"{path} names {len(found)} classes, the data set has {len(classes)}; expected one class a line"
        )
    places = [_line_of(entry, found) for entry in classes]
    # The background's line has names of its own; whichever line is left is the background's.
    rest = sorted(set(range(len(found))) - set(places))
    places = [rest[0] if place is None and len(rest) == 1 else place for place in places]
    ordered = [found[place] for place in places if place is not None]
    return ordered if len(ordered) == len(set(places)) == len(found) else found


def _line_of(entry: CategoryNames, lines: Sequence[tuple[str, ...]]) -> int | None:
    """The one line that has a class's plain name, or else one of its other names; None where none or several have."""
    for names in (entry.names[:1], entry.names):
        wanted = set(map(_plain, names))
        found = [index for index, line in enumerate(lines) if wanted & set(map(_plain, line))]
        if len(found) == 1:
            return found[0]
    return None


def _plain(name: str) -> str:
    return "".join(filter(str.isalnum, name.lower()))


def default_names(photos: PhotoSet, settings: PublishedSettings) -> list[tuple[str, ...]]:
    """The data set's own names; of the background, this project's list."""
    found: list[tuple[str, ...]] = [(entry.names[0],) for entry in photos.classes]
    if settings.background:
        taken = {name for names in found for name in names}
        found[0] = tuple(name for entry in BACKGROUND_NAMES for name in entry if name not in taken)
    return found


class PublishedClip:
    """A plain CLIP as the published code evaluates it."""

    def __init__(self, source: str, recipe: DenseRecipe) -> None:
        """`source` as `ovs-export --clip` takes it. Raises `UsageError`, `CheckpointError`."""
        weights = read_clip(ClipSource.parse(source))
        self.name = weights.origin
        self._model: ClipDense = weights.model(recipe=recipe)
        self._recipe = recipe
        self._text, self._text_state = weights.text, weights.text_state

    def encode(self, names: Sequence[tuple[str, ...]]) -> tuple[Tensor, list[int]]:
        """Unit vectors (N, D) of all names, and how many each class has; 80 prompts a name."""
        flat = [name for entry in names for name in entry]
        return name_vectors(self._text, self._text_state, flat, self.name), [len(entry) for entry in names]

    @torch.no_grad()
    def labels(
        self, photo: npt.NDArray[np.uint8], names: tuple[Tensor, list[int]], settings: PublishedSettings
    ) -> npt.NDArray[np.int32]:
        """Class index (H, W) of a BGR photo (H, W, 3)."""
        vectors, counts = names
        height, width = photo.shape[:2]
        scale = min(_LONGEST / max(height, width), settings.short_side / min(height, width))
        size = (int(height * scale + 0.5), int(width * scale + 0.5))
        small = cv2.resize(photo, size[::-1], interpolation=cv2.INTER_LINEAR)
        image = torch.from_numpy(np.ascontiguousarray(small[..., ::-1])).permute(2, 0, 1)[None].float()
        pixels = self._model.normalise(image)
        cosines = self._model.scorer(size).cosines(pixels, vectors).permute(2, 0, 1)[None]
        logits = nn.functional.interpolate(cosines, size=(height, width), mode="bilinear", align_corners=False)[0]
        if self._recipe is DenseRecipe.naclip:  # published with this refinement, SC-CLIP without
            full = nn.functional.interpolate(pixels, size=(height, width), mode="bilinear", align_corners=False)
            logits = Pamr()(logits.permute(1, 2, 0), full[0].permute(1, 2, 0)).permute(2, 0, 1)
        return decide(settings.scale * logits, counts, settings)


def decide(logits: Tensor, counts: Sequence[int], settings: PublishedSettings) -> npt.NDArray[np.int32]:
    """Scaled cosines (N, H, W), names of each class -> class index (H, W), by the published rules."""
    groups = logits.softmax(0).split(list(counts))  # type: ignore[no-untyped-call]
    classes = torch.stack([group.amax(0) for group in groups])
    if settings.area:
        found = torch.bincount(classes.argmax(0).flatten(), minlength=len(classes))[1:]
        classes[1:] *= (found > settings.area * found.sum()).to(classes.dtype)[:, None, None]
    best = classes.max(0)
    return np.asarray(best.indices.masked_fill(best.values < settings.threshold, 0).to(torch.int32).numpy(), np.int32)


def measure_published(
    clip: PublishedClip,
    photos: PhotoSet,
    names: Sequence[tuple[str, ...]],
    settings: PublishedSettings,
    on_photo: Callable[[], None] = lambda: None,
) -> AccuracyResult:
    """Evaluate all photos; every name competes, as published."""
    encoded, total = clip.encode(names), Counts.zero(len(names))
    for index in range(len(photos)):
        photo = photos.load(index)
        found = clip.labels(photo.image, encoded, settings)
        truth = photo.truth.labels.astype(np.int32)
        total += Counts(confusion(truth, found, len(names)), boundary_counts(truth, found, len(names)))
        on_photo()
    labels = tuple(entry.names[0] for entry in photos.classes)
    return summarise(total, labels, photos, stage="published")
