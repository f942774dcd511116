"""The model without queries: names against places, what the quick decision leaves out, and its export."""

from __future__ import annotations

import functools

import numpy as np
import onnx
import pytest
import torch
from support.exported import SIZE, options, session, vectors
from torch import Tensor

from ovs_edge.bundle.errors import CheckpointError, UsageError
from ovs_edge.export.bundle_writer import export_segmenter
from ovs_edge.export.options import ExportRequest, resolve
from ovs_edge.export.regions.values import region_spec, with_statistics
from ovs_edge.segmenter.config import SegmenterConfig, preset
from ovs_edge.segmenter.dense import DenseSegmenter, NameVectors
from ovs_edge.segmenter.layouts.dense import DenseLayout
from ovs_edge.segmenter.layouts.registry import build_model


@functools.cache
def _model() -> DenseSegmenter:
    """Random weights, shared, so change nothing; batch norms take statistics from noise, so that places differ."""
    torch.manual_seed(0)
    model = build_model(preset("dense_mini"))
    assert isinstance(model, DenseSegmenter)
    with torch.no_grad():
        for _ in range(3):
            model.train().features(_image())
        model.pixel_decoder.embed.weight *= 4  # type: ignore[operator]
    return model.eval()


def _image() -> Tensor:
    return torch.rand(2, 3, *SIZE, generator=torch.Generator().manual_seed(1)) * 255


def test_config_survives_a_checkpoint() -> None:
    config = preset("dense_mini")
    assert SegmenterConfig.from_dict(config.to_dict()) == config


def test_few_and_many_names_give_the_same_logits() -> None:
    """Embeddings are upsampled for many names, logits for few: the same but for rounding."""
    model = _model()
    names = torch.from_numpy(vectors(100, 2, 384))
    with torch.no_grad():
        features = model.features(_image())
        many, few = model.name_logits(features, names), model.name_logits(features, names[:5])
    assert many.shape == (2, 101, SIZE[0] // 4, SIZE[1] // 4)
    assert float((many[:, :5] - few[:, :5]).abs().max()) < 1e-3
    assert float((many[:, -1] - few[:, -1]).abs().max()) < 1e-3


def test_length_of_a_name_does_not_matter_and_a_zero_row_is_no_name() -> None:
    model = _model()
    names = torch.from_numpy(vectors(4, 2, 384))
    names[1, 1] = 0
    names[2] = 0
    with torch.no_grad():
        features = model.features(_image())
        logits, longer = model.name_logits(features, names), model.name_logits(features, names * 3)
        alone = model.name_logits(features, names[:, :1])
        labels, confidence = model.decide(_image()[:1], names)
    assert torch.allclose(logits, longer, atol=1e-3)
    assert torch.allclose(logits[:, 1], alone[:, 1], atol=1e-4)
    assert float(logits[:, 2].max()) < -1e3
    assert 2 not in labels.unique()
    assert 0 <= float(confidence.min()) <= float(confidence.max()) <= 1


@pytest.mark.parametrize("classes", [1, 5, 60])
def test_the_quick_decision_agrees_with_the_exact_one(classes: int) -> None:
    model = _model()
    names = torch.from_numpy(vectors(classes, 1, 384))
    with torch.no_grad():
        quick, confidence = model.decide(_image()[:1], names)
        exact, certain = model.decide(_image()[:1], names, exact=True)
    assert quick.shape == exact.shape == (1, *SIZE)
    assert int(quick.max()) < classes
    if classes == 5:
        assert len(exact.unique()) > 1
    # Labels are told apart at every other pixel, which shows on random weights' many small regions.
    assert float((quick == exact).float().mean()) > (0.85 if classes < 60 else 0.6)
    if classes <= 5:  # with more classes than candidates the others' share is left out
        assert float((confidence - certain).abs().max()) < 1e-3


def test_the_first_classes_are_candidates_wherever_they_come() -> None:
    """A class that wins at one place only is found there although dozens of others cover the picture, if it is first."""
    model = _model()
    config = model.config.dense
    assert config is not None
    text = torch.nn.functional.normalize(torch.from_numpy(vectors(60, 1, 384)), dim=-1)
    with torch.no_grad():
        names, _, _ = model.names(text)
        unit = names[:, 0]
        embeddings = unit[20:60].repeat(8, 1)[: 16 * 16].T.reshape(1, -1, 16, 16) * 30  # 40 classes, each at its places
        details = torch.zeros(1, config.detail_channels, 32, 32)
        for asked in (2, 10):  # one of the always candidates, and one that is none
            rare = embeddings.clone()
            rare[0, :, 5, 5] = unit[asked] * 30
            labels, _ = model.label((rare, details), text, (128, 128))
            assert bool((labels == asked).any()) == (asked == 2)


def test_whitening_tells_names_apart_that_have_much_in_common() -> None:
    torch.manual_seed(0)
    names = torch.nn.functional.normalize(torch.randn(40, 384) * 0.2 + torch.randn(384), dim=-1)
    dense = preset("dense_mini").dense
    assert dense is not None
    text = NameVectors(384, dense)
    apart = ~torch.eye(40, dtype=torch.bool)
    text.whiten(names)
    with torch.no_grad():
        vectors_, _, _ = text(names[:, None])
    assert float((names @ names.T)[apart].mean()) > 0.9
    assert float((vectors_[:, 0] @ vectors_[:, 0].T)[apart].abs().mean()) < 0.1


def test_the_graph_is_what_torch_computes() -> None:
    model = _model()
    graph = session(export_segmenter(model, options(model.config)))
    image = np.random.default_rng(2).integers(0, 256, (1, *SIZE, 3), np.uint8)
    pixels = torch.from_numpy(image[..., ::-1].copy()).permute(0, 3, 1, 2).float()
    for classes, names in ((1, 1), (3, 4), (40, 2)):
        text = vectors(classes, names, 384)
        with torch.no_grad():
            expected, certain = model.decide(pixels, torch.from_numpy(text))
        labels, confidence = graph.run(None, {"image": image, "text_embeddings": text})
        assert float((labels == expected.numpy()).mean()) > 0.999
        assert float(np.abs(confidence - certain.numpy()).max()) < 1e-3


def test_places_of_regions_are_inside_the_graph() -> None:
    """With the projection of names, so that what was shown becomes a text vector."""
    model = _model()
    chosen = options(model.config)
    spec = region_spec(model, chosen)
    assert spec is not None
    assert spec.places is not None
    exported = export_segmenter(model, chosen)
    assert [value.name for value in exported.graph.output] == ["labels", "confidence"]
    for value in spec.values:
        exported.graph.output.append(
            onnx.helper.make_tensor_value_info(value.name, onnx.TensorProto.FLOAT, value.shape)
        )
    image = np.random.default_rng(2).integers(0, 256, (1, *SIZE, 3), np.uint8)
    pixels = torch.from_numpy(image[..., ::-1].copy()).permute(0, 3, 1, 2).float()
    feeds = {"image": image, "text_embeddings": vectors(2, 1, 384)}
    places, weight, bias = session(exported).run([value.name for value in spec.values], feeds)
    with torch.no_grad():
        expected, _ = model.features(pixels)
    np.testing.assert_allclose(places, expected.numpy(), atol=1e-3)
    np.testing.assert_array_equal(weight, model.names.project.weight.detach().numpy().T)
    np.testing.assert_array_equal(bias, model.names.project.bias.detach().numpy())
    measured = with_statistics(spec, model, [image]).places
    assert measured is not None
    assert measured.statistics is not None
    rows = expected[0].flatten(1).T.double().numpy()
    np.testing.assert_allclose(measured.statistics.mean, rows.mean(0), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(measured.statistics.covariance, np.cov(rows.T), rtol=1e-4, atol=1e-5)


def test_what_needs_queries_is_refused() -> None:
    config = preset("dense_mini")
    with pytest.raises(UsageError, match="queries"):
        resolve(config, ExportRequest(task="panoptic"))
    with pytest.raises(UsageError, match="no query decoder"):
        resolve(config, ExportRequest(decoder_layers=2))
    with pytest.raises(CheckpointError, match=r"model\.pt"):
        DenseLayout().load({}, "weights.pt")
