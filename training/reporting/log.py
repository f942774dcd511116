"""The log of a run: one JSON object a line, for every 20th step and for every validation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ...bundle.errors import CheckpointError
from ...bundle.files import replacing

LOG = "log.jsonl"


class RunLog:
    """Appends entries to `log.jsonl` in a run's folder. Every method raises `CheckpointError` when it cannot be
    written."""

    def __init__(self, folder: Path | None) -> None:
        """`folder` None: a process that writes nothing."""
        self._folder = folder

    def write(self, entry: dict[str, Any]) -> None:
        """Append one entry."""
        if self._folder is None:
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with (self._folder / LOG).open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(entry) + "\n")
        except OSError as error:
            raise CheckpointError(f"cannot write {self._folder / LOG} ({error}); free some space") from error

    def forget_after(self, step: int, validated: int) -> None:
        """Drop what a killed run wrote after its last state, and a line that it could not finish.

        step: of the state; validated: step of the last validation that the state knows of.
        """
        if self._folder is None or not (path := self._folder / LOG).is_file():
            return
        try:
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
            with replacing(path) as work:
                kept = (f"{line}\n" for line in lines if _is_known(line, step, validated))
                work.write_text("".join(kept), encoding="utf-8")
        except OSError as error:
            raise CheckpointError(f"cannot write {path} ({error}); free some space") from error


def _is_known(line: str, step: int, validated: int) -> bool:
    try:
        entry = json.loads(line)
        return bool(int(entry["step"]) <= (validated if "validation" in entry else step))
    except (ValueError, KeyError, TypeError):
        return False
