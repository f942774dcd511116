"""Mean IoU of a torch model on a validation split, through the deployed preprocessing."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ovs_edge.bundle.errors import DatasetError
from ovs_edge.bundle.letterbox import PAD_BGR, Letterbox
from ovs_edge.bundle.metrics import IoU, confusion, intersection_over_union
from ovs_edge.segmenter.segmenter import Segmenter, semantic_scores
from ovs_edge.training.datasets import SegmentationDataset

_log = logging.getLogger("ovs_edge.training")


def count_confusion(
    model: Segmenter,
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


@torch.no_grad()
def count_confusions(
    model: Segmenter,
    dataset: SegmentationDataset,
    vocabularies: Sequence[Tensor],
    view: int,
    depth: int | None = None,
    indices: Sequence[int] | None = None,
) -> list[npt.NDArray[np.int64]]:
    """`count_confusion` for several vocabularies of the same classes; each photo passes through the network once."""
    model.eval()
    device = model.no_object.device
    names = [(vectors if vectors.ndim == 3 else vectors[:, None]).to(device) for vectors in vocabularies]
    counts = [np.zeros((len(dataset.classes), len(dataset.classes) + 1), np.int64) for _ in names]
    for index in range(len(dataset)) if indices is None else indices:
        try:
            sample = dataset.load(index)
        except DatasetError as error:
            _log.warning("not validated: %s", error)
            continue
        box = Letterbox.fit(sample.labels.shape[:2], (view, view))
        height, width = box.scaled
        small = cv2.resize(sample.image, (width, height), interpolation=cv2.INTER_AREA)
        padded = cv2.copyMakeBorder(small, 0, view - height, 0, view - width, cv2.BORDER_CONSTANT, value=PAD_BGR)
        image = torch.from_numpy(np.ascontiguousarray(padded[..., ::-1])).permute(2, 0, 1)[None].float().to(device)
        states = model.states(image, depth)
        embedding = model.embed(states[-1], len(states) - 1)
        for total, text in zip(counts, names, strict=True):
            scores = semantic_scores(model.classify(embedding, text), states[-1].mask_logits)
            scores = nn.functional.interpolate(scores, size=(view, view), mode="bilinear", align_corners=False)
            labels = scores[0, :, :height, :width].argmax(0).to(torch.int32).cpu().numpy()
            full = cv2.resize(labels, sample.labels.shape[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
            total += confusion(sample.labels, full.astype(np.int32), len(dataset.classes))
    return counts


def validate(
    model: Segmenter, dataset: SegmentationDataset, vectors: Tensor, view: int, depth: int | None = None
) -> IoU:
    """IoU over the whole split, see `count_confusion`."""
    return intersection_over_union(count_confusion(model, dataset, vectors, view, depth))
