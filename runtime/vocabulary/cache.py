"""Text vectors kept between runs, so that a known name needs no encoding.

There is one `.npz` per bundle in the user's cache folder; a bundle itself brings the vectors of the names it was trained
with. Whatever is wrong with the user's file (unwritable folder, truncated, foreign contents), the vectors can be computed
again, so only a damaged bundle raises.
"""

from __future__ import annotations

import io
import json
import math
import os
import tempfile
import zipfile
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...bundle.errors import BundleError
from ...bundle.files import cache_folder

_MOST_NAMES = 2048  # kept on disk, the latest; with 384 floats each, 3 MiB and some 20 ms to write
_MOST_KEPT = 4 * _MOST_NAMES  # in memory, besides a bundle's own: a run of weeks may get any number of names
_MOST_BYTES = 64 * 2**20  # a larger file is not ours


class VectorCache:
    """Name -> unit vector (D,), in memory and in one file. `key` identifies everything the vectors depend on."""

    def __init__(
        self, key: str, dim: int, folder: Path | None = None, bundled: Path | None = None, *, keep: bool = True
    ) -> None:
        """`keep` False neither reads nor writes the file. Raises `BundleError` for a `bundled` file that is damaged."""
        self._file = (folder or cache_folder("vectors")) / f"{key}.npz" if keep else None
        self._bundled = _read_bundled(bundled, dim) if bundled is not None else {}
        self._vectors = {**({} if self._file is None else _read(self._file, dim)), **self._bundled}

    def __contains__(self, name: str) -> bool:
        return name in self._vectors

    def __getitem__(self, name: str) -> npt.NDArray[np.float32]:
        return self._vectors[name]

    def add(self, names: list[str], vectors: npt.NDArray[np.float32]) -> None:
        """Remember vectors (len(names), D), and write the file where that is possible."""
        self._vectors.update(zip(names, vectors, strict=True))
        if (surplus := len(self._vectors) - len(self._bundled) - _MOST_KEPT) > 0:
            oldest = (name for name in self._vectors if name not in self._bundled)
            for name in list(islice(oldest, surplus)):
                del self._vectors[name]
        if self._file is not None:
            with suppress(Exception):
                self._write(self._file)

    def _write(self, path: Path) -> None:
        kept = [name for name in self._vectors if name not in self._bundled][-_MOST_NAMES:]
        contents = packed(kept, np.stack([self._vectors[name] for name in kept]))
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=".vectors.", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(contents)
            # Renaming is atomic: a second process reads the old file or the new one, never half of one.
            os.replace(temporary, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)
            raise


def packed(names: list[str], vectors: npt.NDArray[np.float32]) -> bytes:
    """The file's contents: `names` as JSON bytes, `vectors` (N, D)."""
    contents = io.BytesIO()  # in memory first: zipfile complains on stderr, beyond any handler, of a full disk
    np.savez(contents, names=np.frombuffer(json.dumps(names).encode(), np.uint8), vectors=vectors)
    return contents.getvalue()


def read_array(archive: zipfile.ZipFile, name: str) -> npt.NDArray[Any]:
    """One array of an `.npz`, if it is no larger than its entry."""
    with archive.open(f"{name}.npy") as stream:
        major, _ = np.lib.format.read_magic(stream)
        read_header = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
        shape, _, dtype = read_header(stream)
        if math.prod(shape) * dtype.itemsize > archive.getinfo(f"{name}.npy").file_size:
            raise ValueError(f"{name} is larger than what is stored of it")
    with archive.open(f"{name}.npy") as stream:
        return np.asarray(np.lib.format.read_array(stream, allow_pickle=False))


def _read(path: Path, dim: int) -> dict[str, npt.NDArray[np.float32]]:
    """What the file of an earlier run holds; nothing if it is not one of ours."""
    with suppress(Exception):
        return _unpacked(path, dim) if path.is_file() else {}
    return {}


def _read_bundled(path: Path, dim: int) -> dict[str, npt.NDArray[np.float32]]:
    """What a bundle's file holds; raises `BundleError`."""
    try:
        return _unpacked(path, dim)
    except Exception as error:  # on bytes that are no archive, readers raise whatever they trip over
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise BundleError(f"{path} does not hold vectors of names ({reason}); export the bundle again") from error


def _unpacked(path: Path, dim: int) -> dict[str, npt.NDArray[np.float32]]:
    """Names and vectors of a file that `packed` wrote; raises whatever is wrong with another."""
    if path.stat().st_size > _MOST_BYTES:
        raise ValueError(f"larger than {_MOST_BYTES >> 20} MiB")
    with zipfile.ZipFile(path) as archive:
        # Compressed, a small file may hold any amount; and an array's header may state any size.
        if (size := sum(entry.file_size for entry in archive.infolist())) > _MOST_BYTES:
            raise ValueError(f"{size >> 20} MiB unpacked, at most {_MOST_BYTES >> 20} are read")
        names = json.loads(read_array(archive, "names").tobytes())
        vectors = read_array(archive, "vectors")
    if vectors.dtype != np.float32 or vectors.shape[1:] != (dim,):
        raise ValueError(f"vectors are {vectors.dtype} {list(vectors.shape)}, expected float32 (N, {dim})")
    if not np.isfinite(vectors).all():
        raise ValueError("vectors that are not finite")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError("names are no list of text")
    if not len(set(names)) == len(names) == len(vectors):
        raise ValueError(f"{len(set(names))} different names for {len(vectors)} vectors")
    return dict(zip(names, vectors, strict=True))
