"""Files of weights, read without running code, written whole or not at all."""

from __future__ import annotations

import importlib
import pickle
import re
import warnings
from pathlib import Path
from textwrap import shorten
from typing import Any

import numpy as np
import torch

from ...bundle.errors import CheckpointError, require
from ...bundle.files import is_named_pipe, replacing
from .file_kinds import TORCH_MAGIC, file_kind
from .torchscript import is_torchscript, read_torchscript

# What a pickled numpy array is made of; none of it runs code of the file's choosing.
_PARTS = ("_reconstruct", "scalar")
_MULTIARRAY = importlib.import_module("numpy._core.multiarray" if np.__version__ >= "2" else "numpy.core.multiarray")
_NUMPY_GLOBALS: list[Any] = [
    *((getattr(_MULTIARRAY, part), f"numpy.{core}.multiarray.{part}") for part in _PARTS for core in ("core", "_core")),
    np.ndarray,
    np.dtype,
    *(type(np.dtype(code)) for code in "?bBhHiIlLqQefdFD"),
]
_TRUST = "If you trust where the file comes from, say so with --trust-pickle (trust_pickle=True)"
# The class or function that torch's restricted reader refuses; other messages of it tell of damaged files.
_FOREIGN_CLASS = re.compile(r"GLOBAL ([\w.]+)")


def write_torch(path: Path, value: dict[str, Any]) -> None:
    """`torch.save` to a temporary name, then rename."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as work:
            torch.save(value, work)
    except (OSError, RuntimeError) as error:
        raise CheckpointError(f"cannot write {path} ({error}); free some space or choose another folder") from error


def read_weights(path: Path, *, trust_pickle: bool = False, offer_trust: bool = True) -> dict[Any, Any]:
    """The dict in a file by torch or safetensors: tensors, numpy arrays and plain containers; raises `CheckpointError`.

    Of a TorchScript archive, the module's state. With `trust_pickle` a file may hold anything a pickle can,
    and so may run code when it is loaded. Without `offer_trust` the messages do not name that option: the caller has none.
    """
    trust = f". {_TRUST}" if offer_trust else ""
    if is_named_pipe(path):
        raise CheckpointError(f"{path} is a pipe, expected a file; write the checkpoint to a file first")
    if not path.is_file():
        raise CheckpointError(f"no checkpoint at {path}; expected a model.pt from ovs-train, or a published file")
    kind = file_kind(path)
    if kind is not None:
        raise CheckpointError(f"{path} is {kind}")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    if is_torchscript(path):
        return dict(read_torchscript(path))
    with path.open("rb") as stream:
        plain = _is_plain_pickle(stream.read(len(TORCH_MAGIC)), path.suffix)
    if plain and not trust_pickle:
        raise CheckpointError(
            f"{path} is a Python pickle, which can run code when it is loaded, and was not; expected tensors saved "
            f"by torch{trust}"
        )
    raw = _unpickle(path) if plain else _read_torch(path, trust, trust_pickle=trust_pickle)
    if not isinstance(raw, dict):
        raise CheckpointError(f"{path} holds a {type(raw).__name__}, expected a dict with the model's tensors")
    return raw


def _read_safetensors(path: Path) -> dict[Any, Any]:
    require("safetensors", "train")
    from safetensors.torch import load_file

    try:
        return dict(load_file(path))
    except Exception as error:  # the binding raises its own types
        raise _unreadable(path, "safetensors") from error


def _read_torch(path: Path, trust: str, *, trust_pickle: bool) -> Any:
    """`trust` ends the message about a file that holds more than tensors."""
    try:
        with torch.serialization.safe_globals(_NUMPY_GLOBALS), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about kinds of tensors: those that cannot be used are refused by name
            return torch.load(path, map_location="cpu", weights_only=not trust_pickle)
    except pickle.UnpicklingError as error:
        foreign = _FOREIGN_CLASS.search(str(error))
        if foreign is None:
            raise _unreadable(path, "a checkpoint") from error
        raise CheckpointError(
            f"{path} holds more than tensors and was not loaded (it holds a {foreign[1]}); save the weights alone, as "
            f"torch.save(model.state_dict(), path) does{trust}"
        ) from error
    except Exception as error:  # on bytes that are no checkpoint torch's readers raise whatever they trip over
        raise _unreadable(path, "a checkpoint") from error


def _is_plain_pickle(start: bytes, suffix: str) -> bool:
    """Whether a file is a pickle that torch did not write, by its first bytes; old protocols show in the name alone."""
    if start.startswith((b"PK", TORCH_MAGIC)):
        return False
    return start.startswith(b"\x80") or suffix == ".pkl"


def _unpickle(path: Path) -> Any:
    try:
        with path.open("rb") as stream:
            return pickle.load(stream, encoding="latin1")  # model zoos hold files from Python 2
    except Exception as error:  # a pickle may raise anything
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(
            f"{path} cannot be unpickled ({shorten(reason, 160, placeholder=' …')}); copy it again"
        ) from error


def _unreadable(path: Path, form: str) -> CheckpointError:
    """What torch says of damaged bytes is about its own internals and helps nobody with the file; it is the cause."""
    size = path.stat().st_size
    return CheckpointError(
        f"{path} cannot be read as {form}: it is cut short, damaged or something else ({size:,} bytes); copy it again"
    )
