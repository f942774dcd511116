"""`ovs-bench accuracy --recipe published`: the published settings and rules, on a small CLIP."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from support.clip import open_clip_model, small_weights

from ovs_edge.benchmarks.accuracy import published
from ovs_edge.benchmarks.accuracy.options import AccuracyOptions, ClipRecipe, Protocol
from ovs_edge.benchmarks.accuracy.published import (
    NACLIP,
    SC_CLIP,
    PublishedClip,
    PublishedSettings,
    decide,
    read_names,
    settings_of,
)
from ovs_edge.benchmarks.accuracy.stages import choose_stages
from ovs_edge.benchmarks.cli import main
from ovs_edge.bundle.bundle import Bundle
from ovs_edge.bundle.errors import UsageError
from ovs_edge.bundle.manifest import ClipDenseSpec
from ovs_edge.data.names.category_names import CategoryNames
from ovs_edge.data.photo_sets import READERS
from ovs_edge.segmenter.clip_dense.config import DenseRecipe


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    """Two photos in the layout of Pascal VOC."""
    root, rng = tmp_path / "VOC2012", np.random.default_rng(0)
    for folder in ("ImageSets/Segmentation", "JPEGImages", "SegmentationClass"):
        (root / folder).mkdir(parents=True)
    (root / "ImageSets/Segmentation/val.txt").write_text("a\nb\n")
    for name, size in (("a", (40, 60)), ("b", (60, 44))):
        cv2.imwrite(str(root / f"JPEGImages/{name}.jpg"), rng.integers(0, 255, (*size, 3), np.uint8))
        mask = Image.fromarray(rng.choice(np.array([0, 7, 15, 255], np.uint8), size), "P")
        mask.putpalette([0] * 768)
        mask.save(root / f"SegmentationClass/{name}.png")
    return root


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of the small CLIP; two prompts in place of eighty."""
    import open_clip

    monkeypatch.setattr(open_clip, "OPENAI_IMAGENET_TEMPLATES", open_clip.OPENAI_IMAGENET_TEMPLATES[:2])
    torch.save(open_clip_model().state_dict(), tmp_path / "small.pt")
    return tmp_path / "small.pt"


def test_rules() -> None:
    """Maximum over a class's names, classes of little area left out, and what is improbable becomes the background."""
    logits = torch.full((4, 2, 10), -9.0)  # classes of 1, 2 and 1 names
    logits[1, 0], logits[2, 1] = 9.0, 9.0  # a name each of class 1
    logits[3, 0, 0] = 12.0  # a twentieth of the foreground
    logits[:, 1, 5] = 0.0  # every name as probable
    plain = decide(logits, [1, 2, 1], PublishedSettings())
    assert plain[0, 0] == 2 and plain[1, 4] == 1 and plain[1, 5] == 0  # the first of equals
    found = decide(logits, [1, 2, 1], PublishedSettings(threshold=0.3, area=0.1))
    # Once class 2 is left out, class 1 has but little there.
    assert found[0, 0] == 0 and (found[0, 1:] == 1).all() and found[1, 5] == 0
    assert decide(logits, [1, 2, 1], PublishedSettings(area=0.04))[0, 0] == 2


def test_settings() -> None:
    assert SC_CLIP["voc-21"] == PublishedSettings(scale=50.0, threshold=0.15, area=0.1, background=True)
    assert NACLIP["voc-21"].threshold == 0.1 and SC_CLIP["cityscapes"].short_side == 560
    assert settings_of(DenseRecipe.naclip, "ade20k-150") == PublishedSettings()
    assert settings_of(DenseRecipe.naclip, "coco-stuff").short_side == 448
    assert settings_of(DenseRecipe.sc_clip, "coco-object") == PublishedSettings(
        scale=55.0, threshold=0.35, background=True
    )
    # Every set that something was published for can be read.
    assert set(NACLIP) == set(SC_CLIP) <= {reader.name for reader in READERS}
    with pytest.raises(UsageError, match="was not published for 'camvid'"):
        settings_of(DenseRecipe.sc_clip, "camvid")


def _entries(*names: str) -> tuple[CategoryNames, ...]:
    return tuple(CategoryNames((name,), ()) for name in names)


def test_names(tmp_path: Path) -> None:
    """Lines in the order of the data set's classes, whatever order the release has; background names are its own."""
    path = tmp_path / "names.txt"
    path.write_text("sky, wall, tree\ncat\ndog, puppy\n", encoding="utf-8")
    expected = [("sky", "wall", "tree"), ("cat",), ("dog", "puppy")]
    assert read_names(path, _entries("background", "cat", "dog")) == expected
    assert read_names(path, _entries("background", "dog", "cat")) == [expected[0], expected[2], expected[1]]
    assert read_names(path, _entries("a", "b", "c")) == expected  # other words: as they stand
    path.write_text("potted plant\ntvmonitor\n", encoding="utf-8")
    assert read_names(path, _entries("tv monitor", "pottedplant")) == [("tvmonitor",), ("potted plant",)]
    with pytest.raises(UsageError, match="names 2 classes, the data set has 4"):
        read_names(path, _entries("a", "b", "c", "d"))
    with pytest.raises(UsageError, match="cannot read"):
        read_names(tmp_path / "absent.txt", _entries("a", "b", "c"))


@pytest.mark.parametrize("recipe", list(DenseRecipe))
def test_a_photo_is_seen_at_its_own_size(recipe: DenseRecipe, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = PublishedClip.__new__(PublishedClip)
    clip._model, clip._recipe = small_weights().model(recipe=recipe), recipe
    seen: list[tuple[int, int]] = []
    scorer = clip._model.scorer
    monkeypatch.setattr(clip._model, "scorer", lambda size: (seen.append(size), scorer(size))[1])
    photo = np.random.default_rng(1).integers(0, 255, (50, 75, 3), np.uint8)
    names = torch.nn.functional.normalize(torch.randn(3, 48), dim=-1), [1, 2]
    labels = clip.labels(photo, names, PublishedSettings(short_side=240))
    assert seen == [(240, 360)] and labels.shape == (50, 75) and set(np.unique(labels)) <= {0, 1}


def test_command(voc: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(published.SC_CLIP, "voc-21", PublishedSettings(short_side=224, threshold=0.05, background=True))
    arguments = ["accuracy", "--recipe", "published", "--clip", str(weights), "--data", f"voc-21:{voc}"]
    monkeypatch.setattr(sys, "argv", ["ovs-bench", *arguments, "-o", str(tmp_path / "result.json")])
    try:
        main()
    except SystemExit as exit:
        assert not exit.code
    row = json.loads((tmp_path / "result.json").read_text())["published"][0]
    assert row["photos"] == 2 and row["classes"] == 21 and row["stage"] == "published"
    assert "sky" in row["names"][0] and row["names"][8] == ["cat"]
    assert row["settings"]["short_side"] == 224


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"recipe": Protocol.published}, "go together"),
        ({"clip": "ViT-B-16/openai"}, "go together"),
        ({"recipe": Protocol.published, "clip": "x", "stages": "all"}, "leave out --model"),
        ({"dense": ClipRecipe.naclip}, "--recipe published"),
        ({"recipe": Protocol.published, "clip": "x", "names": Path("n"), "data": ("a", "b")}, "one data set"),
    ],
)
def test_options(options: dict[str, object], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        AccuracyOptions(**{"data": ("voc-21:a",), **options})  # type: ignore[arg-type]


def test_the_stage_torch_is_not_for_a_plain_clip(tmp_path: Path) -> None:
    """It was made from weights, of which no checkpoint tells; the message names what evaluates them in torch."""
    from support import tiny_bundle

    graph = Bundle.open(tiny_bundle.build(tmp_path / "tiny.ovs")).manifest.graph
    spec = ClipDenseSpec("sc-clip", windows=True, refinement="none", temperature=40.0)
    clip = Bundle.open(tiny_bundle.build(tmp_path / "clip.ovs", graph=dataclasses.replace(graph, clip_dense=spec)))
    (tmp_path / "weights.pt").write_bytes(b"")
    for wanted in ("all", "torch"):
        with pytest.raises(UsageError, match="was made from plain CLIP weights; leave it out, or evaluate"):
            choose_stages(clip, wanted, tmp_path / "weights.pt", None)
    assert [stage.name for stage in choose_stages(clip, "all", None, None)] == ["fp32"]
