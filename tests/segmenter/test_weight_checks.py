"""Weights that no model can compute with are refused by name, before anything slow begins."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support.reference import published_file, small_model

from ovs_edge.bundle.errors import CheckpointError
from ovs_edge.segmenter.checkpoint import load_checkpoint, save_checkpoint
from ovs_edge.segmenter.text.clip_text import ClipText
from ovs_edge.segmenter.weights.checks import check_weights

NAME = "backbone.stem.0.weight"


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (torch.tensor([1.0, float("nan")]), f"the checkpoint holds NaN in {NAME}: training diverged"),
        (torch.tensor([1.0, float("inf")]), f"the checkpoint holds infinite values in {NAME}: training diverged"),
        (torch.tensor([1.0, -float("inf")], dtype=torch.float16), "infinite values"),
        (torch.tensor([1 + 2j]), f"{NAME} holds complex numbers"),
        (torch.ones(2, 2).to_sparse(), f"model.pt holds sparse tensors, such as {NAME}; save dense CPU tensors"),
        (torch.ones(2, device="meta"), r"holds tensors without values \(meta device\)"),
    ],
)
def test_unusable_weights_are_refused_by_name(value: torch.Tensor, says: str) -> None:
    with pytest.raises(CheckpointError, match=says):
        check_weights({"other": torch.ones(2), NAME: value}, "model.pt")


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
def test_quantised_weights_are_refused_by_name() -> None:
    value = torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8)
    with pytest.raises(CheckpointError, match=rf"holds quantised tensors \(qint8\), such as {NAME}"):
        check_weights({NAME: value}, "model.pt")


def test_other_weights_pass() -> None:
    """Integers, empty tensors, the largest FP16 value and what is no tensor."""
    state = {"a": torch.arange(3), "b": torch.zeros(0), "c": torch.tensor([65504.0]).half(), "d": "text"}
    check_weights(state, "model.pt")


def test_the_number_of_bad_weights_is_told() -> None:
    bad = torch.tensor([float("nan")])
    with pytest.raises(CheckpointError, match="NaN in a and 2 more"):
        check_weights({"a": bad, "b": bad, "c": bad}, "model.pt")


@pytest.mark.parametrize("form", ["sparse", "meta"])
@pytest.mark.parametrize("own", [True, False])
def test_a_file_of_tensors_that_are_not_dense(form: str, *, own: bool, tmp_path: Path) -> None:
    model, path = small_model("gkc"), tmp_path / "model.pt"
    save_checkpoint(path, model, [["cat"]], {})
    content = torch.load(path, weights_only=True)
    if not own:
        content = {"model": published_file(model, ClipText(model.config.text).state_dict())}
    content["model"] = {
        name: value.to("meta") if form == "meta" else value.to_sparse() if value.ndim == 2 else value
        for name, value in content["model"].items()
    }
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=r"holds .*(sparse|meta).*; save dense CPU tensors$"):
        load_checkpoint(path)


@pytest.mark.parametrize("family", ["gkc", "fcclip"])
@pytest.mark.parametrize("number", [float("nan"), 1j], ids=["nan", "complex"])
def test_a_published_file_with_unusable_weights(family: str, number: complex, tmp_path: Path) -> None:
    model = small_model(family)
    state = published_file(model, ClipText(model.config.text).state_dict())
    name = next(name for name in state if name.endswith("query_feat.weight"))
    state[name] = state[name] * number
    torch.save({"model": state}, tmp_path / "model.pth")
    with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
        load_checkpoint(tmp_path / "model.pth")
