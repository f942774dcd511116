"""Published files become our models, or an error that names what is wrong with them."""

from __future__ import annotations

import dataclasses
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.reference import decoder_layout, published_file, small_config
from torch import Tensor

from ovs_edge.bundle.errors import CheckpointError
from ovs_edge.segmenter.checkpoint import load_checkpoint, save_checkpoint
from ovs_edge.segmenter.config import SegmenterConfig
from ovs_edge.segmenter.fcclip import FCClip
from ovs_edge.segmenter.layouts.coco_names import COCO_PANOPTIC, COCO_STUFF, COCO_THINGS
from ovs_edge.segmenter.layouts.fcclip import FCCLIP_TEMPLATES
from ovs_edge.segmenter.layouts.name_vectors import name_vectors
from ovs_edge.segmenter.layouts.published import from_published, load_published
from ovs_edge.segmenter.layouts.registry import build_model
from ovs_edge.segmenter.model import MaskModel
from ovs_edge.segmenter.text.clip_text import ClipText
from ovs_edge.segmenter.text.tokenizers import clip_tokenizer

VOCABULARY = [["person", "man"], ["car"]]
KINDS = (("gkc", "clip_resnet"), ("fcclip", "clip_resnet"), ("fcclip", "convnext"))

State = dict[str, Tensor]


@pytest.fixture(scope="module", params=KINDS, ids=["gkc", "fcclip", "fcclip-convnext"])
def published(request: pytest.FixtureRequest) -> tuple[MaskModel, State, State]:
    """A model, its text tower's state, and both as a published file."""
    return _published(*request.param)


@pytest.fixture(scope="module")
def fcclip() -> tuple[MaskModel, State, State]:
    """The same, one layout only."""
    return _published("fcclip", "clip_resnet")


def _published(family: str, backbone: str) -> tuple[MaskModel, State, State]:
    torch.manual_seed(0)
    model = build_model(small_config(family, backbone)).eval()
    text = ClipText(model.config.text).state_dict()
    state = published_file(model, text)
    for part in decoder_layout(family).not_needed(model.config, {}):
        state |= {name: torch.ones(shape) for name, shape in part.items()}
    return model, text, state


def _load(state: Any, name: str = "small.pth") -> tuple[MaskModel, dict[str, Any]]:
    return from_published(state, Path(name), VOCABULARY)


def test_round_trip(published: tuple[MaskModel, State, State]) -> None:
    model, text, state = published
    loaded, extras = _load({"model": state, "iteration": 3})
    assert _structure(loaded.config) == _structure(model.config)
    for name, value in model.state_dict().items():
        if name != "seen_vectors":
            assert torch.equal(loaded.state_dict()[name], value), name
    assert extras["training_vocabulary"] == VOCABULARY
    assert set(extras["text_encoder"]) == set(text)
    assert all(torch.equal(extras["text_encoder"][name], value) for name, value in text.items())
    account = decoder_layout(model.config.family).account_for(model, state, "file")
    assert len(account.model) + len(account.text) + len(account.not_needed) == len(state)


def _structure(config: SegmenterConfig) -> SegmenterConfig:
    """What shapes tell of a config: not its name, not its prompts."""
    text = dataclasses.replace(config.text, templates=())
    return dataclasses.replace(config, name="", seen_names=0, text=text)


def test_gkc_without_text_tower() -> None:
    model, _, state = _published("gkc", "clip_resnet")
    bare = {name: value for name, value in state.items() if not name.startswith("text_encoder.")}
    loaded, extras = _load(bare)
    assert "text_encoder" not in extras
    assert loaded.config.text.dim == model.config.text.dim


def test_counters_of_batch_norms_may_be_absent(fcclip: tuple[MaskModel, State, State]) -> None:
    state = {name: value for name, value in fcclip[2].items() if not name.endswith("num_batches_tracked")}
    assert len(state) < len(fcclip[2])
    _load(state)


def test_a_vocabulary_of_another_size(fcclip: tuple[MaskModel, State, State]) -> None:
    _load({**fcclip[2], "criterion.empty_weight": torch.ones(len(VOCABULARY) + 1)})
    with pytest.raises(CheckpointError, match=r"criterion.empty_weight \(5,\) instead of \(134,\)"):
        _load({**fcclip[2], "criterion.empty_weight": torch.ones(5)})


@pytest.mark.parametrize("form", ["model", "bare", "numpy", "half"])
def test_forms_of_a_file(form: str, fcclip: tuple[MaskModel, State, State], tmp_path: Path) -> None:
    model, _, state = fcclip
    content: dict[str, Any] = {"model": state, "trainer": {"iteration": 7}, "author": "someone"}
    if form == "bare":
        content = {**state, "epoch": 3}
    elif form == "numpy":
        content = {"model": {name: value.numpy() for name, value in state.items()}, "loss": np.float64(1.5)}
    elif form == "half":
        content = {"model": {name: value.half() for name, value in state.items()}}
    path = tmp_path / "model_final.pth"
    torch.save(content, path)
    loaded, _ = load_published(path, training_vocabulary=VOCABULARY)
    name = "class_embed.layers.0.weight"
    close = 1e-3 if form == "half" else 0
    assert torch.allclose(loaded.state_dict()[name], model.state_dict()[name], rtol=0, atol=close)
    assert loaded.state_dict()[name].dtype == torch.float32


class Intruder:
    """Unpickling it creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


def test_a_pickle_needs_trust(fcclip: tuple[MaskModel, State, State], tmp_path: Path) -> None:
    state = {name: value.numpy() for name, value in fcclip[2].items()}
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps({"model": state, "__author__": "someone", "matching_heuristics": True}))
    with pytest.raises(CheckpointError, match="--trust-pickle"):
        load_published(path)
    with pytest.raises(CheckpointError, match="--trust-pickle"):
        load_checkpoint(path)
    loaded, _ = load_published(path, trust_pickle=True, training_vocabulary=VOCABULARY)
    assert loaded.config.family == "fcclip"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="copy it again"):
        load_published(path, trust_pickle=True)


@pytest.mark.parametrize("suffix", [".pkl", ".pth"])
@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_a_pickle_runs_nothing(suffix: str, protocol: int, tmp_path: Path) -> None:
    trace, path = tmp_path / "trace", tmp_path / f"model{suffix}"
    path.write_bytes(pickle.dumps({"model": Intruder(trace)}, protocol))
    with pytest.raises(CheckpointError):
        load_checkpoint(path)
    assert not trace.exists()


def test_an_archive_runs_nothing(tmp_path: Path) -> None:
    trace, path = tmp_path / "trace", tmp_path / "model.pth"
    for legacy in (False, True):
        torch.save({"model": Intruder(trace)}, path, _use_new_zipfile_serialization=not legacy)
        with pytest.raises(CheckpointError, match="more than tensors"):
            load_checkpoint(path)
        assert not trace.exists()
    torch.save({"model": {"a": np.array([Intruder(trace)], dtype=object)}}, path)
    with pytest.raises(CheckpointError):
        load_checkpoint(path)
    assert not trace.exists()


@pytest.mark.parametrize("kept", [0, 1, 30, 5000, -50])
def test_truncated(kept: int, fcclip: tuple[MaskModel, State, State], tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    torch.save({"model": fcclip[2]}, path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(CheckpointError, match=r"model\.pth"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    "content",
    [{}, {"model": {}}, {"model": {"layer.weight": torch.zeros(2)}}, {"sem_seg_head.x": torch.zeros(2)}, {1: 2}],
    ids=["empty", "empty state", "foreign", "other head", "numbers"],
)
def test_foreign_files(content: dict[Any, Any], tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    torch.save(content, path)
    with pytest.raises(CheckpointError, match="GKC or FC-CLIP"):
        load_checkpoint(path)


def test_a_value_that_is_no_tensor_is_named(fcclip: tuple[MaskModel, State, State]) -> None:
    with pytest.raises(CheckpointError, match=r"void_embedding\.weight is a str"):
        _load({"model": {**fcclip[2], "void_embedding.weight": "none"}})


def test_our_own_file_keeps_the_family(fcclip: tuple[MaskModel, State, State], tmp_path: Path) -> None:
    model, extras = _load(fcclip[2])
    path = tmp_path / "model.pt"
    save_checkpoint(path, model, extras["training_vocabulary"], extras["provenance"])
    again, _ = load_checkpoint(path)
    assert isinstance(again, FCClip)
    assert again.config == model.config
    assert torch.equal(again.seen_vectors, model.get_buffer("seen_vectors"))


def test_training_names_are_seen(fcclip: tuple[MaskModel, State, State]) -> None:
    model, extras = _load(fcclip[2])
    assert isinstance(model, FCClip)
    names = ["man", "Car", "tree", "cars"]
    vectors = name_vectors(model.config.text, extras["text_encoder"], names, "file")
    table = torch.zeros(5, 2, vectors.shape[1])
    table[0, 0], table[0, 1] = vectors[2], vectors[0] * 3  # one trained name among two; lengths do not matter
    table[1, 0] = vectors[1]
    table[2, 0], table[3, 1] = vectors[2], vectors[3]
    assert model.seen(table).tolist() == [1, 1, 0, 0, 0]


@pytest.mark.parametrize("names", [["cat"], ["cat", "dog", "potted plant", "a", "teddy bear"]])
def test_names_in_one_sequence_are_as_each_alone(names: list[str]) -> None:
    torch.manual_seed(0)
    config = dataclasses.replace(small_config("fcclip").text, templates=FCCLIP_TEMPLATES[:3])
    tower = ClipText(config).eval()
    total = torch.zeros(len(names), config.dim)
    for template in config.templates:
        ids = [entry.ids for entry in clip_tokenizer(config).encode_batch([template.format(name) for name in names])]
        with torch.no_grad():
            total += torch.nn.functional.normalize(tower(torch.tensor(ids)), dim=-1)
    found = name_vectors(config, tower.state_dict(), names, "file")
    assert torch.allclose(found, torch.nn.functional.normalize(total, dim=-1), atol=1e-5)


def test_training_names() -> None:
    assert len(COCO_THINGS) == 80
    assert len(COCO_STUFF) == 53
    names = [name for entry in COCO_PANOPTIC for name in entry]
    assert len(names) == len(set(names))
    assert all(name == name.strip() and name for name in names)
