"""Runs the parts of the GPU kit, keeps each part's result as soon as it is there, and continues an interrupted run."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from ...bundle.errors import MissingExtraError, OvsError, SinkError, UsageError
from ...bundle.files import replacing
from .kit import Kit, Tell
from .limit import run_limited
from .parts import PARTS

_STATE = ".parts.state"  # JSON; not named so, since every *.json of the folder is a result
_LATE = 2.0  # times its limit that a part may take before it is stopped: each ends by itself once its time is over
_LOADING = 60.0  # seconds that it may take besides, to load what it runs


def run_parts(kit: Kit, parts: tuple[str, ...], tell: Tell) -> dict[str, Any]:
    """Results by part: its "seconds", and what it measured, "left_out" with reasons, or "error".

    A finished part is not run again; a failed one is. A part that does not end by itself is stopped and has failed.
    Raises `UsageError` for a folder with a run of other bundles, packages or scale, `SinkError` where the state cannot be
    written.
    """
    state = _read_state(kit)
    done: dict[str, Any] = state["parts"]
    for name in parts:
        if name in done and "error" not in done[name]:
            tell(f"{name}: done before")
            continue
        tell(f"{name}: up to {kit.scale.seconds / 60:.1f} minutes")
        start = time.monotonic()
        try:
            if kit.scale.cpu_only:  # a process for each part would take most of a dry run's time
                result = run_part(kit, name, done, tell)
            else:
                result = run_limited(run_part, (kit, name, done), _LATE * kit.scale.seconds + _LOADING)
        except MissingExtraError as error:
            result = {"left_out": [str(error)]}
            tell(f"{name}: left out: {error}")
        except OvsError as error:
            result = {"error": str(error)}
            tell(f"{name} failed: {error}")
        done[name] = {"seconds": round(time.monotonic() - start, 1), **json.loads(json.dumps(result))}
        _write_state(kit, state)
    return {name: done[name] for name in parts}


def run_part(kit: Kit, name: str, done: dict[str, Any], tell: Tell | None = None) -> dict[str, Any]:
    """The result of one part; its steps are told on stderr unless `tell` takes them."""
    return PARTS[name](kit, done, tell or _to_stderr, time.monotonic() + kit.scale.seconds)


def _to_stderr(step: str) -> None:
    print(step, file=sys.stderr)


def forget(kit: Kit) -> None:
    """Remove the state of an unfinished run, once its result is written."""
    (kit.folder / _STATE).unlink(missing_ok=True)


def _read_state(kit: Kit) -> dict[str, Any]:
    path, key = kit.folder / _STATE, kit.key
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        same, parts = found["key"] == key, dict(found["parts"])
    except FileNotFoundError:
        return {"key": key, "parts": {}}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path} is not the state of a run ({error!r}); remove it to start anew") from error
    if not same:
        raise UsageError(
            f"{path} belongs to a run with other bundles, packages or options; choose another --results, or remove it"
        )
    return {"key": key, "parts": parts}


def _write_state(kit: Kit, state: dict[str, Any]) -> None:
    path = kit.folder / _STATE
    try:
        kit.folder.mkdir(parents=True, exist_ok=True)
        with replacing(path) as work:
            work.write_text(json.dumps(state), encoding="utf-8")
    except OSError as error:
        raise SinkError(f"cannot write {path} ({error}); free some space or choose another --results") from error
