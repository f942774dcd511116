"""Frozen image encoders whose region vectors lie in the text encoder's space.

imagenet              EfficientNet-Lite0's ImageNet classes, spelled out by the model's own text encoder
clip:MODEL/WEIGHTS    a CLIP image encoder of open_clip, which downloads the weights once
clip:MODEL:FILE       the same with weights from a file
clip-dense:SOURCE     a plain CLIP's dense features, see clip_dense.py; SOURCE as `ovs-export --clip` takes it
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Protocol

import torch
from torch import Tensor, nn

from ...bundle.errors import UsageError, require
from ...segmenter.backbone import build_backbone, imagenet_state
from ...segmenter.clip_dense.background import BACKGROUND_NAMES
from ...segmenter.config import BackboneConfig, TextConfig
from ...segmenter.text.encoder import TorchTextEncoder
from ..pretrained import open_clip_model, packaged_lite
from .clip_dense import PREFIX, ClipDenseTeacher, clip_dense_teacher


class Teacher(Protocol):
    """Region crops in, unit vectors in the text encoder's space out."""

    @property
    def size(self) -> int:
        """Side of the crops it takes, pixels."""

    @property
    def dim(self) -> int:
        """D, of its vectors."""

    @property
    def digest(self) -> str:
        """Hexadecimal; differs when the vectors do."""

    def encode(self, crops: Tensor) -> Tensor:
        """RGB (N, 3, size, size) float 0..255 -> (N, D) unit vectors, without gradient."""


class ImageNetTeacher:
    """A classifier as an encoder: the mean of its likeliest classes' names, by probability (Norouzi et al. 2014,
    ConSE).

    It places a region between the names of the thousand classes, without having been trained on captions.
    """

    size = 224

    def __init__(self, network: nn.Module, names: Tensor, top: int = 10, temperature: float = 1.0) -> None:
        """`network`: crops (N, 3, size, size) 0..255 -> logits (N, K); `names` (K, D) unit vectors."""
        # As everywhere here: convolutions on a CPU are a third faster so.
        self.network = network.eval().requires_grad_(requires_grad=False).to(memory_format=torch.channels_last)
        self.names = names
        self.top, self.temperature, self.dim = top, temperature, names.shape[1]
        self.digest = _digest([*network.state_dict().values(), names], f"imagenet {top} {temperature}")

    @torch.no_grad()
    def encode(self, crops: Tensor) -> Tensor:
        """RGB (N, 3, size, size) float 0..255 -> (N, D) unit vectors."""
        logits = self.network(crops) / self.temperature
        likeliest, index = logits.softmax(-1).topk(self.top)
        mixed = (likeliest[..., None] * self.names.to(crops.device)[index]).sum(1)
        return nn.functional.normalize(mixed, dim=-1)

    def to(self, device: torch.device) -> ImageNetTeacher:
        """Move the network."""
        self.network.to(device)
        return self


class Lite0Classifier(nn.Module):
    """EfficientNet-Lite0 with the classifier that the segmenter's backbone leaves out."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = build_backbone(BackboneConfig("efficientnet_lite0"))
        self.head = nn.Conv2d(320, 1280, 1, bias=False)
        self.norm = nn.BatchNorm2d(1280, eps=1e-3)
        self.classifier = nn.Linear(1280, 1000)

    def forward(self, crops: Tensor) -> Tensor:
        """RGB (N, 3, 224, 224) 0..255 -> logits (N, 1000)."""
        features = self.trunk((crops - 127) / 128)[-1]
        pooled = nn.functional.relu6(self.norm(self.head(features))).mean((2, 3))
        logits: Tensor = self.classifier(pooled)
        return logits


class ClipTeacher:
    """CLIP's own image encoder, for models that use the text encoder of the same CLIP."""

    def __init__(self, visual: nn.Module, dim: int, size: int, mean: Iterable[float], std: Iterable[float]) -> None:
        """`visual`: normalised crops (N, 3, size, size) -> (N, dim); mean and std of RGB 0..1."""
        self.visual, self.dim, self.size = visual.eval().requires_grad_(requires_grad=False), dim, size
        self.mean, self.std = (255 * torch.tensor(list(values)).view(1, 3, 1, 1) for values in (mean, std))
        self.digest = _digest(visual.state_dict().values(), f"clip {size} {self.mean.tolist()} {self.std.tolist()}")

    @torch.no_grad()
    def encode(self, crops: Tensor) -> Tensor:
        """RGB (N, 3, size, size) float 0..255 -> (N, D) unit vectors."""
        normalised = (crops - self.mean.to(crops.device)) / self.std.to(crops.device)
        return nn.functional.normalize(self.visual(normalised).float(), dim=-1)

    def to(self, device: torch.device) -> ClipTeacher:
        """Move the network."""
        self.visual.to(device)
        return self


def load_teacher(
    name: str, encoder: TorchTextEncoder, device: torch.device | None = None
) -> ImageNetTeacher | ClipTeacher | ClipDenseTeacher:
    """The teacher `name`, see the head of this module, for a model that uses the text encoder `encoder`.

    Raises `UsageError` for a name that is none or a teacher of another space, `CheckpointError` for weights that cannot
    be had.
    """
    kind, _, rest = name.partition(":")
    if name.startswith(PREFIX) and rest:
        words = [*imagenet_names(), *(word for entry in BACKGROUND_NAMES for word in entry)]
        return clip_dense_teacher(name, encoder, words, device or torch.device("cpu"))
    teacher: ImageNetTeacher | ClipTeacher
    if name == "imagenet":
        teacher = _imagenet_teacher(encoder)
    elif kind == "clip" and rest:
        teacher = _clip_teacher(rest, encoder.config)
    else:
        raise UsageError(
            f"no teacher {name!r}; expected imagenet, clip:MODEL/WEIGHTS such as clip:RN50/openai, clip:MODEL:FILE, "
            "or clip-dense:SOURCE such as clip-dense:ViT-B-16/openai"
        )
    return teacher.to(device or torch.device("cpu"))


def imagenet_names() -> list[str]:
    """The thousand classes, in the classifier's order."""
    require("torchvision", "train")
    # Every weight of torchvision carries them; this is the public way to them.
    from torchvision.models import MobileNet_V2_Weights

    return list(MobileNet_V2_Weights.IMAGENET1K_V1.meta["categories"])


def _imagenet_teacher(encoder: TorchTextEncoder) -> ImageNetTeacher:
    packaged = packaged_lite()
    network = Lite0Classifier()
    network.trunk.load_state_dict(imagenet_state(packaged))
    for part, origin in ((network.head, "_conv_head"), (network.norm, "_bn1"), (network.classifier, "_fc")):
        prefix = origin + "."
        part.load_state_dict(
            {key.removeprefix(prefix): value for key, value in packaged.items() if key.startswith(prefix)}
        )
    return ImageNetTeacher(network, encoder.encode(imagenet_names()))


def _clip_teacher(tag: str, text: TextConfig) -> ClipTeacher:
    if text.kind != "clip":
        raise UsageError(
            f"--teacher clip:{tag} has vectors in CLIP's space, the model uses a {text.kind} text encoder; use "
            "--teacher imagenet, or a preset with CLIP's text encoder such as gkc_r50"
        )
    model = open_clip_model(tag, "--teacher")
    import open_clip

    view = open_clip.get_model_preprocess_cfg(model)
    size = view["size"] if isinstance(view["size"], int) else view["size"][0]
    with torch.no_grad():
        dim = model.encode_image(torch.zeros(1, 3, size, size)).shape[1]
    if dim != text.dim:
        raise UsageError(
            f"--teacher clip:{tag} has vectors of {dim} numbers, the text encoder of {text.dim}; name the CLIP "
            "model whose text encoder the model uses"
        )
    return ClipTeacher(model.visual, dim, size, view["mean"], view["std"])


def _digest(tensors: Iterable[Tensor], kind: str) -> str:
    total = hashlib.sha256(kind.encode())
    for tensor in tensors:
        total.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return total.hexdigest()
