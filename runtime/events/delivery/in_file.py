"""Ways of delivery in a file of zones or of cameras: the environment's values in texts, paths from the file's folder on."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ....bundle.errors import UsageError
from .options import TABLES, command_words

_ODD_VARIABLE = re.compile(r"\$\{(?![A-Za-z_][A-Za-z0-9_]*\})[^}]*\}?")
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_PATHS = {  # keys that are paths, of the tables in which the environment's values count
    "mqtt": ("ca_file", "cert_file", "key_file", "password_file"),
    "webhook": ("secret_file",),
    "json_lines": ("path",),
    "spool": ("folder",),
}


def delivery_tables(tables: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """The tables of the ways among the `tables` of the file at `path`, as `parse_delivery` takes them.

    `${NAME}` in a text is the value of that environment variable, and relative paths begin at the file's folder.
    Raises `UsageError`.
    """
    folder = path.parent.absolute()
    ways = {name: tables[name] for name in TABLES if name in tables}
    for name in (name for name, way in ways.items() if isinstance(way, dict)):
        way = dict(ways[name])
        if name in _PATHS:
            way = {key: _expanded(value, f"{path}: [{name}] {key[:80]}") for key, value in way.items()}
        for key in _PATHS.get(name, ()):
            if isinstance(value := way.get(key), str) and value not in ("", "-"):
                way[key] = str(folder / value) + ("/" if value.endswith("/") else "")  # a folder stays one
        if name == "command" and "run" in way:
            way["run"] = _program(way["run"], folder, str(path))
        ways[name] = way
    return ways


def expanded(text: str) -> str:
    """`text` with the environment's values for `${NAME}`. Raises `UsageError` for a variable that is not set."""

    def value(found: re.Match[str]) -> str:
        if found[1] not in os.environ:
            raise UsageError(f"names the environment variable {found[1]}, which is not set")
        return os.environ[found[1]]

    if _ODD_VARIABLE.search(text):  # which is not shown: it may be part of a password
        raise UsageError("holds a ${…} that names no environment variable; expected such as ${CAMERA_PASSWORD}")
    return _VARIABLE.sub(value, text)


def _expanded(value: Any, where: str) -> Any:
    """`value` with the environment's values in it, if it is a text or a table of texts."""
    if isinstance(value, dict):
        return {name: _expanded(entry, where) for name, entry in value.items()}
    try:
        return expanded(value) if isinstance(value, str) else value
    except UsageError as error:
        raise UsageError(f"{where} {error}") from error


def _program(run: Any, folder: Path, where: str) -> list[str]:
    """The words of a command; a program that is a path, and not looked up, lies where the file says."""
    try:
        words = list(command_words(run))
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from error
    return [str(folder / words[0]), *words[1:]] if words and "/" in words[0] else words
