"""The shape of a CLIP: from open_clip's configuration of that name, or from the parameters of a file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ...bundle.errors import CheckpointError, UsageError
from ..config import TextConfig
from .config import ClipVisionConfig

_HEAD = 64  # channels of an attention head, where a configuration does not say otherwise
_CONTEXT, _VOCABULARY = 77, 49408  # of CLIP's tokenizer: a tower of other sizes could not be fed
# What of open_clip's vision configurations changes the function; a model with any other entry is another architecture.
_KNOWN_VISION = {"image_size", "layers", "width", "patch_size", "head_width"}
_KNOWN_TEXT = {"context_length", "vocab_size", "width", "heads", "layers"}

Shape = tuple[int, ...]


def imagenet_templates() -> tuple[str, ...]:
    """The 80 prompts that CLIP's ImageNet numbers were measured with, one {} in each."""
    from open_clip import OPENAI_IMAGENET_TEMPLATES

    return tuple(template("{}") for template in OPENAI_IMAGENET_TEMPLATES)


def named_architecture(name: str, tag: str | None) -> tuple[ClipVisionConfig, TextConfig]:
    """Both towers of open_clip's model `name`, with the activation of its weights `tag` where one is given.

    Raises `UsageError` for a model that open_clip does not know, or that is no plain CLIP with a vision transformer.
    """
    import open_clip

    raw = open_clip.get_model_config(name)
    if raw is None or not is_plain_vit(raw):
        raise UsageError(
            f"--clip names the model {name!r}, which is no CLIP of open_clip with a plain vision transformer; expected "
            f"one of: {', '.join(plain_models())}"
        )
    quick = bool(raw.get("quick_gelu"))
    if tag is not None:
        tags = open_clip.list_pretrained_tags_by_model(name)
        if tag not in tags:
            raise UsageError(
                f"--clip {name}/{tag}: open_clip has no weights {tag!r} of {name}; it has: {', '.join(tags)}"
            )
        quick = quick or bool(open_clip.get_pretrained_cfg(name, tag).get("quick_gelu"))
    return from_open_clip(raw, quick=quick)


def plain_models() -> list[str]:
    """open_clip's models that a recipe works on."""
    import open_clip

    return [name for name in open_clip.list_models() if is_plain_vit(open_clip.get_model_config(name))]


def is_plain_vit(raw: Mapping[str, Any]) -> bool:
    """Whether an open_clip configuration is OpenAI's architecture with a vision transformer."""
    vision, text = raw["vision_cfg"], raw["text_cfg"]
    return (
        set(raw) <= {"embed_dim", "quick_gelu", "vision_cfg", "text_cfg"}
        and set(vision) <= _KNOWN_VISION
        and set(text) <= _KNOWN_TEXT
        and isinstance(vision.get("layers"), int)
        and isinstance(vision["image_size"], int)
        and "patch_size" in vision
        and (text["context_length"], text["vocab_size"]) == (_CONTEXT, _VOCABULARY)
    )


def from_open_clip(raw: Mapping[str, Any], *, quick: bool) -> tuple[ClipVisionConfig, TextConfig]:
    """Both towers of an open_clip configuration."""
    vision, text = raw["vision_cfg"], raw["text_cfg"]
    return (
        ClipVisionConfig(
            patch=vision["patch_size"],
            width=vision["width"],
            layers=vision["layers"],
            heads=vision["width"] // vision.get("head_width", _HEAD),
            dim=raw["embed_dim"],
            grid=vision["image_size"] // vision["patch_size"],
            quick_gelu=quick,
        ),
        TextConfig(
            kind="clip",
            dim=raw["embed_dim"],
            context_length=text["context_length"],
            layers=text["layers"],
            width=text["width"],
            heads=text["heads"],
            vocabulary=text["vocab_size"],
            quick_gelu=quick,
            templates=imagenet_templates(),
        ),
    )


def shaped_architecture(
    shapes: Mapping[str, Shape], origin: str, *, quick: bool
) -> tuple[str, ClipVisionConfig, TextConfig]:
    """Name and both towers of a file, by the shapes of its parameters; raises `CheckpointError` naming what is missing.

    How many channels an attention head has does not show in any shape: it is looked up among open_clip's models.
    """
    needed = ("visual.class_embedding", "visual.conv1.weight", "visual.positional_embedding", "visual.proj",
              "token_embedding.weight", "positional_embedding", "text_projection")  # fmt: skip
    if any(name.startswith("vision_model.") for name in shapes):
        raise CheckpointError(
            f"{origin} is in the form of transformers (vision_model.…), expected open_clip's or OpenAI's names; fetch "
            "open_clip's file of the same weights"
        )
    if missing := [name for name in needed if name not in shapes]:
        raise CheckpointError(
            f"{origin} is no CLIP with a plain vision transformer: it lacks {', '.join(missing)}; expected the weights "
            "of a model such as ViT-B-16, under open_clip's or OpenAI's names"
        )
    width, _, patch, _ = (*shapes["visual.conv1.weight"], 0, 0, 0, 0)[:4]
    grid = math.isqrt(max(0, shapes["visual.positional_embedding"][0] - 1))
    dim, text_width = shapes["text_projection"][-1], shapes["token_embedding.weight"][-1]
    if patch < 1 or grid < 1 or width < 1 or text_width < 1:
        raise CheckpointError(f"{origin}: its tensors have shapes of no vision transformer; copy it again")
    vision = ClipVisionConfig(
        patch, width, _blocks(shapes, "visual.transformer."), max(1, width // _HEAD), dim, grid, quick
    )
    text = TextConfig(
        "clip", dim, _CONTEXT, _blocks(shapes, "transformer."), text_width, max(1, text_width // _HEAD), _VOCABULARY,
        quick, imagenet_templates(),
    )  # fmt: skip
    for name in plain_models():
        import open_clip

        known = from_open_clip(open_clip.get_model_config(name), quick=quick)
        if _sizes(*known) == _sizes(vision, text):
            return (name, *known)
    return f"ViT-{width}-{patch}", vision, text


def _sizes(vision: ClipVisionConfig, text: TextConfig) -> tuple[int, ...]:
    """What shapes tell of both towers."""
    return (vision.patch, vision.width, vision.layers, vision.dim, vision.grid, text.dim, text.layers, text.width)


def _blocks(shapes: Mapping[str, Shape], prefix: str) -> int:
    start = f"{prefix}resblocks."
    indices = [name.removeprefix(start).partition(".")[0] for name in shapes if name.startswith(start)]
    return 1 + max((int(index) for index in indices if index.isdecimal()), default=-1)
