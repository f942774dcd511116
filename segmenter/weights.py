"""Files of weights: read without running code, written whole or not at all, loaded into a model by name."""

from __future__ import annotations

import importlib
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ..bundle.errors import CheckpointError, OvsError
from ..bundle.files import replacing
from .weight_checks import check_weights

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


def write_torch(path: Path, value: dict[str, Any]) -> None:
    """`torch.save` to a temporary name, then rename."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as work:
            torch.save(value, work)
    except (OSError, RuntimeError) as error:
        raise CheckpointError(f"cannot write {path} ({error}); free some space or choose another folder") from error


def read_torch(path: Path, *, trust_pickle: bool = False) -> dict[Any, Any]:
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


def load_weights(model: nn.Module, state: dict[str, Any], origin: str) -> None:
    """Load every parameter or raise `CheckpointError` naming what is missing, unknown, of another shape, or not finite."""
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
    check_weights(state, origin)
    model.load_state_dict(state)
