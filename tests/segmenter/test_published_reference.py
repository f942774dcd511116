"""The published implementations' own outputs, from torch and from the exported graph.

They lie in a folder beside the checkout; where it is absent these tests are skipped, and `test_published_*` cover the
parts.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from support.reference import (
    FOLDER,
    NAMES_BAR,
    Case,
    decoder_layout,
    needs_reference,
    published_file,
    reference_state,
    small_model,
)
from support.tiny_bundle import build

from ovs_edge.bundle.bundle import Bundle
from ovs_edge.bundle.manifest import TEXT_ENCODER, TOKENIZER
from ovs_edge.export.graph import SegmenterGraph
from ovs_edge.export.onnx_writer import Port, save, to_onnx
from ovs_edge.export.text_encoder.graph import export_text, text_spec
from ovs_edge.runtime.vocabulary.text_encoder import TextEncoder
from ovs_edge.segmenter.deformable import Formulation
from ovs_edge.segmenter.fcclip import FCClip
from ovs_edge.segmenter.layouts.name_vectors import name_vectors
from ovs_edge.segmenter.layouts.published import from_published
from ovs_edge.segmenter.model import MaskModel
from ovs_edge.segmenter.text.encoder import load_text_encoder

Loaded = tuple[MaskModel, dict[str, Any], list[Case]]
FORMULATIONS: tuple[Formulation, ...] = ("gridsample", "gather")


@pytest.fixture(scope="module", params=["gkc", "fcclip"])
def loaded(request: pytest.FixtureRequest) -> Loaded:
    """The published R50 with its cases."""
    family = request.param
    count = len(list(FOLDER.glob(f"{family}_r50_case*.npz")))
    cases = [Case.load(family, index) for index in range(count)]
    vocabulary = cases[0].training_vocabulary if family == "fcclip" else None
    model, extras = from_published({"model": reference_state(family)}, Path(f"{family}_r50.pth"), vocabulary)
    return model, extras, cases


@needs_reference
@pytest.mark.parametrize("formulation", FORMULATIONS)
def test_torch(formulation: Formulation, loaded: Loaded) -> None:
    model, _, cases = loaded
    model.use_formulation(formulation)
    for case in cases:
        image, text = case.image(model), case.text_embeddings
        with torch.no_grad():
            if not isinstance(model, FCClip):
                output = model(image, text)
                case.compare(output.mask_logits, output.class_logits)
                continue
            output = model(image, text, seen=torch.from_numpy(case.arrays["seen"]))
            mask_features, levels = model.pixel_decoder(model.backbone(model.normalise(image)))
            state = model.decode(mask_features, levels)[-1]
            trained = model.in_vocabulary(state, mask_features, text)
            case.compare(output.mask_logits, output.class_logits, trained)
            model.set_seen_vectors(case.seen_rows)
            assert model.seen(text).tolist() == case.arrays["seen"].tolist()


@needs_reference
def test_text_tower(loaded: Loaded) -> None:
    model, extras, cases = loaded
    for case in cases:
        if "names" in case.arrays:
            names = [str(name) for name in case.arrays["names"]]
            vectors = name_vectors(model.config.text, extras["text_encoder"], names, "reference")
            assert np.abs(vectors.numpy() - case.arrays["encoded_names"]).max() <= NAMES_BAR


@needs_reference
def test_exported_text_tower(loaded: Loaded, tmp_path: Path) -> None:
    """Names in, vectors out, as a bundle does it: the exported graph, our tokenizer, the config's own templates."""
    model, extras, cases = loaded
    cases = [case for case in cases if "names" in case.arrays]
    if not cases:
        pytest.skip(f"no case of {model.config.name} says what its text encoder gives")
    encoder = load_text_encoder(model.config.text, extras["text_encoder"], "reference")
    tiny = Bundle.open(build(tmp_path / "text.ovs"))
    save(export_text(encoder, "fp32"), tiny.path / TEXT_ENCODER)
    (tiny.path / TOKENIZER).write_text(encoder.tokenizer.to_str(), encoding="utf-8")
    bundle = dataclasses.replace(tiny, manifest=dataclasses.replace(tiny.manifest, text=text_spec(encoder)))
    runtime = TextEncoder(bundle, threads=1)
    for case in cases:
        vectors = runtime.encode([str(name) for name in case.arrays["names"]])
        assert vectors.shape == case.arrays["encoded_names"].shape
        assert np.abs(vectors - case.arrays["encoded_names"]).max() <= NAMES_BAR


@needs_reference
def test_config_is_read_from_shapes(loaded: Loaded) -> None:
    config = loaded[0].config
    assert config.name == f"{config.family}_r50"
    assert (config.backbone.layers, config.backbone.width) == ((3, 4, 6, 3), 64)
    assert (config.query_decoder.queries, config.query_decoder.layers) == (100 if config.family == "gkc" else 250, 9)
    assert (config.text.layers, config.text.width, config.text.heads, config.text.dim) == (12, 512, 8, 1024)
    assert config.text.quick_gelu
    if config.family == "fcclip":
        assert config.backbone.pool_grid == 7


@needs_reference
def test_names_of_the_layouts(loaded: Loaded) -> None:
    """What `published_file` invents in other tests is what the real files have."""
    model, extras, _ = loaded
    known = set(json.loads((FOLDER / f"{model.config.family}_r50_state.json").read_text()))
    assert set(published_file(model, extras["text_encoder"])) <= known
    assert any(name.startswith(decoder_layout(model.config.family).text_prefix) for name in known)


@pytest.mark.slow
@needs_reference
@pytest.mark.nightly
def test_onnx(loaded: Loaded, tmp_path: Path) -> None:
    model, _, cases = loaded
    model.use_formulation("gridsample")
    case = cases[0]
    if isinstance(model, FCClip):
        model.set_seen_vectors(case.seen_rows)
    masks, classes, labels = _exported(model, case.image(model), case.text_embeddings, tmp_path)
    case.compare(torch.from_numpy(masks), torch.from_numpy(classes))
    height, width = case.arrays["image"].shape[:2]
    assert (labels[0, :height, :width] == case.arrays["labels"]).mean() >= 0.999


@pytest.mark.parametrize(("backbone", "formulation"), [("clip_resnet", "gridsample"), ("convnext", "gather")])
def test_small_onnx(backbone: str, formulation: Formulation, tmp_path: Path) -> None:
    """FC-CLIP at a size that exports in seconds, with and without a name that was trained."""
    model = small_model("fcclip", backbone)
    assert isinstance(model, FCClip)
    model.use_formulation(formulation)
    text = torch.nn.functional.normalize(torch.randn(5, 2, 48), dim=-1)
    model.set_seen_vectors(text[2])
    image = torch.randint(0, 256, (1, 3, 64, 96)).float()
    with torch.no_grad():
        output = model(image, text)
    masks, classes, _ = _exported(model, image, text, tmp_path)
    assert np.abs(masks - output.mask_logits.numpy()).max() < 1e-3
    assert np.abs(classes - output.class_logits.numpy()).max() < 1e-3


def _exported(model: MaskModel, image: torch.Tensor, text: torch.Tensor, folder: Path) -> tuple[Any, Any, Any]:
    """Mask logits, class logits and labels of the exported graph; image (1, 3, H, W) RGB of whole numbers."""
    depth = model.config.query_decoder.layers
    graph = SegmenterGraph(model, "exact", depth, torch.int32, raw=True).eval()
    camera = image.flip(1).permute(0, 2, 3, 1).round().to(torch.uint8)
    example = (camera, torch.nn.functional.pad(text, (0, 0, 0, 1)))  # axes of length 1 would be taken for fixed
    ports = [Port("image"), Port("text_embeddings", ((0, "K"), (1, "S")))]
    path = folder / "model.onnx"
    save(to_onnx(graph, example, ports, ["labels", "confidence", "mask_logits", "class_logits"]), path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    feed = {"image": camera.numpy(), "text_embeddings": text.numpy()}
    labels, _, masks, classes = session.run(None, feed)
    return masks, classes, labels
