"""MATLAB files, in which some data sets come."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...bundle.errors import DatasetError, require


def read_mat(path: Path) -> dict[str, Any]:
    """The variables of a MATLAB file, arrays without axes of length 1. Raises `DatasetError`, `MissingExtraError`."""
    loadmat = require("scipy.io", "train").loadmat
    try:
        variables: dict[str, Any] = loadmat(path, squeeze_me=True)
    except Exception as error:  # on bytes that are no MATLAB file the reader raises whatever it trips over
        raise DatasetError(f"cannot read {path} ({error}); copy it again") from error
    return variables
