"""The comparison itself: it holds, and it notices when something is wrong."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import pytest
import torch
from support import exported
from support.exported import SIZE

from ovs_edge.bundle.errors import MissingExtraError, ParityError, SourceError
from ovs_edge.export import parity_photos as photos_module
from ovs_edge.export.parity import (
    FORMULATIONS,
    LABELS_EQUAL,
    Parity,
    Reference,
    SegmenterParity,
    compare_segmenter,
    formulation_difference,
    random_vocabularies,
    rgb,
)
from ovs_edge.export.parity_photos import photo_inputs
from ovs_edge.export.text_encoder.parity import TextParity
from ovs_edge.segmenter.model import SegmenterModel

GOOD = Parity(
    photos=1,
    segmenter=(SegmenterParity("random", 2, 1, 1.0, 0.0, 0.0),),
    formulations=0.0,
    exact_fast=0.5,
    text=TextParity("fp32", 5, 0.0, 1.0, 1.0, 9, 0),
)


def compared(
    model: SegmenterModel, session: ort.InferenceSession, size: tuple[int, int], photos: int
) -> tuple[SegmenterParity, ...]:
    options = exported.options(model.config, size=size)

    def run(image: npt.NDArray[np.uint8], vectors: npt.NDArray[np.float32]) -> tuple[np.ndarray, np.ndarray]:
        labels, confidence = session.run(["labels", "confidence"], {"image": image, "text_embeddings": vectors})
        return labels, confidence

    vocabularies = [("random", vectors) for vectors in random_vocabularies(size, 512, model.config.text.dim)]
    return compare_segmenter(
        Reference(model, options, photo_inputs(None, size)[:photos]), run, vocabularies, lambda step: None
    )


def check(rows: tuple[SegmenterParity, ...]) -> None:
    assert [(row.classes, row.names) for row in rows] == [(k, s) for k in (1, 2, 37, 500) for s in (1, 4)]
    for row in rows:
        print(row)
        assert row.labels_equal >= LABELS_EQUAL
        assert row.score_difference <= SegmenterModel.score_tolerance


def test_mini() -> None:
    check(compared(exported.mini(), exported.session(exported.mini_onnx()), SIZE, 4))
    for photo in photo_inputs(None, SIZE):
        assert formulation_difference(exported.mini(), rgb(photo)) <= FORMULATIONS


def test_another_model_does_not_pass() -> None:
    """A graph whose weights are not the checkpoint's, by one layer that few would notice."""
    model = copy.deepcopy(exported.mini())
    with torch.no_grad():
        model.pixel_decoder.layers[1].linear2.weight *= 1.05
    rows = compared(model, exported.session(exported.mini_onnx()), SIZE, 1)
    assert (
        min(row.labels_equal for row in rows) < LABELS_EQUAL
        or max(row.score_difference for row in rows) > SegmenterModel.score_tolerance
    )


def test_reference_leaves_the_model_as_it_was() -> None:
    before = dict(exported.mini().named_modules())
    Reference(exported.mini(), exported.options(exported.mini().config), photo_inputs(None, SIZE))(
        0, exported.vectors(2, 1, 384)
    )
    assert dict(exported.mini().named_modules()) == before


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"segmenter": (SegmenterParity("random", 2, 1, 0.998, 0.0, 0.0),)}, "99.800% of labels"),
        ({"segmenter": (SegmenterParity("random", 2, 1, 1.0, 2e-4, 2e-4),)}, "99 % of the scores differ"),
        ({"segmenter": (SegmenterParity("random", 2, 1, 1.0, 2e-3, 0.0),)}, "scores differ"),
        ({"segmenter": (SegmenterParity("random", 2, 1, 1.0, float("nan"), 0.0),)}, "scores differ"),
        ({"formulations": 1e-4}, "gather"),
        ({"text": dataclasses.replace(GOOD.text, vector_difference=1e-3)}, "text vectors"),
        ({"text": dataclasses.replace(GOOD.text, mean_cosine=float("nan"))}, "cosine"),
        ({"text": dataclasses.replace(GOOD.text, precision="int8", mean_cosine=0.98)}, "cosine"),
        ({"text": dataclasses.replace(GOOD.text, tokenizer_mismatches=1)}, "tokenizer"),
    ],
)
def test_bars(changes: dict[str, object], says: str) -> None:
    GOOD.check()
    with pytest.raises(ParityError, match=says) as caught:
        dataclasses.replace(GOOD, **changes).check()  # type: ignore[arg-type]
    assert caught.value.exit_code == 3


def test_int8_text_is_judged_by_its_cosine() -> None:
    text = dataclasses.replace(GOOD.text, precision="int8", vector_difference=0.02, mean_cosine=0.995)
    dataclasses.replace(GOOD, text=text).check()


def test_photos_of_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SourceError, match="no photos"):
        photo_inputs(tmp_path, SIZE)
    with pytest.raises(SourceError, match="not a folder"):
        photo_inputs(tmp_path / "absent", SIZE)
    source = photos_module._packaged()[0].read_bytes()
    for index in range(20):
        (tmp_path / f"{index:02d}.png").write_bytes(source)
    inputs = photo_inputs(tmp_path, (32, 64))
    assert [image.shape for image in inputs] == [(1, 32, 64, 3)] * photos_module.MOST
    monkeypatch.setattr(photos_module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="--images"):
        photo_inputs(None, SIZE)
