"""The published sizes have the parameters of the models they are built on."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from support.reference import FOLDER, decoder_layout, needs_reference, published_file
from torch import nn

from ovs_edge.segmenter.config import SegmenterConfig, gkc_r50, gkc_r101
from ovs_edge.segmenter.layouts.fcclip import FCCLIP_PRESETS, fcclip_convnext_large, fcclip_r50
from ovs_edge.segmenter.layouts.registry import build_model
from ovs_edge.segmenter.text.clip_text import ClipText

Shapes = dict[str, tuple[int, ...]]

CLIPS = {
    "fcclip_r50": "RN50",
    "fcclip_r101": "RN101",
    "fcclip_r50x4": "RN50x4",
    "fcclip_convnext_large": "convnext_large_d_320",
}


def _shapes(module: nn.Module) -> Shapes:
    return {name: tuple(value.shape) for name, value in module.state_dict().items()}


def _file(config: SegmenterConfig) -> Shapes:
    """Names and shapes of the published file."""
    with torch.device("meta"):
        model, text = build_model(config), ClipText(config.text)
    return {name: tuple(value.shape) for name, value in published_file(model, text.state_dict()).items()}


@pytest.mark.parametrize("name", FCCLIP_PRESETS)
def test_clip_inside_is_open_clips(name: str) -> None:
    open_clip = pytest.importorskip("open_clip")
    settings = open_clip.get_model_config(CLIPS[name])
    with torch.device("meta"):
        clip = open_clip.CLIP(**settings, quick_gelu=False)
    prefix = "backbone.clip_model."
    found = {key.removeprefix(prefix): shape for key, shape in _file(FCCLIP_PRESETS[name]()).items() if prefix in key}
    assert found == _shapes(clip)


@pytest.mark.parametrize("name", FCCLIP_PRESETS)
def test_config_comes_back_from_shapes(name: str) -> None:
    config = FCCLIP_PRESETS[name]()
    read = decoder_layout("fcclip").read_config(_file(config), "file")
    assert dataclasses.replace(read, seen_names=config.seen_names) == config


def test_gkc_config_comes_back_from_shapes() -> None:
    for config in (gkc_r50(), gkc_r101()):
        assert decoder_layout("gkc").read_config(_file(config), "file") == config


@needs_reference
@pytest.mark.parametrize("config", [gkc_r50(), fcclip_r50()], ids=["gkc", "fcclip"])
def test_config_of_the_reference(config: SegmenterConfig) -> None:
    shapes = json.loads((FOLDER / f"{config.name}_state.json").read_text())
    layout = decoder_layout(config.family)
    read = layout.read_config({name: tuple(shape) for name, shape in shapes.items()}, "file")
    assert dataclasses.replace(read, seen_names=config.seen_names) == config


def test_convnext_uses_exact_gelu() -> None:
    assert not fcclip_convnext_large().text.quick_gelu
