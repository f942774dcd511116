"""The tensors of a TorchScript archive, read without running it.

Such a file (OpenAI's CLIP weights are ones) is a zip archive: code, storages, and a pickle of the module tree. Loading it
the usual way compiles and may run the code. Here the pickle is read with an unpickler that knows tensors and plain
values only; modules become attribute holders, and the code is never opened.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...bundle.errors import CheckpointError, OvsError

_TYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
_DEEPEST = 64  # modules inside each other


def is_torchscript(path: Path) -> bool:
    """Whether a file is a zip archive with a pickled module and its code."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (OSError, zipfile.BadZipFile):
        return False
    return _folder(names) is not None and any("/code/" in name for name in names)


def read_torchscript(path: Path) -> dict[str, Tensor]:
    """Name -> tensor, as the module's `state_dict` would give them; raises `CheckpointError`. No code of the file runs."""
    try:
        with zipfile.ZipFile(path) as archive:
            folder = _folder(archive.namelist())
            if folder is None:
                raise CheckpointError(f"{path} is no TorchScript archive: it has no data.pkl; copy it again")
            root = _Reader(archive, folder).load()
        found: dict[str, Tensor] = {}
        _collect(root, "", found, 0)
    except OvsError:
        raise
    except Exception as error:  # pickle and zipfile raise whatever damaged bytes lead them to
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(
            f"{path} cannot be read as a TorchScript archive ({reason[:160]}); it is truncated or not one: copy it again"
        ) from error
    return found


def _folder(names: list[str]) -> str | None:
    """The archive's top folder, with the slash."""
    return next(
        (name.removesuffix("data.pkl") for name in names if name.count("/") == 1 and name.endswith("/data.pkl")), None
    )


class _Module:
    """Stands for every class of the archive: what the pickle sets on it lands in its `__dict__`."""


class _Reader(pickle.Unpickler):
    """Reads `data.pkl`; refuses whatever is not a tensor, a module or a plain value."""

    def __init__(self, archive: zipfile.ZipFile, folder: str) -> None:
        super().__init__(io.BytesIO(archive.read(f"{folder}data.pkl")))
        self._archive, self._folder = archive, folder
        self._storages: dict[str, Tensor] = {}

    def find_class(self, module: str, name: str) -> Any:
        """What a name of the pickle stands for."""
        if module == "__torch__" or module.startswith("__torch__."):
            return _Module
        if module == "torch" and name in _TYPES:
            return _TYPES[name]
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return lambda tensor, *_: tensor
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch.jit._pickle" and (name.startswith("build_") or name == "restore_type_tag"):
            return lambda value, *_: value
        raise pickle.UnpicklingError(f"it names {module}.{name}, which is no tensor and no plain value")

    def persistent_load(self, pid: Any) -> Tensor:
        """A storage as a flat tensor."""
        _, dtype, key, _, count = pid
        if key not in self._storages:
            data = bytearray(self._archive.read(f"{self._folder}data/{key}"))
            flat = torch.frombuffer(data, dtype=dtype) if data else torch.empty(0, dtype=dtype)
            if flat.numel() < count:
                raise pickle.UnpicklingError(f"storage {key} has {flat.numel()} of {count} elements")
            self._storages[key] = flat
        return self._storages[key]


def _tensor(storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Tensor:
    return storage.as_strided(size, stride, offset)


def _collect(module: Any, prefix: str, found: dict[str, Tensor], depth: int) -> None:
    if depth > _DEEPEST:
        raise pickle.UnpicklingError("its modules contain each other")
    for name, value in vars(module).items():
        if isinstance(value, Tensor):
            found[prefix + name] = value
        elif isinstance(value, _Module):
            _collect(value, f"{prefix}{name}.", found, depth + 1)
