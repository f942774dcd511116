"""Files that are given as checkpoints: what is none is named, wrappers of training tools are taken off."""

from __future__ import annotations

import argparse
import gzip
import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from support.reference import published_file, small_config, small_model
from torch import Tensor

from ovs_edge.bundle.errors import CheckpointError
from ovs_edge.segmenter.checkpoint import FORMAT, load_checkpoint, save_checkpoint
from ovs_edge.segmenter.config import preset
from ovs_edge.segmenter.layouts.published import from_published
from ovs_edge.segmenter.layouts.registry import LAYOUTS, any_preset, build_model, layout_of
from ovs_edge.segmenter.model import MaskModel
from ovs_edge.segmenter.text.clip_text import ClipText
from ovs_edge.segmenter.weights.load import load_weights
from ovs_edge.segmenter.weights.unwrap import find_state

HTML = b"\n<!DOCTYPE html><html>Virus scan warning</html>"
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 123\n"


@pytest.fixture(scope="module")
def gkc() -> tuple[MaskModel, dict[str, Tensor]]:
    """A small model and its published file's state."""
    model = small_model("gkc")
    return model, published_file(model, ClipText(model.config.text).state_dict())


def _same(found: MaskModel, model: MaskModel, scale: float = 1.0) -> bool:
    return all(torch.equal(value, scale * model.state_dict()[name]) for name, value in found.state_dict().items())


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "empty"),
        (HTML, "web page"),
        (b"\xef\xbb\xbf" + HTML.lower(), "web page"),
        (b'<?xml version="1.0"?><Error>AccessDenied</Error>', "an XML document"),
        (b'<?xml version="1.0"?><html><body>Sign in</body></html>', "web page"),
        (LFS, "git lfs pull"),
        (json.dumps({"error": "Not Found"}).encode(), "JSON text"),
        (gzip.compress(b"weights", mtime=0), "gzip archive; unpack it"),
        (b"\x89HDF\r\n\x1a\n", "HDF5"),
        (b"\xff\xd8\xff\xe0", "picture"),
        (b"GGUF\x03", "GGUF"),
        (b"\0" * 257 + b"ustar" + b"\0" * 99, "tar archive"),
        (b"\0" * 2000, "holds only zero bytes: the copy failed"),
    ],
)
@pytest.mark.parametrize("suffix", [".pt", ".pkl", ".safetensors"])
def test_what_is_no_checkpoint_is_named(content: bytes, told: str, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"model{suffix}"
    path.write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    assert told in str(caught.value)
    assert "pickle" not in str(caught.value)


@pytest.mark.parametrize("legacy", [True, False])
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_checkpoint_cut_short(share: float, *, legacy: bool, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save({"model": {"weight": torch.ones(1000)}}, path, _use_new_zipfile_serialization=not legacy)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(CheckpointError, match=r"cut short.* bytes\); copy it again") as caught:
        load_checkpoint(path)
    told = str(caught.value)
    assert "\n" not in told
    assert not any(word in told for word in ("Pytorch", "miniz", "weights_only", "Unpickler", "Ran out"))


def test_zeros_before_something_else_are_not_called_zeros_only(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(bytes(2**20 + 5000) + b"end")
    with pytest.raises(CheckpointError, match="cut short, damaged or something else"):
        load_checkpoint(path)


def test_a_zip_of_other_files_is_named(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("run/model.pt", b"weights")
    with pytest.raises(CheckpointError, match=r"zip archive of other files \(run/model.pt"):
        load_checkpoint(path)


def test_garbage_earns_no_advice_to_trust_it(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    path.write_bytes(b"just some text\n" * 9)
    with pytest.raises(CheckpointError, match="cannot be read as a checkpoint") as caught:
        load_checkpoint(path)
    assert "pickle" not in str(caught.value)


def test_a_foreign_class_is_named(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    torch.save({"model": {}, "args": argparse.Namespace(lr=1)}, path)
    with pytest.raises(CheckpointError, match=r"argparse\.Namespace.*--trust-pickle") as caught:
        load_checkpoint(path)
    assert "\x1b" not in str(caught.value)


WRAPPED: dict[str, Any] = {
    "ddp": lambda state: {"model": {f"module.{name}": value for name, value in state.items()}},
    "compiled": lambda state: {f"_orig_mod.{name}": value for name, value in state.items()},
    "both": lambda state: {"state_dict": {f"module._orig_mod.{name}": value for name, value in state.items()}},
    "lightning": lambda state: {
        "state_dict": {**{f"model.{name}": value for name, value in state.items()}, "loss.weight": torch.ones(3)},
        "epoch": 3,
        "pytorch-lightning_version": "2.4",
    },
    "sub-modules": lambda state: {
        "model": {
            name.replace(".", "._orig_mod.", 1) if at % 2 else name.replace(".", ".module._orig_mod.", 1): value
            for at, (name, value) in enumerate(state.items())
        }
    },
    "nested": lambda state: {"state": 1, "model": {"state_dict": state}},
}


@pytest.mark.parametrize("tool", WRAPPED)
def test_wrappers_are_taken_off_a_published_state(tool: str, gkc: tuple[MaskModel, dict[str, Tensor]]) -> None:
    model, state = gkc
    found, _ = from_published(WRAPPED[tool](state), Path("model.pth"))
    assert _same(found, model)


@pytest.mark.parametrize("form", ["ddp", "lightning"])
def test_what_is_missing_is_named_by_its_layout(form: str) -> None:
    state = {
        "sem_seg_head.predictor.query_feat.weight": torch.zeros(1),
        "backbone.clip_model.logit_scale": torch.zeros(()),
        "backbone.clip_model.transformer.resblocks.0.ln_1.weight": torch.zeros(64),
        "void_embedding.weight": torch.zeros(1, 8),
    }
    told = r"a FC-CLIP checkpoint: parameters missing: backbone\.clip_model\.visual\.layer1"
    with pytest.raises(CheckpointError, match=told):
        from_published(WRAPPED[form](state), Path("model.pth"))


@pytest.mark.parametrize("form", ["key", "prefix", "swa"])
def test_the_average_is_taken(form: str, gkc: tuple[MaskModel, dict[str, Tensor]]) -> None:
    model, state = gkc
    half = {name: value / 2 if value.is_floating_point() else value for name, value in state.items()}
    content: dict[str, Any] = {
        "key": {"model": state, "ema": {"module": half, "decay": 0.99}},
        "prefix": {
            "state_dict": {
                **{f"model.{name}": value for name, value in state.items()},
                **{f"ema_model.module.{name}": value for name, value in half.items()},
            }
        },
        "swa": {"model": {**{f"module.{name}": value for name, value in half.items()}, "n_averaged": torch.tensor(4)}},
    }[form]
    found, extras = from_published(content, Path("model.pth"))
    assert torch.equal(found.get_parameter("class_embed.weight"), model.get_parameter("class_embed.weight") / 2)
    assert (
        extras["provenance"]["state"]
        == {
            "key": "ema/module",
            "prefix": "state_dict/ema_model.module.",
            "swa": "model/module.",
        }[form]
    )


def test_safetensors(gkc: tuple[MaskModel, dict[str, Tensor]], tmp_path: Path) -> None:
    model, state = gkc
    path = tmp_path / "model.safetensors"
    save_file({name: value.contiguous() for name, value in state.items()}, path, {"format": "pt"})
    assert _same(load_checkpoint(path)[0], model)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(CheckpointError, match="cannot be read as safetensors"):
        load_checkpoint(path)


def _own_file(path: Path) -> tuple[MaskModel, dict[str, Any]]:
    model = small_model("gkc")
    save_checkpoint(path, model, [["cat"]], {})
    return model, torch.load(path, weights_only=True)


@pytest.mark.parametrize("keys", [("ema",), ("model",), ("state_dict_ema",), ("ema", "module")])
def test_a_whole_checkpoint_under_a_key(keys: tuple[str, ...], tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    model, content = _own_file(path)
    for key in reversed(keys):
        content = {key: content, "epoch": 3}
    torch.save(content, path)
    found, extras = load_checkpoint(path)
    assert _same(found, model)
    assert extras["training_vocabulary"] == [["cat"]]


def test_the_average_of_two_whole_checkpoints_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    model, content = _own_file(path)
    half = {name: value / 2 if value.is_floating_point() else value for name, value in content["model"].items()}
    torch.save({"model": content, "ema": {**content, "model": half}}, path)
    found, _ = load_checkpoint(path)
    assert torch.equal(found.get_parameter("class_embed.weight"), model.get_parameter("class_embed.weight") / 2)


@pytest.mark.parametrize("infix", ["_orig_mod.", "module.", "module._orig_mod."])
def test_wrapped_sub_modules_of_our_own_file(infix: str, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    model, content = _own_file(path)
    wrapped = {
        name.replace(".", f".{infix}", 1) if name.startswith("backbone.") else name: value
        for name, value in content["model"].items()
    }
    assert wrapped.keys() != content["model"].keys()
    torch.save({**content, "model": wrapped}, path)
    assert _same(load_checkpoint(path)[0], model)


def test_names_that_would_collide_are_kept() -> None:
    values = {"a.module.b": 1, "a.b": 2}
    found = find_state(values, lambda names: True)
    assert found is not None
    assert found.values == values


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "model."])
def test_wrappers_are_taken_off_our_own_file(prefix: str, tmp_path: Path) -> None:
    model, path = small_model("gkc"), tmp_path / "model.pt"
    save_checkpoint(path, model, [["cat"]], {})
    raw = torch.load(path, weights_only=True)
    torch.save({**raw, "model": {prefix + name: value for name, value in raw["model"].items()}}, path)
    found, extras = load_checkpoint(path)
    assert _same(found, model)
    assert extras["training_vocabulary"] == [["cat"]]


def test_a_preset_saved_without_its_config(tmp_path: Path) -> None:
    model, path = build_model(preset("mini")), tmp_path / "last.ckpt"
    torch.save({"state_dict": {f"model.{name}": value for name, value in model.state_dict().items()}}, path)
    found, extras = load_checkpoint(path)
    assert found.config == model.config
    assert _same(found, model)
    assert extras == {"training_vocabulary": [], "provenance": {"preset": "mini", "state": "state_dict/model."}}


def test_complex_weights_of_a_published_file(gkc: tuple[MaskModel, dict[str, Tensor]]) -> None:
    _, state = gkc
    name = "backbone.conv1.weight"
    for value in (state[name].to(torch.complex64), state[name].to(torch.complex64).numpy()):
        with pytest.raises(CheckpointError, match=f"{name} holds complex numbers"):
            from_published({**state, name: value}, Path("model.pth"))


def test_hostile_nesting_ends() -> None:
    inner: dict[str, Any] = {}
    inner["model"] = inner["state_dict"] = inner
    assert find_state(inner, lambda names: False) is None


def test_a_pickle_of_an_old_protocol_is_not_run(tmp_path: Path) -> None:
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps({"model": {}}, 0))
    with pytest.raises(CheckpointError, match="Python pickle"):
        load_checkpoint(path)


def test_every_layout_is_registered_once() -> None:
    assert len({layout.family for layout in LAYOUTS}) == len(LAYOUTS)
    for layout in LAYOUTS:
        assert layout_of(layout.family) is layout
        assert layout.matches(set()) == 0
        for name, make in layout.presets.items():
            assert any_preset(name) == make()
            assert make().family == layout.family
    with pytest.raises(CheckpointError, match="this version knows: gkc, fcclip"):
        layout_of("sam")


def test_a_family_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    path, config = tmp_path / "model.pt", {**small_config("gkc").to_dict(), "family": "newer"}
    torch.save({"format": FORMAT, "config": config, "model": {}}, path)
    with pytest.raises(CheckpointError, match="family 'newer'"):
        load_checkpoint(path)


def test_loading_names_what_differs() -> None:
    model = torch.nn.Linear(2, 1)
    for state, told in (
        ({"weight": torch.ones(1, 2)}, "missing: bias"),
        ({**model.state_dict(), "more": torch.ones(1)}, "unknown: more"),
        ({**model.state_dict(), "bias": torch.ones(2)}, "of another shape: bias"),
        ({**model.state_dict(), "bias": "none"}, "bias is a str"),
    ):
        with pytest.raises(CheckpointError, match=told):
            load_weights(model, state, "model.pt")
