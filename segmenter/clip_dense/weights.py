"""CLIP weights from wherever they are: open_clip's download, or a file in any of the forms that are published.

    MODEL/WEIGHTS   both names of open_clip, which downloads them once: ViT-B-16/openai
    MODEL:FILE      a file of a model that open_clip knows: ViT-L-14:weights.safetensors
    FILE            a file alone; its shapes tell the model

A file is a state dict saved by torch, bare or under `state_dict` or `model`, a TorchScript archive as OpenAI publishes its
weights, or safetensors. None of them runs code.
"""

from __future__ import annotations

import dataclasses
import hashlib
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...bundle.errors import CheckpointError, OvsError, UsageError
from ..config import TextConfig
from ..quiet import no_logs_or_warnings
from ..text.clip_text import ClipText, text_state
from ..weights.checks import check_dense, check_weights
from ..weights.files import read_weights
from ..weights.torchscript import is_torchscript
from ..weights.unwrap import find_state
from .architecture import named_architecture, plain_models, shaped_architecture
from .config import ClipDenseConfig, ClipVisionConfig
from .model import ClipDense
from .vision import VisionTransformer

_FIRST = "visual.conv1.weight"  # a parameter that every CLIP with a vision transformer has
_OPENAI_ONLY = ("input_resolution", "context_length", "vocab_size")  # numbers that only OpenAI's files hold
_HUB_FILES = "open_clip_model.safetensors or open_clip_pytorch_model.bin"  # in a repository; others are in other forms
_SUFFIXES = (".pt", ".pth", ".bin", ".ckpt", ".safetensors")


@dataclass(frozen=True)
class ClipSource:
    """Where weights come from."""

    model: str | None  # open_clip's name of the architecture; None: the file's shapes tell
    weights: str | None  # open_clip's name of the weights
    file: Path | None

    @classmethod
    def parse(cls, text: str) -> ClipSource:
        """Read MODEL/WEIGHTS, MODEL:FILE or FILE; raises `UsageError`."""
        path = Path(text)
        if text and (path.is_file() or (path.suffix.lower() in _SUFFIXES and ":" not in text)):
            return cls(None, None, path)
        model, colon, file = text.partition(":")
        if colon and model and file:
            return cls(model, None, Path(file).expanduser())  # no shell does it after a colon
        model, slash, weights = text.partition("/")
        if not colon and slash and model and weights and "/" not in weights:
            return cls(model, weights, None)
        raise UsageError(
            f"--clip is {text!r}, expected MODEL/WEIGHTS such as ViT-B-16/openai, MODEL:FILE such as "
            "ViT-B-16:weights.safetensors, or a file of weights"
        )

    def __str__(self) -> str:
        if self.file is None:
            return f"{self.model}/{self.weights}"
        return str(self.file) if self.model is None else f"{self.model}:{self.file}"


@dataclass(frozen=True)
class ClipWeights:
    """A CLIP as it was read."""

    name: str  # open_clip's name of the architecture, where it has one
    vision: ClipVisionConfig
    text: TextConfig
    vision_state: dict[str, Tensor]  # under the names of `VisionTransformer`, float32
    text_state: dict[str, Tensor]  # under the names of `ClipText`, float32
    origin: str  # for messages
    assumed: str | None  # what the file does not tell and had to be assumed, a sentence for the user

    def model(self, **options: Any) -> ClipDense:
        """The segmenter, in eval mode; `options` are fields of `ClipDenseConfig`."""
        with torch.device("meta"):  # no time for random weights that are replaced at once
            vision = VisionTransformer(self.vision)
        vision.load_state_dict(self.vision_state, assign=True)
        dense = ClipDense(ClipDenseConfig(self.name, self.vision, self.text, **options), vision)
        return dense.eval().requires_grad_(requires_grad=False)

    def digest(self) -> str:
        """sha256 over names and values: the same for every form of the same weights."""
        state = hashlib.sha256()
        for part in (self.vision_state, self.text_state):
            for name in sorted(part):
                state.update(f"{name} {tuple(part[name].shape)}\n".encode())
                state.update(part[name].contiguous().numpy().tobytes())
        return state.hexdigest()


def read_clip(source: ClipSource) -> ClipWeights:
    """Read or download weights. Raises `UsageError`, and `CheckpointError` naming what is missing or how to fetch it."""
    if source.file is None:
        assert source.model is not None and source.weights is not None
        vision, text = named_architecture(source.model, source.weights)
        return _checked(source.model, vision, text, _downloaded(source.model, source.weights), str(source), None)
    origin = str(source.file)
    state, openai = clip_state(source.file)
    shapes = {name: tuple(value.shape) for name, value in state.items()}
    found, vision, text = shaped_architecture(shapes, origin, quick=True)
    if source.model is None:
        assumed = None
        if not openai:
            assumed = f"{origin} does not tell its activation: QuickGELU was assumed, as in OpenAI's weights"
            if found in plain_models():
                assumed += f"; for weights trained with GELU say --clip {found.removesuffix('-quickgelu')}:{origin}"
        return _checked(found, vision, text, state, origin, assumed)
    named_vision, named_text = named_architecture(source.model, None)
    if openai:
        named_vision = dataclasses.replace(named_vision, quick_gelu=True)
        named_text = dataclasses.replace(named_text, quick_gelu=True)
    if dataclasses.replace(named_vision, quick_gelu=True) != vision:
        raise CheckpointError(
            f"{origin} holds a {found} (patch {vision.patch}, width {vision.width}, {vision.layers} blocks), "
            f"{source.model} was named; name the model that it is"
        )
    return _checked(source.model, named_vision, named_text, state, origin, None)


def clip_state(path: Path) -> tuple[dict[str, Tensor], bool]:
    """Name -> tensor of a file in any form, and whether it can only be OpenAI's; raises `CheckpointError`."""
    if not path.is_file():
        raise CheckpointError(f"no CLIP weights at {path}; expected a file that open_clip or OpenAI publishes")
    raw = read_weights(path, offer_trust=False)
    found = find_state(raw, lambda names: _FIRST in names)
    values = raw if found is None else found.values
    state = {str(name): value for name, value in values.items() if isinstance(value, Tensor)}
    openai = is_torchscript(path) or all(name in state for name in _OPENAI_ONLY)
    return {name: value for name, value in state.items() if name not in _OPENAI_ONLY}, openai


def _checked(
    name: str, vision: ClipVisionConfig, text: TextConfig, state: Mapping[str, Tensor], origin: str, assumed: str | None
) -> ClipWeights:
    check_dense(state, origin)
    seen = {key.removeprefix("visual."): value.float() for key, value in state.items() if key.startswith("visual.")}
    read = {key: value.float() for key, value in text_state(dict(state)).items()}
    with torch.device("meta"):
        towers = (VisionTransformer(vision), ClipText(text))
    for tower, part, prefix in ((towers[0], seen, "visual."), (towers[1], read, "")):
        expected = {key: tuple(value.shape) for key, value in tower.state_dict().items()}
        _complain({prefix + key: shape for key, shape in expected.items()}, part, prefix, origin, name)
        check_weights(part, origin)
    return ClipWeights(name, vision, text, seen, read, origin, assumed)


def _complain(
    expected: Mapping[str, tuple[int, ...]], part: Mapping[str, Tensor], prefix: str, origin: str, name: str
) -> None:
    """Raise `CheckpointError` with the names of what is missing, unknown or of another shape."""
    found = {prefix + key: tuple(value.shape) for key, value in part.items()}
    problems = {
        "missing": sorted(expected.keys() - found),
        "unknown": sorted(found.keys() - expected),
        "of another shape": sorted(key for key in expected.keys() & found if expected[key] != found[key]),
    }
    said = [
        f"{len(some)} {problem}: {', '.join(some[:3])}{', …' if len(some) > 3 else ''}"
        for problem, some in problems.items()
        if some
    ]
    if said:
        raise CheckpointError(
            f"{origin} is not the CLIP {name}: of its parameters are {'; '.join(said)}; copy it again, or name its model"
        )


def _downloaded(model: str, weights: str) -> dict[str, Tensor]:
    """The state of pretrained weights through open_clip, which downloads them once and shows its progress."""
    import open_clip

    try:
        # What failed is said once, below; warnings are about activations, and ours follow the weights' configuration.
        with no_logs_or_warnings():
            state: dict[str, Tensor] = open_clip.create_model(model, pretrained=weights).state_dict()
        return state
    except OvsError:
        raise
    except Exception as error:  # the hub's client, the network and open_clip raise dozens of unrelated types
        reason = textwrap.shorten((str(error).splitlines() or [type(error).__name__])[0], 160, placeholder=" …")
        known = open_clip.get_pretrained_cfg(model, weights)
        quick = "-quickgelu" if known.get("quick_gelu") and not model.endswith("-quickgelu") else ""
        places = " or ".join(
            place
            for place in (
                known.get("hf_hub") and f"the hub's repository {known['hf_hub'].strip('/')} ({_HUB_FILES})",
                known.get("url"),
            )
            if place
        )
        raise CheckpointError(
            f"the weights of CLIP {model}/{weights} cannot be loaded ({reason}); connect to the network once, or "
            f"fetch them on another machine, from {places}, and pass the file: --clip {model}{quick}:FILE"
        ) from error
