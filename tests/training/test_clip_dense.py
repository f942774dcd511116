"""A plain CLIP's dense features as a teacher and as a source of pseudo-labels, on a small CLIP."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pytest
import torch
from support.clip import open_clip_model, small_weights

from ovs_edge.bundle.errors import CheckpointError, UsageError
from ovs_edge.data.datasets import TrainingSample
from ovs_edge.segmenter.clip_dense.background import BACKGROUND_NAMES
from ovs_edge.segmenter.text.clip_text import clip_text
from ovs_edge.segmenter.text.encoder import TorchTextEncoder
from ovs_edge.segmenter.text.tokenizers import clip_tokenizer
from ovs_edge.training.distillation.clip_dense import ClipDenseFeatures, ClipDenseLabels, ClipDenseTeacher
from ovs_edge.training.distillation.teachers import load_teacher
from ovs_edge.training.pseudo.labels import Labeller

CPU = torch.device("cpu")


@functools.cache
def features() -> ClipDenseFeatures:
    """Those of the small CLIP; shared, so change nothing."""
    return ClipDenseFeatures(small_weights(), CPU)


def sample(height: int, width: int) -> TrainingSample:
    """Noise whose left half is class 0, the right half class 3; a corner is not labelled, and a few pixels are class
    5."""
    image = np.random.default_rng(height).integers(0, 255, (height, width, 3), np.uint8)
    labels = np.zeros((height, width), np.uint8)
    labels[:, width // 2 :] = 3
    labels[:40, :40] = 255
    labels[-3:, -3:] = 5
    return TrainingSample(image, labels, "noise")


@pytest.mark.parametrize(
    ("size", "seen"), [((300, 400), (336, 448)), ((400, 300), (448, 336)), ((90, 100), (336, 336))]
)
def test_regions_are_means_of_patches(size: tuple[int, int], seen: tuple[int, int]) -> None:
    teacher = ClipDenseTeacher(features(), "digest", None)
    found = dict(teacher.regions(sample(*size)))
    assert sorted(found) == [0, 3] and teacher.dim == 48
    scorer, vectors = features().windows(sample(*size).image)
    assert scorer.windows.size == seen
    expected = torch.zeros(48)
    places = [(top, left) for top in scorer.windows.tops for left in scorer.windows.lefts]
    labels = np.repeat(np.repeat(sample(*size).labels, 8, 0), 8, 1)  # finer than the patches
    for (top, left), window in zip(places, vectors, strict=True):
        for number, vector in enumerate(window):
            y, x = top + number // 14 * 16 + 8, left + number % 14 * 16 + 8
            scale = (labels.shape[0] / seen[0], labels.shape[1] / seen[1])
            expected += vector * float(labels[int(y * scale[0]), int(x * scale[1])] == 3)
    cosine = torch.nn.functional.cosine_similarity(torch.from_numpy(found[3].astype(np.float32)), expected, dim=0)
    assert float(cosine) > 0.999  # but for patches on the border
    np.testing.assert_allclose(np.linalg.norm(found[3].astype(np.float64)), 1, atol=1e-2)


def test_another_space_is_told_in_words() -> None:
    words = ["cat", "dog", "sky", "wall", "road", "tree", "cup", "hat", "bus", "pen", "box"]
    own = torch.nn.functional.normalize(torch.randn(len(words), 20), dim=-1)
    teacher = ClipDenseTeacher(features(), "digest", (features().encode(words), own))
    assert teacher.dim == 20 and teacher.digest != ClipDenseTeacher(features(), "digest", None).digest
    vectors = dict(teacher.regions(sample(300, 400)))
    assert vectors[0].shape == (20,)
    mixed = torch.linalg.lstsq(own.T, torch.from_numpy(vectors[0].astype(np.float32))[:, None]).residuals
    assert mixed.numel() == 0 or float(mixed.abs().max()) < 1e-3  # a mixture of the names
    assert not dict(
        teacher.regions(TrainingSample(np.zeros((60, 60, 3), np.uint8), np.full((60, 60), 255, np.uint8), ""))
    )


def test_labels() -> None:
    labels = ClipDenseLabels(features())
    assert isinstance(labels, Labeller)
    vectors = labels.vectors(["cat", "sky"])
    names = sum(map(len, BACKGROUND_NAMES))
    assert vectors.shape == (2 + names - 1, 1, 48)  # sky is asked for and no background
    chances = labels.probabilities(sample(300, 400).image, vectors)
    assert chances.shape == (3, 336 // 8, 448 // 8)
    np.testing.assert_allclose(chances.sum(0), 1, atol=1e-4)


def test_by_name(tmp_path: Path) -> None:
    path = tmp_path / "small.pt"
    torch.save(open_clip_model().state_dict(), path)
    weights = small_weights()
    encoder = TorchTextEncoder(
        weights.text, clip_text(weights.text, weights.text_state, "small"), clip_tokenizer(weights.text)
    )
    with pytest.raises(UsageError, match="clip-dense:SOURCE"):
        load_teacher("clip-dense:", encoder)
    with pytest.raises(CheckpointError, match="no CLIP weights at absent"):
        load_teacher("clip-dense:ViT-B-16:absent.pt", encoder)
    teacher = load_teacher(f"clip-dense:{path}", encoder)
    assert isinstance(teacher, ClipDenseTeacher) and teacher.dim == 48
