"""A panoptic bundle, from a published file through the console command to segments on a photo."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from support.reference import decoder_layout, published_file, small_model

from ovs_edge.bundle.bundle import Bundle
from ovs_edge.bundle.errors import CheckpointError
from ovs_edge.export.bundle_writer import _stuff
from ovs_edge.export.cli import main
from ovs_edge.runtime.engines.engine import EngineOptions
from ovs_edge.runtime.engines.onnx_runtime import OnnxSession
from ovs_edge.runtime.opencv import cv2
from ovs_edge.segmenter.layouts.coco_names import COCO_STUFF
from ovs_edge.segmenter.text.clip_text import ClipText

SIZE = (64, 96)


@pytest.mark.slow
def test_a_panoptic_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    model = small_model("gkc")
    state = published_file(model, ClipText(model.config.text).state_dict())
    for part in decoder_layout(model.config.family).not_needed(model.config, {}):
        state |= {name: torch.ones(shape) for name, shape in part.items()}
    torch.save({"model": state}, tmp_path / "small.pth")
    (tmp_path / "photos").mkdir()
    photo = np.random.default_rng(0).integers(0, 256, (8, 12, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "photos" / "a.png"), cv2.resize(photo, SIZE[::-1], interpolation=cv2.INTER_CUBIC))
    monkeypatch.chdir(tmp_path)
    options = ("--task", "panoptic", "--size", "96x64", "--max-classes", "3", "--images", "photos")
    monkeypatch.setattr(sys, "argv", ["ovs-export", "small.pth", *options])
    with pytest.raises(SystemExit) as exit:
        main()
    out, error = capfd.readouterr()
    assert (exit.value.code, error) == (0, ""), error
    assert "queries' logits: masks differ by" in out
    assert "panoptic" in out
    bundle = Bundle.open("small.ovs")
    manifest = bundle.manifest
    assert manifest.graph.task == "panoptic"
    assert manifest.stuff == tuple(names[0] for names in COCO_STUFF)
    assert {spec.name: spec.shape for spec in manifest.graph.outputs} == {
        "labels": (1, *SIZE),
        "confidence": (1, *SIZE),
        "mask_logits": (1, 7, 16, 24),
        "class_logits": (1, 7, "K + 1"),
    }
    assert 0 <= manifest.parity["raw"]["mask_logits"] < 1e-3
    assert 0 <= manifest.parity["raw"]["class_logits"] < 1e-3
    image = np.zeros((1, *SIZE, 3), np.uint8)
    vectors = np.random.default_rng(0).standard_normal((5, 2, manifest.text.dim)).astype(np.float32)
    with OnnxSession(bundle, EngineOptions(threads=1, provider="cpu")) as session:
        raw, (labels, confidence) = session.run_raw(image, vectors), session.run(image, vectors)
    np.testing.assert_array_equal(raw.labels, labels)
    np.testing.assert_array_equal(raw.confidence, confidence)
    assert raw.mask_logits.shape == (1, 7, 16, 24)
    assert raw.class_logits.shape == (1, 7, 6)


def test_stuff_that_is_no_list_of_names(tmp_path: Path) -> None:
    assert _stuff({"stuff": ["sky"]}, tmp_path) == ("sky",)
    assert _stuff({}, tmp_path) == ()
    with pytest.raises(CheckpointError, match="stuff"):
        _stuff({"stuff": "sky"}, tmp_path)
