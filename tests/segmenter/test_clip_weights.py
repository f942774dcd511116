"""`--clip-text`: a text tower from elsewhere."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from safetensors.torch import save_file
from support.reference import published_file, small_model

from ovs_edge.bundle.errors import CheckpointError, OvsError, UsageError
from ovs_edge.export.cli import main
from ovs_edge.segmenter.config import gkc_r50, mini
from ovs_edge.segmenter.model import MaskModel
from ovs_edge.segmenter.text.clip_text import ClipText
from ovs_edge.segmenter.text.clip_text_weights import _tower, give_text_tower
from ovs_edge.segmenter.text.encoder import load_text_encoder

TOWER = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 2}


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> MaskModel:
    """A small model, and an architecture in open_clip whose text tower it was trained with."""
    known = open_clip.get_model_config
    small = {"embed_dim": 48, "text_cfg": TOWER}
    monkeypatch.setattr(open_clip, "get_model_config", lambda name: small if name == "small" else known(name))
    return small_model("gkc")


def _tower_state(model: MaskModel) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return ClipText(model.config.text).state_dict()


@pytest.mark.parametrize("kind", ["bare.pt", "wrapped.pt", "whole.safetensors"])
def test_weights_on_disk(model: MaskModel, tmp_path: Path, kind: str) -> None:
    state, path = _tower_state(model), tmp_path / kind
    if kind == "bare.pt":
        torch.save(state, path)
    elif kind == "wrapped.pt":
        torch.save({"epoch": 3, "state_dict": {f"module.{name}": value for name, value in state.items()}}, path)
    else:
        save_file({**state, "visual.conv1.weight": torch.zeros(2)}, path)
    extras: dict[str, Any] = {}
    give_text_tower(model, extras, f"small:{path}", "bare.pth")
    assert model.config.text.quick_gelu is False
    assert model.config.text.dim == 48
    encoder = load_text_encoder(model.config.text, extras["text_encoder"], "bare.pth")
    expected = ClipText(model.config.text)
    expected.load_state_dict(state)
    ids = encoder.tokenize(["a cat"])
    with torch.no_grad():
        torch.testing.assert_close(encoder.model(*ids), expected(*ids))


def test_the_architecture_is_open_clips() -> None:
    text = gkc_r50().text
    assert _tower(text, "RN50", "openai", "RN50/openai") == text
    assert _tower(text, "RN50", "", "RN50:file") == dataclasses.replace(text, quick_gelu=False)
    assert _tower(text, "RN50-quickgelu", "", "RN50-quickgelu:file") == text
    wide = _tower(text, "RN50x4", "openai", "RN50x4/openai")
    assert (wide.dim, wide.width, wide.heads, wide.layers) == (640, 640, 10, 12)


@pytest.mark.parametrize(
    ("tag", "says"),
    [
        ("RN50/openai", "vectors of 1024 numbers"),
        ("RN50/nobody", "it has: openai"),
        ("RN5000/openai", "no model of open_clip"),
        ("roberta-ViT-B-32/laion2b_s12b_b32k", "no model of open_clip"),
        ("RN50", "MODEL/WEIGHTS"),
        ("/openai", "MODEL/WEIGHTS"),
        ("", "MODEL/WEIGHTS"),
        ("small:", "MODEL/WEIGHTS"),
        ("small:absent.pt", "no checkpoint at absent.pt"),
        ("small:absent.safetensors", "no checkpoint at absent.safetensors"),
    ],
)
def test_towers_that_cannot_be_had(model: MaskModel, tag: str, says: str) -> None:
    with pytest.raises(OvsError, match=says) as caught:
        give_text_tower(model, {}, tag, "bare.pth")
    assert caught.value.exit_code == 2


def test_weights_of_another_tower(model: MaskModel, tmp_path: Path) -> None:
    state = _tower_state(model)
    state.pop("ln_final.bias")
    torch.save(state, tmp_path / "less.pt")
    with pytest.raises(CheckpointError, match=r"ln_final\.bias"):
        give_text_tower(model, {}, f"small:{tmp_path / 'less.pt'}", "bare.pth")
    (tmp_path / "noise.safetensors").write_bytes(b"noise")
    with pytest.raises(CheckpointError, match="safetensors"):
        give_text_tower(model, {}, f"small:{tmp_path / 'noise.safetensors'}", "bare.pth")


def test_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise ConnectionError("no route to host\nsecond line")

    monkeypatch.setattr(open_clip, "create_model", offline)
    bare = small_model("gkc")
    bare.config = dataclasses.replace(bare.config, text=gkc_r50().text)
    with pytest.raises(CheckpointError, match=r"RN50/openai.*no route to host"):
        give_text_tower(bare, {}, "RN50/openai", "bare.pth")


def test_checkpoints_that_need_none(model: MaskModel) -> None:
    with pytest.raises(UsageError, match="holds the text encoder"):
        give_text_tower(model, {"text_encoder": {}}, "RN50/openai", "whole.pth")
    model.config = dataclasses.replace(model.config, text=mini().text)
    with pytest.raises(UsageError, match="minilm"):
        give_text_tower(model, {}, "RN50/openai", "mini.pt")


def test_the_command(
    model: MaskModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"model": published_file(model, _tower_state(model))}, "whole.pth")
    monkeypatch.setattr(sys, "argv", ["ovs-export", "whole.pth", "--clip-text", "RN50/openai"])
    with pytest.raises(SystemExit) as exit:
        main()
    error = capfd.readouterr().err
    assert exit.value.code == 2
    assert error.count("\n") == 1
    assert "holds the text encoder" in error
    assert not Path("whole.ovs").exists()
