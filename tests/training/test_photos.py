"""Cached photos, balanced draws, copy-paste and mosaics: every label stays with its pixels."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from support.photos import write_index_masks

from ovs_edge.data.datasets import SegmentationDataset, TrainingSample, open_dataset
from ovs_edge.data.names.category_names import category_names
from ovs_edge.training.photos.augment import AugmentOptions, mosaic, random_crop, random_window
from ovs_edge.training.photos.batches import CropDataset, collate
from ovs_edge.training.photos.cache import CachedPhotos, cache_photos, shrink
from ovs_edge.training.photos.paste import Cutout, Paster, connected_part, put
from ovs_edge.training.photos.sampling import PhotoSampler

ROOM = 10**9


def _same(one: TrainingSample, other: TrainingSample) -> bool:
    maps = one.background, other.background
    return (
        np.array_equal(one.image, other.image)
        and np.array_equal(one.labels, other.labels)
        and (maps[0] is None) == (maps[1] is None)
        and (maps[0] is None or np.array_equal(*maps))
        and one.name == other.name
    )


@pytest.fixture
def shapes(tmp_path: Path) -> SegmentationDataset:
    """Six photos, the first with a background map, the second unreadable."""
    folder = write_index_masks(tmp_path / "shapes")
    (folder / "background/train").mkdir(parents=True)
    cv2.imwrite(str(folder / "background/train/0.png"), np.full((80, 112), 255, np.uint8))
    (folder / "images/train/1.jpg").write_bytes(b"broken")
    return open_dataset(folder, "train")


def test_cached_photos_are_those_of_the_files(shapes: SegmentationDataset, tmp_path: Path) -> None:
    done: list[int] = []
    cached = cache_photos(shapes, tmp_path / "cache", ROOM, done.append)
    assert isinstance(cached, CachedPhotos)
    assert sum(done) == len(cached) == 6
    assert cached.digest == shapes.digest
    for index in (0, 2, 3, 4, 5):
        assert _same(cached.load(index), shapes.load(index)), index
    with pytest.raises(Exception, match="cannot decode the photo"):
        cached.load(1)
    assert cached.counts is not None
    labels = shapes.load(2).labels
    assert cached.counts[2].tolist() == [int((labels == index).sum()) for index in range(3)]


def test_a_cache_is_used_again_until_a_file_changes(
    shapes: SegmentationDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache_photos(shapes, tmp_path / "cache", ROOM)
    with monkeypatch.context() as patch:
        patch.setattr(SegmentationDataset, "load", lambda *arguments: pytest.fail("decoded again"))
        assert isinstance(cache_photos(shapes, tmp_path / "cache", ROOM), CachedPhotos)
    (written,) = (tmp_path / "cache").glob("*.photos")
    written.write_bytes(written.read_bytes()[:-1])  # damaged: written again
    assert _same(cache_photos(shapes, tmp_path / "cache", ROOM).load(5), shapes.load(5))
    mask = shapes.entries[5].mask
    assert mask is not None
    cv2.imwrite(str(mask), np.full((80, 112), 2, np.uint8))
    os.utime(mask, (1, 1))
    assert set(np.unique(cache_photos(shapes, tmp_path / "cache", ROOM).load(5).labels)) == {2}


def test_photos_that_would_take_too_much_are_not_kept(shapes: SegmentationDataset, tmp_path: Path) -> None:
    assert cache_photos(shapes, tmp_path / "cache", 1000) is shapes
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_cache_that_cannot_be_written_is_none(shapes: SegmentationDataset, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert cache_photos(shapes, tmp_path / "file" / "cache", ROOM) is shapes


def test_caches_that_nobody_uses_are_removed(shapes: SegmentationDataset, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    folder.mkdir()
    old, left = folder / "old-1.photos", folder / ".new-2.photos.4242"
    for path in (old, old.with_suffix(".npz"), left):
        path.write_bytes(b"")
        os.utime(path, (time.time() - 40 * 86400,) * 2)
    cache_photos(shapes, folder, ROOM)
    assert sorted(path.suffix for path in folder.iterdir()) == [".npz", ".photos"]


def test_large_photos_are_shrunk_with_their_labels() -> None:
    labels = np.zeros((100, 2000), np.uint8)
    labels[:, 1000:] = 7
    image = np.repeat(np.where(labels == 7, 200, 10).astype(np.uint8)[..., None], 3, 2)
    small = shrink(TrainingSample(image, labels, "x", labels == 7), 500)
    assert small.labels.shape == (25, 500)
    assert np.array_equal(small.labels == 7, small.image[..., 0] > 100)
    assert np.array_equal(small.background, small.labels == 7)


def _dataset(tmp_path: Path, rare: int, common: int) -> SegmentationDataset:
    """Photos of "grass" with, in the first `rare` of them, a spot of "sky"."""
    folder = tmp_path / "fields"
    for kind in ("images", "masks"):
        (folder / kind / "train").mkdir(parents=True)
    (folder / "classes.json").write_text(json.dumps(["grass", "cat"]))
    for index in range(rare + common):
        labels = np.zeros((64, 96), np.uint8)
        if index < rare:
            labels[20:40, 70:90] = 1
        image = np.array([(40, 180, 40), (200, 200, 240)], np.uint8)[labels]
        cv2.imwrite(str(folder / f"images/train/{index:03}.png"), image)
        cv2.imwrite(str(folder / f"masks/train/{index:03}.png"), labels)
    return cache_photos(open_dataset(folder, "train"), tmp_path / "cache", ROOM)


def test_rare_classes_are_drawn_more_often_than_by_chance(tmp_path: Path) -> None:
    """1 photo of 25 shows a cat: by chance 4 % of the draws, balanced 1 in 6 by the square roots of 1 and 25."""
    dataset = _dataset(tmp_path, 1, 24)
    rng = np.random.default_rng(0)
    draws = [PhotoSampler([dataset], [1.0], 1.0).draw(rng) for _ in range(600)]
    assert np.mean([draw.focus == 1 for draw in draws]) == pytest.approx(1 / 6, abs=0.05)
    assert {draw.photo for draw in draws if draw.focus == 1} == {0}
    plain = [PhotoSampler([dataset], [1.0], 0.0).draw(rng) for _ in range(600)]
    assert all(draw.focus is None for draw in plain)
    assert np.mean([draw.photo == 0 for draw in plain]) == pytest.approx(1 / 25, abs=0.03)


def test_a_crop_that_looks_for_a_class_shows_it(tmp_path: Path) -> None:
    sample = _dataset(tmp_path, 1, 0).load(0)
    rng = np.random.default_rng(1)
    options = AugmentOptions(32, 96, scale=(1.5, 2.0))
    assert all((random_crop(sample, options, rng, focus=1).labels == 1).any() for _ in range(30))
    assert not all((random_crop(sample, options, rng).labels == 1).any() for _ in range(30))


def test_the_same_number_gives_the_same_crop_with_everything_on(tmp_path: Path) -> None:
    dataset = _dataset(tmp_path, 3, 3)
    options = AugmentOptions(64, 96, grey=0.3, balance=0.5, paste=0.7, mosaic=0.5)
    one, other = (CropDataset([dataset], [1.0], options, seed=5) for _ in range(2))
    for number in range(20):
        assert _same(one[number].sample, other[number].sample)
        assert one[number].photos == other[number].photos
    batch = collate([one[number] for number in range(20)])
    assert {len(photos) for photos in batch.photos} == {1, 4}
    assert batch.images.shape == (20, 3, 64, 64)


def test_a_mosaic_keeps_its_parts() -> None:
    def part(value: int, height: int, width: int, *, known: bool) -> TrainingSample:
        labels = np.full((height, width), value, np.uint8)
        return TrainingSample(
            np.full((height, width, 3), value, np.uint8), labels, str(value), labels > 0 if known else None
        )

    whole = mosaic(
        [part(1, 2, 3, known=True), part(2, 2, 5, known=False), part(3, 6, 3, known=False), part(4, 6, 5, known=True)],
        (2, 3),
    )
    assert whole.labels.shape == (8, 8)
    assert [int(whole.labels[row, column]) for row, column in ((0, 0), (1, 3), (2, 2), (7, 7))] == [1, 2, 3, 4]
    assert np.array_equal(whole.image[..., 0], whole.labels)
    assert np.array_equal(whole.background, np.isin(whole.labels, (1, 4)))


def test_windows_of_any_shape(tmp_path: Path) -> None:
    sample = _dataset(tmp_path, 1, 0).load(0)
    window = random_window(sample, AugmentOptions(64, 96), np.random.default_rng(0), (20, 50))
    assert window.labels.shape == (20, 50)
    assert window.image.shape == (20, 50, 3)


def test_a_thing_is_pasted_with_its_label_and_no_further() -> None:
    crop = TrainingSample(np.zeros((40, 40, 3), np.uint8), np.zeros((40, 40), np.uint8), "x", None)
    mask = np.ones((10, 10), np.bool_)
    thing = Cutout(np.full((10, 10, 3), 250, np.uint8), mask)
    for seed in range(20):
        pasted = put(crop, thing, 3, np.random.default_rng(seed))
        where = pasted.labels == 3
        assert 25 <= where.sum() <= 100  # at most half of each side lies outside
        assert (pasted.image[where][..., 0] > 100).all()
        assert (pasted.image[~where] == 0).all()
        assert pasted.background is not None
        assert not pasted.background.any()
    hidden = put(crop, thing, 255, np.random.default_rng(0))
    assert hidden.background is not None
    assert np.array_equal(hidden.background, hidden.labels == 255)
    assert hidden.background.any()
    assert not crop.labels.any()  # the crop itself stays


def test_one_connected_part_is_cut_out() -> None:
    mask = np.zeros((60, 60), np.bool_)
    mask[:20, :20] = mask[40:, 40:] = True
    mask[30, 30] = True  # too small
    found = {
        int(part.argmax())
        for seed in range(20)
        if (part := connected_part(mask, np.random.default_rng(seed))) is not None
    }
    assert found == {0, 40 * 60 + 40}
    assert connected_part(np.ones((60, 60), np.bool_), np.random.default_rng(0)) is None  # the whole photo


def test_what_is_pasted_is_known_by_the_names_of_the_crop(tmp_path: Path) -> None:
    """A cat is a cat where cats have labels, background where people alone have, and stays out where it may overlap."""
    cats = _dataset(tmp_path, 3, 0)
    options = AugmentOptions(64, 96, paste=1.0)

    def others(*names: str) -> SegmentationDataset:
        return dataclasses.replace(cats, name="others", classes=tuple(map(category_names, names)), counts=None)

    crop = TrainingSample(np.zeros((64, 64, 3), np.uint8), np.full((64, 64), 255, np.uint8), "x")
    rng = np.random.default_rng(0)
    for target, label in (
        (others("person", "cat"), 1),
        (others("person"), 255),
        (others("animal"), None),
        (others("pet"), None),
    ):
        uncached = SegmentationDataset(target.name, target.classes, (), ())
        pasted = Paster([cats, uncached], options).paste(crop, 1, rng)
        if label is None:
            assert pasted is crop
        else:
            background = np.zeros((64, 64), np.bool_) if pasted.background is None else pasted.background
            assert ((pasted.labels == label) & (background == (label == 255))).any()
            assert set(np.unique(pasted.labels)) <= {255, label}
