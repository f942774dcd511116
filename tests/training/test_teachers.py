"""Teachers and their cached vectors: what they see, in which space, and that nothing is computed twice."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from support.photos import write_index_masks
from torch import Tensor, nn

from ovs_edge.bundle.errors import CheckpointError, UsageError
from ovs_edge.data.datasets import SegmentationDataset, open_dataset
from ovs_edge.segmenter.config import BackboneConfig, gkc_r50, mini
from ovs_edge.segmenter.model import SegmenterModel
from ovs_edge.segmenter.text.encoder import TorchTextEncoder, load_text_encoder
from ovs_edge.training.distillation.region_cache import teach_regions
from ovs_edge.training.distillation.regions import class_regions, region_crop
from ovs_edge.training.distillation.teachers import ClipTeacher, ImageNetTeacher, imagenet_names, load_teacher
from ovs_edge.training.pretrained import load_pretrained
from ovs_edge.training.text.vocabulary import DatasetVocabulary

PHOTOS = Path(__file__).parents[2] / ".." / "shared" / "data" / "msrc"


class CountingTeacher:
    """The mean colour of a crop as its vector."""

    size, dim, digest = 32, 3, "c0ffee" * 11

    def __init__(self) -> None:
        self.seen = 0

    def encode(self, crops: Tensor) -> Tensor:
        """RGB (N, 3, 32, 32) -> (N, 3)."""
        self.seen += len(crops)
        return nn.functional.normalize(crops.mean((2, 3)), dim=-1)


@pytest.fixture
def shapes(tmp_path: Path) -> SegmentationDataset:
    return open_dataset(write_index_masks(tmp_path / "shapes"), "train")


def test_a_region_stands_alone_on_grey() -> None:
    image = np.full((40, 60, 3), 200, np.uint8)
    mask = np.zeros((40, 60), bool)
    mask[10:20, 30:50] = True
    mask[10:15, 30:40] = False  # the box's top left quarter is not the region
    crop = region_crop(image, mask, 32)
    assert crop.shape == (32, 32, 3)
    assert (crop[:14, :14] == 128).all()
    assert (crop[18:] == 200).all()
    assert (crop[:, 18:] == 200).all()


def test_regions_are_the_classes_that_can_be_seen(shapes: SegmentationDataset) -> None:
    sample = shapes.load(0)
    labels = sample.labels.copy()
    labels[5, 5:10] = (sample.labels[5, 5] + 1) % 3 if len(np.unique(sample.labels)) < 4 else 0
    regions = dict(class_regions(dataclasses.replace(sample, labels=labels), 32))
    assert 255 not in regions
    assert all((labels == index).sum() >= 64 for index in regions)


def test_a_classifier_speaks_in_the_names_of_its_classes() -> None:
    """Probabilities 2 : 1 of the two likeliest of three classes, mixed and made unit by hand."""

    class Constant(nn.Module):
        def forward(self, crops: Tensor) -> Tensor:
            return torch.tensor([2.0, 1.0, 0.1]).log().expand(len(crops), 3)

    teacher = ImageNetTeacher(Constant(), torch.eye(3), top=2)
    wanted = torch.tensor([[2.0, 1.0, 0.0]]) / 5**0.5
    assert torch.allclose(teacher.encode(torch.zeros(1, 3, 224, 224)), wanted)
    cold = ImageNetTeacher(Constant(), torch.eye(3), top=2, temperature=0.01)
    assert torch.allclose(cold.encode(torch.zeros(1, 3, 224, 224)), torch.eye(3)[:1], atol=1e-5)
    assert teacher.digest != cold.digest


@pytest.fixture(scope="module")
def imagenet() -> ImageNetTeacher:
    teacher = load_teacher("imagenet", load_text_encoder(mini().text))
    assert isinstance(teacher, ImageNetTeacher)
    return teacher


def test_the_imagenet_teacher_is_frozen_and_of_unit_length(imagenet: ImageNetTeacher) -> None:
    vectors = imagenet.encode(torch.rand(2, 3, 224, 224) * 255)
    assert torch.allclose(vectors.norm(dim=-1), torch.ones(2), atol=1e-5)
    assert not vectors.requires_grad
    assert not any(parameter.requires_grad for parameter in imagenet.network.parameters())
    assert len(imagenet_names()) == len(imagenet.names) == 1000


def test_the_imagenet_teacher_recognises_real_animals_and_things(imagenet: ImageNetTeacher) -> None:
    if not PHOTOS.is_dir():
        pytest.skip(f"no photos at {PHOTOS}")
    dataset = open_dataset(PHOTOS, "val")
    plain = DatasetVocabulary(dataset, load_text_encoder(mini().text)).plain
    names = [category.names[0] for category in dataset.classes]
    right = seen = 0
    for index in range(len(dataset)):
        for which, crop in class_regions(dataset.load(index), imagenet.size):
            if names[which] in ("aeroplane", "bird", "car", "cat", "dog", "bicycle"):
                image = torch.from_numpy(crop[..., ::-1].copy()).permute(2, 0, 1)[None].float()
                right += int((plain @ imagenet.encode(image)[0]).argmax()) == which
                seen += 1
    assert seen >= 10
    assert right / seen >= 0.4  # of 23 names; chance is 0.04


def test_a_clip_teacher_normalises_and_encodes() -> None:
    """A network that returns the mean colour shows what reaches it."""

    class Mean(nn.Module):
        def forward(self, crops: Tensor) -> Tensor:
            return crops.mean((2, 3))

    teacher = ClipTeacher(Mean(), 3, 8, (0.5, 0.5, 0.25), (0.5, 0.25, 0.25))
    crops = torch.full((1, 3, 8, 8), 255.0)
    assert torch.allclose(teacher.encode(crops), nn.functional.normalize(torch.tensor([[1.0, 2.0, 3.0]]), dim=-1))


@pytest.fixture(scope="module")
def tiny_clip(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, nn.Module]:
    """A ResNet CLIP of 16 dimensions with random weights: its tag MODEL:FILE, and open_clip's model."""
    import open_clip

    folder = tmp_path_factory.mktemp("clip")
    config = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "head_width": 32},
        "text_cfg": {"context_length": 8, "vocab_size": 32, "width": 16, "heads": 2, "layers": 1},
    }
    (folder / "tiny-clip.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder)
    torch.manual_seed(0)
    model = open_clip.create_model("tiny-clip").eval()
    torch.save(model.state_dict(), folder / "tiny.pt")
    return f"tiny-clip:{folder / 'tiny.pt'}", model


def test_a_clip_teacher_from_a_file(tiny_clip: tuple[str, Any]) -> None:
    tag, model = tiny_clip
    teacher = load_teacher(f"clip:{tag}", _encoder_of(dim=16))
    crops = torch.rand(2, 3, 32, 32) * 255
    assert isinstance(teacher, ClipTeacher)
    assert (teacher.size, teacher.dim) == (32, 16)
    wanted = nn.functional.normalize(model.encode_image((crops - teacher.mean) / teacher.std), dim=-1)
    assert torch.allclose(teacher.encode(crops), wanted, atol=1e-5)
    with pytest.raises(UsageError, match="has vectors of 16 numbers, the text encoder of 1024"):
        load_teacher(f"clip:{tag}", _encoder_of(dim=1024))
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        load_teacher("clip:tiny-clip:missing.pt", _encoder_of(dim=16))


def test_a_backbone_starts_from_a_clip_on_disk(tiny_clip: tuple[str, Any]) -> None:
    tag, clip = tiny_clip
    config = dataclasses.replace(gkc_r50(), backbone=BackboneConfig("clip_resnet", (1, 1, 1, 1), 8))
    model = SegmenterModel(config)
    load_pretrained(model, tag)
    trunk = clip.visual.state_dict()
    for name, value in model.backbone.state_dict().items():
        assert torch.equal(value, trunk[name]), name
    with pytest.raises(CheckpointError, match="of another shape"):
        load_pretrained(
            SegmenterModel(dataclasses.replace(config, backbone=BackboneConfig("clip_resnet", (1, 1, 1, 1), 16))), tag
        )


def _encoder_of(dim: int) -> TorchTextEncoder:
    """Only its config is read."""
    encoder = object.__new__(TorchTextEncoder)
    encoder.config = dataclasses.replace(gkc_r50().text, dim=dim)
    return encoder


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("oracle", "no teacher 'oracle'"),
        ("clip", "no teacher 'clip'"),
        ("clip:RN50", "expected MODEL/WEIGHTS"),
        ("clip:NoSuchModel/openai", "no model 'NoSuchModel'"),
    ],
)
def test_teachers_that_are_none(name: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        load_teacher(name, _encoder_of(dim=1024))


def test_clip_cannot_teach_a_model_with_another_text_encoder() -> None:
    with pytest.raises(UsageError, match="uses a minilm text encoder"):
        load_teacher("clip:RN50/openai", load_text_encoder(mini().text))


def test_regions_are_taught_once(shapes: SegmentationDataset, tmp_path: Path) -> None:
    first, again = CountingTeacher(), CountingTeacher()
    told: list[int] = []
    taught = teach_regions(first, [shapes], tmp_path / "cache", told.append)
    cached = teach_regions(again, [shapes], tmp_path / "cache", told.append)
    assert first.seen == len(taught.keys) > 0
    assert again.seen == 0
    assert sum(told) == 2 * len(shapes)
    assert np.array_equal(taught.keys, cached.keys)
    assert np.array_equal(taught.vectors, cached.vectors)


def test_a_vector_is_that_of_its_region(shapes: SegmentationDataset, tmp_path: Path) -> None:
    teacher = CountingTeacher()
    vectors = teach_regions(teacher, [shapes, shapes], tmp_path / "cache")
    sample = shapes.load(4)
    for index, crop in class_regions(sample, teacher.size):
        mean = torch.from_numpy(crop[..., ::-1].copy()).float().mean((0, 1))
        found = vectors.lookup(1, 4, np.array([index, 77]))
        assert torch.allclose(found[0], nn.functional.normalize(mean, dim=-1), atol=2e-3)  # kept as FP16
        assert not found[1].any()  # no such class there


def test_a_changed_photo_a_hidden_class_or_a_damaged_cache_is_taught_again(
    shapes: SegmentationDataset, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    teach_regions(CountingTeacher(), [shapes], cache)
    photo = shapes.entries[0].image
    cv2.imwrite(str(photo), np.full((80, 112, 3), 17, np.uint8))
    changed = CountingTeacher()
    teach_regions(changed, [shapes], cache)
    hidden = CountingTeacher()
    seen = teach_regions(hidden, [dataclasses.replace(shapes, relabel=(0, 1, 255))], cache)
    assert changed.seen > hidden.seen == len(seen.keys)
    for path in cache.rglob("*.npz"):
        path.write_bytes(path.read_bytes()[:100])
    damaged = CountingTeacher()
    teach_regions(damaged, [shapes], cache)
    assert damaged.seen == changed.seen


def test_an_unreadable_photo_is_unknown_and_named(
    shapes: SegmentationDataset, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shapes.entries[2].image.write_bytes(b"broken")
    vectors = teach_regions(CountingTeacher(), [shapes], tmp_path / "cache")
    assert not vectors.lookup(0, 2, np.arange(3)).any()
    assert vectors.lookup(0, 1, np.arange(3)).any()
    assert [line for line in caplog.messages if line.startswith("not taught: cannot decode the photo")]


def test_a_cache_that_cannot_be_written(shapes: SegmentationDataset, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where a folder should be")
    with pytest.raises(CheckpointError, match="--region-cache"):
        teach_regions(CountingTeacher(), [shapes], tmp_path / "cache")
