"""How the published files name what our modules hold."""

from __future__ import annotations

import re

from ..config import SegmenterConfig

_HEAD = "sem_seg_head."
_PIXEL = _HEAD + "pixel_decoder."
_QUERY = _HEAD + "predictor."

Rules = tuple[tuple[str, str], ...]  # (pattern at the start of our name, what stands there in the published one)

# Both files come from the same two decoders.
_DECODERS: Rules = (
    (r"pixel_decoder\.input_proj\.", _PIXEL + "input_proj."),
    (r"pixel_decoder\.level_embed$", _PIXEL + "transformer.level_embed"),
    (r"pixel_decoder\.layers\.", _PIXEL + "transformer.encoder.layers."),
    (r"pixel_decoder\.fpn\.0\.lateral\.conv\.", _PIXEL + "adapter_1."),
    (r"pixel_decoder\.fpn\.0\.lateral\.norm\.", _PIXEL + "adapter_1.norm."),
    (r"pixel_decoder\.fpn\.0\.output\.conv\.", _PIXEL + "layer_1."),
    (r"pixel_decoder\.fpn\.0\.output\.norm\.", _PIXEL + "layer_1.norm."),
    (r"pixel_decoder\.mask_features\.", _PIXEL + "mask_features."),
    (r"query_decoder\.layers\.(\d+)\.self_attn\.", _QUERY + r"transformer_self_attention_layers.\1.self_attn."),
    (r"query_decoder\.layers\.(\d+)\.self_norm\.", _QUERY + r"transformer_self_attention_layers.\1.norm."),
    (r"query_decoder\.layers\.(\d+)\.cross_attn\.", _QUERY + r"transformer_cross_attention_layers.\1.multihead_attn."),
    (r"query_decoder\.layers\.(\d+)\.cross_norm\.", _QUERY + r"transformer_cross_attention_layers.\1.norm."),
    (r"query_decoder\.layers\.(\d+)\.ffn_norm\.", _QUERY + r"transformer_ffn_layers.\1.norm."),
    (r"query_decoder\.layers\.(\d+)\.linear", _QUERY + r"transformer_ffn_layers.\1.linear"),
    (r"query_decoder\.(query_feat|query_embed|level_embed)$", _QUERY + r"\1.weight"),
    (r"query_decoder\.", _QUERY),
    (r"class_embed\.", _QUERY + "class_embed."),
)

_GKC: Rules = (
    *_DECODERS,
    (r"text_proj\.(\d+)\.", r"aux_embed_porj_\1.1."),  # spelt so in the files
    (r"no_object$", "non_object_embedding"),
)

_CLIP = "backbone.clip_model."

_FCCLIP: Rules = (
    *_DECODERS,
    (r"mask_pooling_proj\.", _QUERY + "_mask_pooling_proj."),
    (r"no_object$", "void_embedding.weight"),
    (r"logit_scale$", _QUERY + "logit_scale"),
    (r"clip_logit_scale$", _CLIP + "logit_scale"),
)
_FCCLIP_RESNET: Rules = (
    (r"backbone\.", _CLIP + "visual."),
    (r"pool\.", _CLIP + "visual.attnpool."),
    *_FCCLIP,
)
_FCCLIP_CONVNEXT: Rules = (
    (r"backbone\.", _CLIP + "visual.trunk."),
    (r"pool\.norm\.", _CLIP + "visual.trunk.head.norm."),
    (r"pool\.", _CLIP + "visual.head.mlp."),
    *_FCCLIP,
)

TEXT_PREFIX = {"gkc": "text_encoder.", "fcclip": _CLIP}  # the text tower's names follow it unchanged

OURS_ALONE = frozenset({"seen_vectors"})  # in our state dict, in no published file

# Names that only one of the layouts has, each a way to recognise it.
_SIGNATURES = {
    "gkc": re.compile(r"aux_embed_porj_|embed_proj\.|non_object_embedding$|aux_kd_porj_|vision_clip\.|text_encoder\."),
    "fcclip": re.compile(r"backbone\.clip_model\.|void_embedding\.|sem_seg_head\.predictor\._mask_pooling_proj\."),
}


def recognise(names: set[str]) -> str | None:
    """The family of a published file, "gkc" or "fcclip", by its parameter names; None for anything else."""
    if not any(name.startswith(_HEAD) for name in names):
        return None
    found = {family: sum(1 for name in names if sign.match(name)) for family, sign in _SIGNATURES.items()}
    best = max(found, key=lambda family: found[family])
    return best if found[best] else None


def published_name(name: str, config: SegmenterConfig) -> str:
    """What the published file of this model calls our parameter `name`."""
    if config.family == "gkc":
        last = f"text_proj.{config.query_decoder.layers}."
        if name.startswith(last):
            return name.replace(last, "embed_proj.1.")
        rules = _GKC
    else:
        rules = _FCCLIP_CONVNEXT if config.backbone.kind == "convnext" else _FCCLIP_RESNET
    for pattern, replacement in rules:
        renamed, count = re.subn(r"\A" + pattern, replacement, name)
        if count:
            return renamed
    return name  # the GKC backbone and temperature are called the same
