"""Mean IoU of a torch model on a validation split, through the deployed preprocessing."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from ovs_edge.bundle.letterbox import PAD_BGR, Letterbox
from ovs_edge.bundle.metrics import IoU, confusion, intersection_over_union
from ovs_edge.segmenter.segmenter import Segmenter, semantic_scores
from ovs_edge.training.datasets import SegmentationDataset


@torch.no_grad()
def validate(
    model: Segmenter, dataset: SegmentationDataset, vectors: Tensor, view: int, depth: int | None = None
) -> IoU:
    """Confusion over the whole split at the photos' own sizes. `vectors` (K, D); `view` is the input's side, pixels."""
    model.eval()
    device = model.no_object.device
    counts = np.zeros((len(dataset.classes), len(dataset.classes) + 1), np.int64)
    for index in range(len(dataset)):
        sample = dataset.load(index)
        box = Letterbox.fit(sample.labels.shape[:2], (view, view))
        height, width = box.scaled
        small = cv2.resize(sample.image, (width, height), interpolation=cv2.INTER_AREA)
        padded = cv2.copyMakeBorder(small, 0, view - height, 0, view - width, cv2.BORDER_CONSTANT, value=PAD_BGR)
        image = torch.from_numpy(np.ascontiguousarray(padded[..., ::-1])).permute(2, 0, 1)[None].float().to(device)
        output = model(image, vectors[:, None].to(device), depth)
        scores = semantic_scores(output.class_logits, output.mask_logits)
        scores = nn.functional.interpolate(scores, size=(view, view), mode="bilinear", align_corners=False)
        labels = scores[0, :, :height, :width].argmax(0).to(torch.int32).cpu().numpy()
        full = cv2.resize(labels, sample.labels.shape[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
        counts += confusion(sample.labels, full.astype(np.int32), len(dataset.classes))
    return intersection_over_union(counts)
