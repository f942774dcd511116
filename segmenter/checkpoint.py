"""`model.pt`: config and weights in plain types, loaded without running code."""

from __future__ import annotations

import importlib
import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..bundle.errors import CheckpointError, OvsError
from ..bundle.files import replacing
from .config import SegmenterConfig
from .fcclip import FCClip
from .model import MaskModel, Segmenter

FORMAT = "ovs-edge segmenter"

# How a file begins that torch wrote before it took to zip archives.
_TORCH_MAGIC = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
# What a pickled numpy array is made of; none of it runs code of the file's choosing.
_PARTS = ("_reconstruct", "scalar")
_MULTIARRAY = importlib.import_module("numpy._core.multiarray" if np.__version__ >= "2" else "numpy.core.multiarray")
_NUMPY_GLOBALS: list[Any] = [
    *((getattr(_MULTIARRAY, part), f"numpy.{core}.multiarray.{part}") for part in _PARTS for core in ("core", "_core")),
    np.ndarray,
    np.dtype,
    *(type(np.dtype(code)) for code in "?bBhHiIlLqQefd"),
]


def save_checkpoint(
    path: Path,
    model: MaskModel,
    vocabulary: list[list[str]],
    provenance: dict[str, Any],
    half: bool = False,
    text_state: dict[str, torch.Tensor] | None = None,
    related: dict[str, list[str]] | None = None,
) -> None:
    """Write `model.pt` whole or not at all. `text_state` holds the text encoder's weights, where no package brings them.

    `half` rounds the matrices and kernels to FP16 in the file (and in `model`), so that an export may store them so
    without a loss. Vectors, the statistics of norms among them, stay FP32: they are small, and their range is not.
    """
    if half:
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim >= 2:
                    parameter.copy_(parameter.half().float())
    state = {
        name: value.half() if half and value.ndim >= 2 and value.is_floating_point() else value
        for name, value in model.state_dict().items()
    }
    content = {
        "format": FORMAT,
        "config": model.config.to_dict(),
        "model": state,
        "training_vocabulary": vocabulary,
        "related": related or {},
        "provenance": provenance,
    }
    write_torch(path, content if text_state is None else {**content, "text_encoder": text_state})


def write_torch(path: Path, value: dict[str, Any]) -> None:
    """`torch.save` to a temporary name, then rename."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as work:
            torch.save(value, work)
    except (OSError, RuntimeError) as error:
        raise CheckpointError(f"cannot write {path} ({error}); free some space or choose another folder") from error


def read_torch(path: Path, trust_pickle: bool = False) -> dict[Any, Any]:
    """The dict in a file, of tensors, numpy arrays and plain containers only; raises `CheckpointError`.

    With `trust_pickle` a file may hold anything a pickle can, which is to say, run code when it is loaded.
    """
    if not path.is_file():
        raise CheckpointError(f"no checkpoint at {path}; expected a model.pt from ovs-train, or a published file")
    try:
        with path.open("rb") as stream:
            plain = _is_plain_pickle(stream.read(len(_TORCH_MAGIC)), path.suffix)
        if plain and not trust_pickle:
            raise CheckpointError(
                f"{path} is a Python pickle, which can run code when it is loaded, and was not; expected tensors saved "
                "by torch. If you trust where it comes from, say so with --trust-pickle (trust_pickle=True)"
            )
        if plain:
            raw = _unpickle(path)
        else:
            with torch.serialization.safe_globals(_NUMPY_GLOBALS):
                raw = torch.load(path, map_location="cpu", weights_only=not trust_pickle)
    except pickle.UnpicklingError as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(
            f"{path} holds more than tensors and was not loaded ({reason[:160]}); expected plain weights. If you trust "
            "where it comes from, say so with --trust-pickle (trust_pickle=True)"
        ) from error
    except OvsError:
        raise
    except Exception as error:  # on bytes that are no checkpoint torch's readers raise whatever they trip over
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(
            f"{path} cannot be read as a checkpoint ({reason[:160]}); it is truncated or not one: copy it again"
        ) from error
    if not isinstance(raw, dict):
        raise CheckpointError(f"{path} holds a {type(raw).__name__}, expected a dict with config and model")
    return raw


def _is_plain_pickle(start: bytes, suffix: str) -> bool:
    """Whether a file is a pickle that torch did not write, by its first bytes; old protocols show in the name alone."""
    if start.startswith((b"PK", _TORCH_MAGIC)):
        return False
    return start.startswith(b"\x80") or suffix == ".pkl"


def _unpickle(path: Path) -> Any:
    try:
        with path.open("rb") as stream:
            return pickle.load(stream, encoding="latin1")  # model zoos hold files from Python 2
    except Exception as error:  # a pickle may raise anything
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"{path} cannot be unpickled ({reason[:160]}); copy it again") from error


def build_model(config: SegmenterConfig) -> MaskModel:
    """The model of a config, with random weights."""
    return FCClip(config) if config.family == "fcclip" else Segmenter(config)


def load_checkpoint(path: Path, trust_pickle: bool = False) -> tuple[MaskModel, dict[str, Any]]:
    """The model in eval mode, and what else the file tells: training vocabulary, provenance, a text encoder's weights.

    Reads our own files and the published ones, see `load_published`. Raises `CheckpointError`.
    """
    raw = read_torch(path, trust_pickle)
    if raw.get("format") != FORMAT:
        from .layouts.published import from_published

        return from_published(raw, path)
    if not isinstance(raw.get("config"), dict) or not isinstance(raw.get("model"), dict):
        found = ", ".join(sorted(map(str, raw))[:5])
        raise CheckpointError(f"{path} lacks its config or weights (it holds: {found}); copy it again")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about layers of no size: what is wrong with them is said below
            model = build_model(SegmenterConfig.from_dict(raw["config"]))
        load_weights(model, raw["model"], str(path))
    except OvsError:
        raise
    except Exception as error:  # a config of wrong types fails wherever it is first used
        raise CheckpointError(f"{path}: the model config cannot be built ({error}); update ovs-edge") from error
    return model.eval(), {key: value for key, value in raw.items() if key not in ("model", "config", "format")}


def load_weights(model: torch.nn.Module, state: dict[str, Any], origin: str) -> None:
    """Load every parameter or raise `CheckpointError` naming what is missing, unknown or of another shape."""
    own = model.state_dict()
    missing = sorted(set(own) - set(state))
    unknown = sorted(set(state) - set(own))
    shapes = sorted(name for name in set(own) & set(state) if tuple(own[name].shape) != tuple(state[name].shape))
    for problem, names in (("missing", missing), ("unknown", unknown), ("of another shape", shapes)):
        if names:
            more = f" and {len(names) - 5} more" if len(names) > 5 else ""
            raise CheckpointError(
                f"{origin}: parameters {problem}: {', '.join(names[:5])}{more}; expected those of {type(model).__name__}"
            )
    model.load_state_dict(state)
