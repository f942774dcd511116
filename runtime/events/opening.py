"""The watch that the options of a command ask for."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ...bundle.errors import UsageError, note
from ...bundle.strict import shown
from . import config
from .config import WatchConfig, is_there, parse_watch, read_toml, unknown_keys
from .delivery import options as delivery
from .delivery.dispatcher import EventDispatcher
from .delivery.in_file import delivery_tables
from .delivery.options import DeliveryConfig, parse_delivery
from .watch import EventWatch

_CAMERA = "camera"  # name where the file gives none
_ALIKE = 0.75  # of two names of files, as `difflib` counts: zone.toml and zones.toml are 0.95


@dataclass(frozen=True)
class WatchRequest:
    """What a command line asks for; see the options of `ovs-run`."""

    zones: Path | None = None
    rules: Sequence[str] = ()
    events: str | None = None  # file for JSON lines, or "-"
    mqtt: str | None = None  # URL
    webhook: str | None = None  # URL
    command: str | None = None
    page: bool = False  # whether there is a page, which draws zones and makes their file
    live: bool = False  # whether states end with the run; those of a recording last until its end


@dataclass(frozen=True)
class EventOutputs:
    """Where the events of a run go."""

    names: tuple[str, ...] = ()  # of the ways, for people
    standard_output: bool = False  # whether it is taken by events


def read_watch(request: WatchRequest) -> tuple[WatchConfig, DeliveryConfig, str]:
    """Zones and rules, ways of delivery, and the name of the camera. Raises `UsageError`.

    A file of zones that is not there is refused, unless there is a page that makes it, which a note says.
    """
    table: dict[str, Any] = {}
    where = "the command line"
    if request.zones is not None and is_there(request.zones):
        table, where = read_toml(request.zones), str(request.zones)
        unknown_keys(table, (_CAMERA, *config.TABLES, *delivery.TABLES), where)
        table = {**table, **delivery_tables(table, request.zones)}
    elif request.zones is not None:
        _missing(request.zones, page=request.page)
    watch = parse_watch(table, where, request.rules)
    camera = table.get(_CAMERA, _CAMERA)
    if not isinstance(camera, str) or not camera.strip() or not camera.isprintable() or len(camera) > 64:
        raise UsageError(f"{where}: camera is {shown(camera)}, expected a name of 1 to 64 printable characters")
    return watch, parse_delivery({**table, **_given(request, table)}, where), camera


def _missing(path: Path, *, page: bool) -> None:
    """Say that the page makes the file of zones at `path`; raises `UsageError` where it does not."""
    folder = os.path.dirname(os.path.realpath(path))
    if not os.path.isdir(folder):
        raise UsageError(f"--zones {path} can neither be read nor made: its folder is not there; check the name")
    names: list[str] = []
    with suppress(OSError):  # a folder that this user may not list
        names = [name for name in os.listdir(folder) if os.path.isfile(os.path.join(folder, name))]
    near = difflib.get_close_matches(path.name, names, 1, _ALIKE)
    meant = f"did you mean {path.with_name(near[0])}?" if near else ""
    if page:
        note(f"{path} is new, and is written when zones are saved on the page{'; ' if meant else ''}{meant}")
        return
    raise UsageError(
        f"--zones {path} is not there; {meant or 'check the name; the page of one camera (--web) makes a new file'}"
    )


def open_watch(request: WatchRequest, closing: ExitStack) -> tuple[EventWatch, EventOutputs]:
    """The watch; it and its ways of delivery are closed with `closing`. Raises `UsageError`, `SinkError`."""
    watch, ways, camera = read_watch(request)
    dispatcher = None
    if ways.any:
        origin = None if request.zones is None else os.path.abspath(request.zones)
        dispatcher = EventDispatcher(replace(ways, origin=origin), {camera: watch.rules})
        closing.callback(dispatcher.close)
    names = () if dispatcher is None else tuple(state.name for state in dispatcher.states)
    standard_output = ways.json_lines is not None and ways.json_lines.path == "-"
    made = EventWatch(watch, camera, dispatcher, request.zones)
    closing.callback(_close, made) if request.live else closing.callback(made.lose)
    return made, EventOutputs(names, standard_output)


def _close(watch: EventWatch) -> None:
    with suppress(BrokenPipeError):  # whoever read events on standard output has left: the run has ended for that
        watch.close()


def _given(request: WatchRequest, table: Mapping[str, Any]) -> dict[str, Any]:
    """Tables of the ways that the command line names, with what the file says of them besides."""
    found: dict[str, Any] = {}
    for name, key, value in (
        ("mqtt", "url", request.mqtt),
        ("webhook", "url", request.webhook),
        ("command", "run", request.command),
        ("json_lines", "path", request.events),
    ):
        if value is not None:
            before = table.get(name, {})
            found[name] = {**(before if isinstance(before, Mapping) else {}), key: value}
    return found
