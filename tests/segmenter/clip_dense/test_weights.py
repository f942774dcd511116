"""CLIP weights in every form in which they are published."""

from __future__ import annotations

import logging
import os
import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from safetensors.torch import save_file
from support.clip import SMALL, open_clip_model, small_weights
from torch import Tensor, nn

from ovs_edge.bundle.errors import CheckpointError, UsageError
from ovs_edge.segmenter.clip_dense.weights import ClipSource, read_clip
from ovs_edge.segmenter.text.clip_text import clip_text
from ovs_edge.segmenter.text.tokenizers import clip_tokenizer
from ovs_edge.segmenter.weights.torchscript import is_torchscript, read_torchscript

NUMBERS = {
    "input_resolution": 112,
    "context_length": 77,
    "vocab_size": 49408,
}  # what OpenAI's files hold beside weights


@pytest.fixture(autouse=True)
def small_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """open_clip knows the small model under two names."""
    known = {"small": SMALL, "small-quickgelu": {**SMALL, "quick_gelu": True}}
    real = open_clip.get_model_config
    monkeypatch.setattr(open_clip, "list_models", lambda: list(known))
    monkeypatch.setattr(open_clip, "get_model_config", lambda name: known.get(name) or real(name))


class _Holder(nn.Module):
    """A module with any parameters, whose TorchScript archive has the names of a state dict."""

    def forward(self, x: Tensor) -> Tensor:
        """Something to compile."""
        return x * 2


def torchscript(state: dict[str, Tensor], path: Path) -> None:
    """Save `state` as OpenAI saves its weights: modules within modules, and the code of each."""
    root = _Holder()
    for name, value in state.items():
        *modules, leaf = name.split(".")
        module: nn.Module = root
        for part in modules:
            if part not in module._modules:
                module.add_module(part, _Holder())
            module = module.get_submodule(part)
        module.register_buffer(leaf, value)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch would rather have another format
        torch.jit.save(torch.jit.script(root), str(path))


def _state(openai: bool) -> dict[str, Tensor]:
    state = dict(open_clip_model().state_dict())
    return {**state, **{name: torch.tensor(value) for name, value in NUMBERS.items()}} if openai else state


@pytest.mark.parametrize(
    ("form", "name", "quick"),
    [
        ("state.pt", "small-quickgelu", True),
        ("state.pt", "small", False),
        ("openai.pt", "small", True),
        ("wrapped.pt", "small-quickgelu", True),
        ("weights.safetensors", "small-quickgelu", True),
        ("archive.pt", "small", True),
        ("archive.pt", None, True),
        ("state.pt", None, True),
        ("half.safetensors", None, True),
    ],
)
def test_forms(form: str, name: str | None, quick: bool, tmp_path: Path) -> None:
    path = tmp_path / form
    state = _state(openai=form in ("openai.pt", "archive.pt"))
    if form == "archive.pt":
        torchscript(state, path)
        assert is_torchscript(path)
    elif form == "wrapped.pt":
        torch.save({"epoch": 3, "state_dict": {f"module.{key}": value for key, value in state.items()}}, path)
    elif form == "half.safetensors":
        save_file({key: value.half().contiguous() for key, value in state.items()}, path)
    elif path.suffix == ".safetensors":
        save_file({key: value.contiguous() for key, value in state.items()}, path)
    else:
        torch.save(state, path)
    found = read_clip(ClipSource.parse(str(path) if name is None else f"{name}:{path}"))
    assert found.vision.quick_gelu is found.text.quick_gelu is quick
    assert (found.assumed is not None) == (name is None and form != "archive.pt")
    assert (found.vision.patch, found.vision.grid, found.vision.heads, found.text.heads) == (16, 7, 2, 1)
    assert len(found.text.templates) == 80
    expected = small_weights()
    if form != "half.safetensors":
        assert found.digest() == expected.digest()
    with torch.no_grad():
        vectors = found.model().vision.embed(torch.zeros(1, 3, 112, 112), found.model().vision.positions((7, 7)))
    assert bool(torch.isfinite(vectors).all())


@pytest.mark.parametrize("quick", [True, False])
def test_text_tower_is_open_clips(quick: bool) -> None:
    """200 strings through the text tower as a bundle reads them, and through open_clip's own."""
    model, weights = open_clip_model(quick), small_weights(quick)
    words = ["", "a cat", "DON'T", "naïve café", "12345", "日本語", "🚲", "x" * 400, "the " * 90, "traffic light"]
    texts = [template("{}").replace("{}", word) for word in words for template in open_clip.OPENAI_IMAGENET_TEMPLATES]
    texts = texts[:: len(texts) // 200][:200]
    ours, tokenizer = clip_text(weights.text, weights.text_state, "small"), clip_tokenizer(weights.text)
    with torch.no_grad():
        ids = torch.tensor([encoding.ids for encoding in tokenizer.encode_batch(texts)])
        found = nn.functional.normalize(ours(ids), dim=-1)
        tokens = open_clip.tokenizer.SimpleTokenizer()(texts)
        expected = model.encode_text(tokens, normalize=True)
    assert len(texts) == 200
    assert float((found - expected).abs().max()) <= 1e-5


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda state: state.pop("visual.proj"), r"lacks visual\.proj"),
        (lambda state: state.pop("visual.ln_pre.bias"), r"1 missing: visual\.ln_pre\.bias"),
        (lambda state: state.update({"visual.transformer.resblocks.0.ls_1.gamma": torch.ones(2)}), "1 unknown"),
        (lambda state: state.update({"visual.ln_post.bias": torch.ones(2)}), "1 of another shape"),
        (lambda state: state.update({"ln_final.bias": torch.full((64,), torch.nan)}), r"ln_final\.bias"),
    ],
)
def test_files_of_other_models(change: Any, says: str, tmp_path: Path) -> None:
    state = _state(openai=False)
    change(state)
    torch.save(state, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match=says) as caught:
        read_clip(ClipSource.parse(str(tmp_path / "other.pt")))
    assert "\n" not in str(caught.value)


def test_a_resnet(tmp_path: Path) -> None:
    torch.save(
        {"visual.layer1.0.conv1.weight": torch.zeros(1), "text_projection": torch.zeros(2, 2)}, tmp_path / "rn.pt"
    )
    with pytest.raises(CheckpointError, match=r"lacks visual\.class_embedding, visual\.conv1\.weight"):
        read_clip(ClipSource.parse(str(tmp_path / "rn.pt")))


def test_another_model_than_named(tmp_path: Path) -> None:
    torch.save(_state(openai=False), tmp_path / "small.pt")
    with pytest.raises(CheckpointError, match="holds a small.*ViT-B-32 was named"):
        read_clip(ClipSource.parse(f"ViT-B-32:{tmp_path / 'small.pt'}"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "MODEL/WEIGHTS"),
        ("ViT-B-16", "MODEL/WEIGHTS"),
        ("ViT-B-16/", "MODEL/WEIGHTS"),
        ("ViT-B-16:", "MODEL/WEIGHTS"),
        ("RN50/openai", "no CLIP of open_clip with a plain vision transformer"),
        ("nothing/openai", "expected one of: small"),
    ],
)
def test_what_is_no_source(text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        read_clip(ClipSource.parse(text))


def test_absent_file() -> None:
    with pytest.raises(CheckpointError, match=r"no CLIP weights at absent\.safetensors"):
        read_clip(ClipSource.parse("ViT-B-16:absent.safetensors"))


def test_home_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No shell expands ~ behind a colon."""
    monkeypatch.setenv("HOME", str(tmp_path))
    assert ClipSource.parse("ViT-B-16:~/w.pt").file == tmp_path / "w.pt"


def test_pickles_are_refused_without_an_option_that_there_is_not(tmp_path: Path) -> None:
    """A plain CLIP is never loaded from a pickle that may run code, so no message may say how."""
    harm = tmp_path / "harm"
    for name, save in {"plain.pt": pickle.dump, "torch.pt": torch.save}.items():
        with (tmp_path / name).open("wb") as stream:
            save({"state_dict": _Harm(str(harm))}, stream)
        with pytest.raises(CheckpointError, match="more than tensors|Python pickle") as caught:
            read_clip(ClipSource.parse(str(tmp_path / name)))
        assert "trust" not in str(caught.value)
    assert not harm.exists()


class _Harm:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.folder,)


def test_the_form_of_transformers(tmp_path: Path) -> None:
    torch.save({"vision_model.embeddings.class_embedding": torch.zeros(4)}, tmp_path / "hub.pt")
    with pytest.raises(CheckpointError, match="in the form of transformers"):
        read_clip(ClipSource.parse(str(tmp_path / "hub.pt")))


def test_advice_names_models_of_open_clip_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save(_state(openai=False), tmp_path / "own.pt")
    assert "say --clip small:" in str(read_clip(ClipSource.parse(str(tmp_path / "own.pt"))).assumed)
    monkeypatch.setattr(open_clip, "list_models", list)
    assert "say --clip" not in str(read_clip(ClipSource.parse(str(tmp_path / "own.pt"))).assumed)


def test_too_few_blocks() -> None:
    """SC-CLIP adds blocks 4 to 10 and needs one more for its last."""
    assert small_weights(layers=11).model().config.vision.layers == 11
    with pytest.raises(UsageError, match="at least 11 blocks, small has 10; choose --dense naclip"):
        small_weights(layers=10).model()


def test_no_network(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    log = logging.getLogger("open_clip")

    def offline(*_: object, **__: object) -> None:
        log.error("open_clip says so first")
        raise ConnectionError("no route to host\nsecond line")

    monkeypatch.setattr(open_clip, "create_model", offline)
    with pytest.raises(CheckpointError, match=r"no route to host.*--clip ViT-B-16-quickgelu:FILE") as caught:
        read_clip(ClipSource.parse("ViT-B-16/openai"))
    assert "vit_base_patch16_clip_224.openai (open_clip_model.safetensors or" in str(caught.value)
    assert not caplog.records
    log.error("heard again")
    assert len(caplog.records) == 1


def test_an_archive_runs_nothing(tmp_path: Path) -> None:
    """The pickle of an archive may name tensors and modules only."""

    class Harm:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "harm"),)

    path = tmp_path / "archive.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Harm(), protocol=2))
        archive.writestr("archive/code/__torch__.py", "raise SystemExit")
        archive.writestr("archive/constants.pkl", b"")
    assert is_torchscript(path)
    with pytest.raises(CheckpointError, match=r"posix\.mkdir|os\.mkdir"):
        read_torchscript(path)
    assert not (tmp_path / "harm").exists()


def test_a_damaged_archive(tmp_path: Path) -> None:
    torchscript({"a.weight": torch.randn(4)}, tmp_path / "whole.pt")
    with zipfile.ZipFile(tmp_path / "whole.pt") as whole, zipfile.ZipFile(tmp_path / "less.pt", "w") as less:
        for name in whole.namelist():
            less.writestr(name, b"\0" * 4 if name.endswith("data/0") else whole.read(name))
    torch.testing.assert_close(read_torchscript(tmp_path / "whole.pt")["a.weight"].shape, torch.Size([4]))
    with pytest.raises(CheckpointError, match="1 of 4 elements"):
        read_torchscript(tmp_path / "less.pt")
