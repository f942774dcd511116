"""Zones and lines written into a TOML file whose other lines, comments included, stay as they are."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

from ...bundle.errors import UsageError
from .config import TABLES, parse_toml, places_table, places_toml, read_toml
from .places import Places

_HEADER = re.compile(r"\s*\[{1,2}\s*([A-Za-z0-9_-]+|\"[^\"]*\"|'[^']*')")


def write_places(path: Path, places: Places) -> None:
    """Replace the tables `zones` and `lines` of the file; it is made if it is not there.

    The result is read again before it takes the file's place. Raises `UsageError`; then the file is as it was.
    """
    try:
        before = path.read_text(encoding="utf-8-sig") if path.exists() else ""
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read {path} ({error})") from error
    old = read_toml(path) if path.exists() else {}
    kept = _without_places(before)
    text = f"{kept.rstrip()}\n\n{places_toml(places)}" if kept.strip() else places_toml(places)
    new = parse_toml(text.encode(), str(path))
    names = TABLES[:2]
    other = {name: value for name, value in old.items() if name not in names}
    if {name: value for name, value in new.items() if name not in names} != other or any(
        set(new.get(name, {})) != set(places_table(places)[name]) for name in names
    ):
        raise UsageError(
            f"the zones in {path} are not written as tables [zones.NAME]; save them in a file of their own"
        )
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent or Path())
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, path.stat().st_mode & 0o777 if path.exists() else 0o644)
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        raise UsageError(f"cannot write {path} ({error.strerror})") from error


def _without_places(text: str) -> str:
    """`text` without its tables [zones.…] and [lines.…]. What looks like a header within text is found out later."""
    kept, skipping = [], False
    for line in text.splitlines(keepends=True):
        if header := _HEADER.match(line):
            skipping = header[1].strip("\"'") in TABLES[:2]
        if not skipping:
            kept.append(line)
    return "".join(kept)
