"""A published file with a parameter too few, too many or of another shape is refused by that parameter's name."""

from __future__ import annotations

import functools
import json
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.reference import FOLDER, decoder_layout, needs_reference, published_file, small_config

from ovs_edge.bundle.errors import CheckpointError
from ovs_edge.segmenter.config import SegmenterConfig, gkc_r101
from ovs_edge.segmenter.layouts.account import Account
from ovs_edge.segmenter.layouts.fcclip import FCCLIP_PRESETS
from ovs_edge.segmenter.layouts.registry import build_model, recognise
from ovs_edge.segmenter.model import MaskModel
from ovs_edge.segmenter.text.clip_text import ClipText

Shapes = dict[str, tuple[int, ...]]

FAMILIES = ("gkc", "fcclip")
SMALL = (("gkc", "clip_resnet"), ("fcclip", "clip_resnet"), ("fcclip", "convnext"))
CHANGES = ("removed", "renamed", "prefixed", "lengthened", "widened", "folded", "stray")
COUNTER = ".num_batches_tracked"

# One or more of every part: what is used, text tower, counters, teacher, distillation heads, loss.
SAMPLE = {
    "gkc": (
        "non_object_embedding", "logit_scale", "backbone.conv1.weight", "backbone.layer4.2.bn3.running_var",
        "backbone.bn1.num_batches_tracked", "backbone.layer3.0.downsample.1.num_batches_tracked",
        "sem_seg_head.pixel_decoder.adapter_1.weight", "sem_seg_head.predictor.query_feat.weight",
        "embed_proj.1.bias", "aux_embed_porj_0.1.weight", "text_encoder.positional_embedding",
        "text_encoder.transformer.resblocks.11.ln_2.bias", "vision_clip.conv1.weight",
        "vision_clip.layer4.2.bn3.num_batches_tracked", "vision_clip.attnpool.positional_embedding",
        "vision_clip.attnpool.c_proj.bias", "kd_proj.weight", "aux_kd_porj_8.bias", "text_kd_logit_scale",
        "empty_weight", "criterion.empty_weight",
    ),
    "fcclip": (
        "backbone.clip_model.logit_scale", "backbone.clip_model.text_projection",
        "backbone.clip_model.visual.attnpool.positional_embedding",
        "backbone.clip_model.visual.bn1.num_batches_tracked",
        "backbone.clip_model.visual.layer4.2.bn3.num_batches_tracked", "backbone.clip_model.token_embedding.weight",
        "sem_seg_head.predictor._mask_pooling_proj.1.weight", "sem_seg_head.predictor.logit_scale",
        "sem_seg_head.pixel_decoder.transformer.level_embed", "void_embedding.weight", "criterion.empty_weight",
    ),
}  # fmt: skip
STRAYS = ("criterion.foo", "vision_clip.foo", "kd_proj.foo", "aux_kd_porj_9.weight", "proposal.bn" + COUNTER,
          "backbone.fc.weight", "sem_seg_head.predictor.transformer_ffn_layers.9.norm.weight", "foo")  # fmt: skip


@functools.lru_cache(maxsize=4)
def _built(config: SegmenterConfig) -> MaskModel:
    with torch.device("meta"):
        return build_model(config)


@functools.cache
def _whole(config: SegmenterConfig) -> Shapes:
    """Names and shapes of a file of `config`."""
    with torch.device("meta"):
        file = published_file(_built(config), ClipText(config.text).state_dict())
    shapes = {name: tuple(value.shape) for name, value in file.items()}
    for part in decoder_layout(config.family).not_needed(config, {}):
        shapes |= part
    return shapes


@functools.cache
def _reference(family: str) -> Shapes:
    """Names and shapes of the published R50."""
    states = json.loads((FOLDER / f"{family}_r50_state.json").read_text())
    return {name: tuple(shape) for name, shape in states.items()}


def _account(shapes: Shapes) -> Account:
    """Read a file of `shapes` as far as its values matter."""
    found = recognise(shapes.keys())
    assert found is not None
    layout = decoder_layout(found.family)
    model = _built(layout.read_config(shapes, "file"))
    return layout.account_for(
        model, {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}, "file"
    )


def _changed(shapes: Shapes, name: str, change: str) -> tuple[Shapes, str]:
    """The file with `change` made to `name`, and the name that the message has to hold."""
    shape, rest = shapes[name], {other: shape for other, shape in shapes.items() if other != name}
    if change == "removed":
        return rest, name
    if change == "stray":
        stray = f"{name.rpartition('.')[0]}.stray".lstrip(".")
        return {**shapes, stray: shape}, stray
    if change in ("renamed", "prefixed"):
        return {**rest, f"{name}_2" if change == "renamed" else f"criterion.{name}": shape}, name
    others = {
        "lengthened": (shape[0] + 1, *shape[1:]) if shape else (2,),
        "widened": (*shape[:-1], shape[-1] + 1) if shape else (1,),
        "folded": (*shape, 1),
    }
    return {**shapes, name: others[change]}, name


def _refused(shapes: Shapes, name: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        _account(shapes)
    assert re.search(rf"(?<![\w.]){re.escape(name)}(?!\.?\w)", str(caught.value)), f"{name}: {caught.value}"


@needs_reference
@pytest.mark.parametrize("family", FAMILIES)
def test_the_whole_reference_is_known(family: str) -> None:
    shapes = _reference(family)
    account = _account(shapes)
    assert {*account.model, *account.text, *account.not_needed} == set(shapes)
    assert shapes == {**_whole(_built(decoder_layout(family).read_config(shapes, "file")).config), **_grid(shapes)}


def _grid(shapes: Shapes) -> Shapes:
    """What no config tells: the resolution that a GKC teacher was made for."""
    return {name: shape for name, shape in shapes.items() if name == "vision_clip.attnpool.positional_embedding"}


@pytest.mark.parametrize("config", [gkc_r101(), *(make() for make in FCCLIP_PRESETS.values())], ids=lambda c: c.name)
def test_other_published_sizes(config: SegmenterConfig) -> None:
    shapes = _whole(config)
    account = _account(shapes)
    assert {*account.model, *account.text, *account.not_needed} == set(shapes)


@needs_reference
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_sample_of_every_part(family: str, change: str) -> None:
    for name in SAMPLE[family]:
        _refused(*_changed(_reference(family), name, change))


@needs_reference
@settings(max_examples=100, deadline=None)
@given(data=st.data(), family=st.sampled_from(FAMILIES), change=st.sampled_from(CHANGES))
def test_any_name_of_the_reference(data: st.DataObject, family: str, change: str) -> None:
    shapes = _reference(family)
    _refused(*_changed(shapes, data.draw(st.sampled_from(sorted(shapes))), change))


@pytest.mark.parametrize(("family", "backbone"), SMALL, ids=["gkc", "fcclip", "fcclip-convnext"])
def test_every_name_of_a_small_file(family: str, backbone: str) -> None:
    """Each way for every seventh name."""
    shapes = _whole(small_config(family, backbone))
    for index, name in enumerate(shapes):
        _refused(*_changed(shapes, name, CHANGES[index % len(CHANGES)]))


@pytest.mark.parametrize("stray", STRAYS)
@pytest.mark.parametrize(("family", "backbone"), SMALL, ids=["gkc", "fcclip", "fcclip-convnext"])
def test_strays(family: str, backbone: str, stray: str) -> None:
    _refused({**_whole(small_config(family, backbone)), stray: (3,)}, stray)


@pytest.mark.parametrize("part", ["", "text_encoder", "vision_clip", "kd", "loss", "counters", "all"])
def test_what_a_slim_release_leaves_out(part: str) -> None:
    """A part as a whole, and never less: of what is left over of it, everything else is missing."""
    shapes = _whole(small_config("gkc"))
    parts = {
        "": r"$",
        "text_encoder": r"text_encoder\.",
        "vision_clip": r"vision_clip\.",
        "kd": r"kd_proj|aux_kd_porj|text_kd",
        "loss": r"(criterion\.)?empty_weight",
        "counters": r".*num_batches_tracked$",
    }
    parts["all"] = "|".join(pattern for name, pattern in parts.items() if name)
    left_out = [name for name in shapes if re.match(parts[part], name)]
    slim = {name: shape for name, shape in shapes.items() if name not in left_out}
    account = _account(slim)
    assert {*account.model, *account.text, *account.not_needed} == set(slim)
    if part not in ("", "all"):
        first, second, *_ = sorted(left_out)
        _refused({**slim, second: shapes[second]}, first)
        _refused({**slim, f"{left_out[0]}_2": shapes[left_out[0]]}, f"{left_out[0]}_2")


def test_an_fcclip_file_has_no_such_parts() -> None:
    shapes = _whole(small_config("fcclip"))
    _refused(
        {name: shape for name, shape in shapes.items() if name != "criterion.empty_weight"}, "criterion.empty_weight"
    )
    counter = next(name for name in shapes if name.endswith(COUNTER))
    _refused({name: shape for name, shape in shapes.items() if name != counter}, counter)
