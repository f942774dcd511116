"""Mean IoU of a torch model on a validation split, through the deployed preprocessing."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ..bundle.errors import DatasetError
from ..bundle.letterbox import PAD_BGR, Letterbox
from ..bundle.metrics import IoU, confusion, intersection_over_union
from ..data.datasets import SegmentationDataset
from ..segmenter.dense import DenseSegmenter
from ..segmenter.model import semantic_scores
from .losses.objectives import TrainableModel
from .splits import Split, score

_log = logging.getLogger("ovs_edge.training")


def count_confusion(
    model: TrainableModel,
    dataset: SegmentationDataset,
    vectors: Tensor,
    view: int,
    depth: int | None = None,
    indices: Sequence[int] | None = None,
) -> npt.NDArray[np.int64]:
    """Confusion (K, K + 1) at the photos' own sizes, over the whole split or the photos `indices`.

    `vectors` (K, D), or (K, S, D) for several names a class; `view` is the input's side, pixels. A photo that cannot
    be read is logged and left out.
    """
    return count_confusions(model, dataset, [vectors], view, depth, indices)[0]


def count_confusions(
    model: TrainableModel,
    dataset: SegmentationDataset,
    vocabularies: Sequence[Tensor],
    view: int,
    depth: int | None = None,
    indices: Sequence[int] | None = None,
) -> list[npt.NDArray[np.int64]]:
    """`count_confusion` for several vocabularies of the same classes; each photo passes through the network once."""
    counts = [np.zeros((len(dataset.classes), len(dataset.classes) + 1), np.int64) for _ in vocabularies]
    for index in range(len(dataset)) if indices is None else indices:
        try:
            sample = dataset.load(index)
        except DatasetError as error:
            _log.warning("not validated: %s", error)
            continue
        for total, labels in zip(counts, predictions(model, sample.image, vocabularies, view, depth), strict=True):
            total += confusion(sample.labels, labels, len(dataset.classes))
    return counts


def validation_scores(
    counts: npt.NDArray[np.int64], dataset: SegmentationDataset, split: Split | None
) -> dict[str, float]:
    """Mean IoU under the dataset's name, from confusion counts (K, K + 1).

    With a split also NAME/seen, NAME/unseen and NAME/harmonic, all names competing; those that the photos cannot tell,
    because they show no such category, are left out.
    """
    found = {dataset.name: intersection_over_union(counts).mean}
    if split is not None:
        apart = score(counts, dataset.classes, split)
        kinds = {"seen": apart.seen, "unseen": apart.unseen, "harmonic": apart.harmonic}
        found |= {f"{dataset.name}/{kind}": value for kind, value in kinds.items() if not math.isnan(value)}
    return found


@torch.no_grad()
def probabilities(
    model: TrainableModel, photo: npt.NDArray[np.uint8], vectors: Tensor, view: int
) -> npt.NDArray[np.float32]:
    """Probability (K + 1, h, w) of every class (K, S, D) at the places of a BGR photo, the last that of none of
    them."""
    image, (height, width) = _network_input(model, photo, view)
    vectors = vectors.to(image.device)
    if isinstance(model, DenseSegmenter):
        found = model.name_logits(model.features(image), vectors).softmax(1)
    else:
        named = next(_scores(model, image, [vectors], None))
        # Overlapping queries may say more than all.
        named = named / named.sum(1, keepdim=True).clamp(min=1)
        found = torch.cat((named, 1 - named.sum(1, keepdim=True)), 1)
    stride = view / found.shape[-1]
    inside = found[0, :, : max(1, round(height / stride)), : max(1, round(width / stride))]
    return np.asarray(inside.float().cpu().numpy(), np.float32)


@torch.no_grad()
def predictions(
    model: TrainableModel,
    photo: npt.NDArray[np.uint8],
    vocabularies: Sequence[Tensor],
    view: int,
    depth: int | None = None,
) -> Iterator[npt.NDArray[np.int32]]:
    """Class index (H, W) of every pixel of a BGR photo (H, W, 3), once for each vocabulary (K, D) or (K, S, D)."""
    image, (height, width) = _network_input(model, photo, view)
    for scores in _scores(model, image, vocabularies, depth):
        full = nn.functional.interpolate(scores, size=(view, view), mode="bilinear", align_corners=False)
        labels = full[0, :, :height, :width].argmax(0).to(torch.int32).cpu().numpy()
        yield cv2.resize(labels, photo.shape[1::-1], interpolation=cv2.INTER_NEAREST_EXACT).astype(np.int32)


def _network_input(model: TrainableModel, photo: npt.NDArray[np.uint8], view: int) -> tuple[Tensor, tuple[int, int]]:
    """RGB (1, 3, view, view) on the model's device, which is set to evaluate, and height and width of the photo in
    it."""
    model.eval()
    height, width = Letterbox.fit(photo.shape[:2], (view, view)).scaled
    small = cv2.resize(photo, (width, height), interpolation=cv2.INTER_AREA)
    padded = cv2.copyMakeBorder(small, 0, view - height, 0, view - width, cv2.BORDER_CONSTANT, value=PAD_BGR)
    image = torch.from_numpy(np.ascontiguousarray(padded[..., ::-1])).permute(2, 0, 1)[None].float()
    return image.to(model.pixel_mean.device), (height, width)


def _scores(
    model: TrainableModel, image: Tensor, vocabularies: Sequence[Tensor], depth: int | None
) -> Iterator[Tensor]:
    """Scores (1, K, h, w) of an RGB image (1, 3, H, W), once for each vocabulary (K, D) or (K, S, D)."""
    names = [(vectors if vectors.ndim == 3 else vectors[:, None]).to(image.device) for vectors in vocabularies]
    if isinstance(model, DenseSegmenter):
        features = model.features(image)
        for vectors in names:
            yield model.name_logits(features, vectors)[:, :-1]
        return
    states = model.states(image, depth)
    embedding = model.embed(states[-1], len(states) - 1)
    for vectors in names:
        yield semantic_scores(model.classify(embedding, vectors), states[-1].mask_logits)


def validate(
    model: TrainableModel, dataset: SegmentationDataset, vectors: Tensor, view: int, depth: int | None = None
) -> IoU:
    """IoU over the whole split, see `count_confusion`."""
    return intersection_over_union(count_confusion(model, dataset, vectors, view, depth))
