"""Text files of data sets: lists of a split, class lists, annotations. Byte order marks are understood and removed."""

from __future__ import annotations

import codecs
import json
from pathlib import Path
from typing import Any

from ..bundle.errors import DatasetError

_MARKS = (  # the longest first: UTF-32's begins with UTF-16's
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


def is_regular(path: Path) -> bool:
    """Whether there is a file: no pipe, which may never end, and no name that a system refuses."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def read_text(path: Path) -> str:
    """The text of a file in UTF-8, or in what its byte order mark says. Raises `DatasetError`."""
    if path.exists() and not is_regular(path):
        raise DatasetError(f"cannot read {path}, which is no file; remove it")
    try:
        content = path.read_bytes()
        for mark, encoding in _MARKS:
            if content.startswith(mark):
                return content[len(mark) :].decode(encoding)
        return content.decode("utf-8")
    except OSError as error:
        raise DatasetError(f"cannot read {path} ({error.strerror}); copy the data set again") from error
    except UnicodeDecodeError as error:
        raise DatasetError(f"cannot read {path} ({error}); save it as UTF-8") from error


def read_json(path: Path) -> Any:
    """The content of a JSON file. Raises `DatasetError`."""
    try:
        return json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"cannot read {path} ({error}); expected JSON") from error


def listed(path: Path) -> list[str]:
    """The entries of a split file, one a line; empty lines and hidden files are no entries. Raises `DatasetError`."""
    try:
        lines = read_text(path).split()
    except DatasetError as error:
        raise DatasetError(f"cannot read the list {path}: {error}") from error
    return [line for line in lines if not line.startswith(".")]
