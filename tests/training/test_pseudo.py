"""Labels by a model: only where the data have none, only where it is sure, and in the right numbers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch
from rich.console import Console
from support.photos import write_index_masks

from ovs_edge.bundle.errors import DatasetError, UsageError
from ovs_edge.data.datasets import SegmentationDataset, TrainingSample, open_dataset
from ovs_edge.data.names.category_names import category_names
from ovs_edge.segmenter.checkpoint import save_checkpoint
from ovs_edge.segmenter.config import mini
from ovs_edge.segmenter.model import SegmenterModel
from ovs_edge.segmenter.text.encoder import load_text_encoder
from ovs_edge.training.distributed import Ranks
from ovs_edge.training.losses.dense import _fewer
from ovs_edge.training.losses.losses import SegmentTarget
from ovs_edge.training.options import TrainingRunOptions
from ovs_edge.training.photos.cache import cache_photos
from ovs_edge.training.photos.sampling import photos_by_class
from ovs_edge.training.photos.sets import labelled_by, open_sets
from ovs_edge.training.pseudo import labels as labels_module
from ovs_edge.training.pseudo.dataset import BACKGROUND_MARK, fill, open_photos, own_classes, with_pseudo_labels
from ovs_edge.training.pseudo.labels import PseudoOptions, label_datasets
from ovs_edge.training.text.vocabulary import DatasetVocabulary


class _Encoder:
    """Each name a direction of its own."""

    def encode(self, names: list[str]) -> torch.Tensor:
        known = {name: index for index, name in enumerate(("grass", "sky", "brick wall", "clock", "spoon"))}
        return torch.eye(64)[[known.get(name, 5 + len(name) % 50) for name in names]]


def test_labels_of_the_dataset_are_never_changed() -> None:
    labels = np.array([[0, 255, 255, 255, 255]], np.uint8)
    background = np.array([[False, False, True, True, False]])
    sample = TrainingSample(np.zeros((1, 5, 3), np.uint8), labels, "x", background)
    found = fill(sample, np.array([[1, 1, 1, 2, BACKGROUND_MARK]], np.uint8), own=2)
    # Labelled; free; background for class 1, which is the dataset's own; background for class 2, which is not; unknown.
    assert found.labels.tolist() == [[0, 1, 255, 2, 255]]
    assert found.background is not None
    assert found.background.tolist() == [[False, False, True, False, True]]
    assert sample.labels.tolist() == [[0, 255, 255, 255, 255]]


def _probabilities(
    model: object, photo: npt.NDArray[np.uint8], vectors: torch.Tensor, view: int
) -> npt.NDArray[np.float32]:
    """As if from a model: left of the photo surely the first name, right the fourth with growing sureness downwards."""
    found = np.full((len(vectors) + 1, 20, 28), 0.001, np.float32)
    found[0, :, :14] = 0.9
    if len(vectors) > 3:
        found[3, :, 14:] = np.linspace(0.5, 0.95, 20)[:, None]
    return found


@pytest.fixture
def sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[SegmentationDataset]:
    """Shapes whose first photo is not labelled at all, and a set that brings two more names."""
    monkeypatch.setattr(labels_module, "probabilities", _probabilities)
    first = write_index_masks(tmp_path / "first", photos=3)
    cv2.imwrite(str(first / "masks/train/0.png"), np.full((80, 112), 255, np.uint8))
    second = write_index_masks(tmp_path / "second", photos=2)
    (second / "classes.json").write_text('["clock", "spoon", "clock tower"]')
    (first / "images/train/2.jpg").write_bytes(b"broken")
    return [open_dataset(folder, "train") for folder in (first, second)]


def test_the_surest_half_of_each_class_becomes_labels(sets: list[SegmentationDataset], tmp_path: Path) -> None:
    done: list[int] = []
    first, _ = label_datasets(
        None,
        _Encoder(),
        sets,
        PseudoOptions(share=0.5),
        tmp_path / "cache",
        "model",
        done.append,  # type: ignore[arg-type]
    )
    assert sum(done) == 5
    names = [entry.names[0] for entry in first.classes]
    assert names[: first.own] == ["grass", "sky", "brick wall"]
    assert {"clock", "spoon"} <= set(names[first.own :])
    assert own_classes(first) == 3
    sample = first.load(0)
    assert (sample.labels[8:-8, 8:40] == 0).all()  # equally sure everywhere: all of it
    right = sample.labels[:, 70:-8]
    assert (right[:20] == 255).all()  # the less sure half
    assert (right[60:-8] == 3).all()
    assert np.array_equal(first.load(1).labels[4:], sets[0].load(1).labels[4:])  # labelled by the data
    with pytest.raises(DatasetError, match="cannot decode"):
        first.load(2)
    assert first.digest != sets[0].digest


def test_labels_are_found_again_in_the_cache(
    sets: list[SegmentationDataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, options = tmp_path / "cache", PseudoOptions()
    before = label_datasets(None, _Encoder(), sets, options, folder, "model")  # type: ignore[arg-type]
    monkeypatch.setattr(labels_module, "probabilities", lambda *arguments: pytest.fail("labelled again"))
    again = label_datasets(None, _Encoder(), sets, options, folder, "model")  # type: ignore[arg-type]
    assert np.array_equal(before[0].load(0).labels, again[0].load(0).labels)
    assert before[0].digest == again[0].digest
    with pytest.raises(pytest.fail.Exception, match="again"):
        label_datasets(None, _Encoder(), sets, options, folder, "another model")  # type: ignore[arg-type]


def test_where_own_classes_are_improbable_is_background(tmp_path: Path, sets: list[SegmentationDataset]) -> None:
    """The right half may be a clock or not: it is none of the first set's classes."""
    options = PseudoOptions(least=0.99)
    first, _ = label_datasets(None, _Encoder(), sets, options, tmp_path / "cache", "model")  # type: ignore[arg-type]
    sample = first.load(0)
    assert sample.background is not None
    assert sample.background[8:-8, 64:].all()
    assert not sample.background[:, :50].any()
    assert (sample.labels == 255).all()


def test_photos_without_masks(tmp_path: Path) -> None:
    folder = write_index_masks(tmp_path / "shapes")
    photos = open_photos(folder / "images/train")
    assert len(photos) == 6
    assert photos.classes == ()
    assert (photos.load(0).labels == 255).all()
    cached = cache_photos(photos, tmp_path / "cache", 10**9)
    assert np.array_equal(cached.load(3).image, photos.load(3).image)
    with pytest.raises(DatasetError, match="holds no photo"):
        open_photos(tmp_path)


def test_classes_found_by_a_model_may_be_anywhere(tmp_path: Path) -> None:
    dataset = open_dataset(write_index_masks(tmp_path / "shapes"), "train")
    cached = cache_photos(dataset, tmp_path / "cache", 10**9)
    wide = with_pseudo_labels(cached, (category_names("clock"), category_names("spoon")), (), "model")
    vocabulary = DatasetVocabulary(wide, _Encoder(), "plain")  # type: ignore[arg-type]
    assert len(vocabulary.vectors) == 5
    absent = vocabulary.draw_absent(torch.tensor([1]), torch.Generator().manual_seed(0))
    assert torch.equal(absent, torch.eye(64)[[0, 2]])
    assert photos_by_class(wide).keys() == photos_by_class(cached).keys()


def test_names_that_an_image_shows_are_among_the_fewer() -> None:
    names = torch.arange(100.0)[:, None, None]
    segments = torch.zeros(2, 2, dtype=torch.int64)
    target = SegmentTarget(segments, torch.tensor([1, 97, 50]))
    few, (same,) = _fewer(names, 5, [target], torch.Generator().manual_seed(0))
    assert len(few) == 5 + 64
    assert few[same.classes].flatten().tolist() == [1, 97, 50]
    assert few[:5].flatten().tolist() == [0, 1, 2, 3, 4]
    assert len(few.unique()) == len(few)


def test_a_trained_model_labels_photos_with_and_without_masks(tmp_path: Path) -> None:
    """Through the network, whose weights are random: nothing is sure, and nothing of the data is lost."""
    data = write_index_masks(tmp_path / "shapes", photos=2)
    encoder = load_text_encoder(mini().text)
    save_checkpoint(tmp_path / "model.pt", SegmenterModel(mini()), [["grass"]], {})
    options = TrainingRunOptions(
        [(data, 1.0)], tmp_path / "run", photos=[(data / "images/val", 0.5)], photo_cache=tmp_path / "c"
    )
    with pytest.raises(UsageError, match="name one with --pseudo"):
        open_sets(options, Console(quiet=True))
    options = replace(options, pseudo=tmp_path / "model.pt")
    sets = open_sets(options, Console(quiet=True))
    (first, weight), (second, other) = labelled_by(
        tmp_path / "model.pt", encoder, sets.train, options, Ranks(), torch.device("cpu"), Console(quiet=True)
    )
    assert (weight, other) == (1.0, 0.5)
    assert (own_classes(first), own_classes(second)) == (3, 0)
    assert [entry.names[0] for entry in second.classes] == ["grass", "sky", "brick wall"]
    assert np.array_equal(first.load(0).labels[3:], sets.train[0][0].load(0).labels[3:])
