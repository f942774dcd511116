"""The run of `ovs-run --config`, and of several `--camera`: starts the service, obeys signals, says what happened."""

from __future__ import annotations

import os
import re
import select
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from ...bundle.addresses import shown_text
from ...bundle.errors import UsageError, note, reason_of
from ...bundle.vocabulary import parse_stuff
from ..events.opening import WatchRequest, read_watch
from ..options import NO_OUTPUT, WEB_ADDRESS, RunOptions
from ..vocabulary.live import read_presets
from .allocator import limit_heaps
from .config import CameraConfig, CamerasConfig, ModelConfig, WebConfig, is_name, read_config
from .service import CameraService

if TYPE_CHECKING:
    from typing_extensions import Self

_TICK = 0.5  # seconds between two looks whether the network has failed

_ONE_ONLY = ("show", "why", "watch_classes", "max_frames", "track")  # options that make no sense for several cameras


def run_cameras(options: RunOptions) -> int:
    """Run all cameras until SIGINT or SIGTERM; returns the exit code. Raises `OvsError`.

    With --config, SIGHUP reads the file again. A file that is no good is said in one line, and changes nothing.
    """
    with _Signals(reloads=options.config is not None) as signals:  # before anything that takes time
        config = _config(options)
        limit_heaps()
        with CameraService(config, note) as service:
            service.start()
            _tell_manager("READY=1")
            if service.url is not None:
                print(f"viewer: {service.url}", file=sys.stderr, flush=True)
            elif not config.delivery.any and not any(camera.writes for camera in config.cameras.values()):
                in_file = "no output is selected; add [web] to see a page, or save or json to a camera to keep results"
                note(NO_OUTPUT if options.config is None else in_file)
            _obey(signals, service, lambda: _reload(service, config, lambda: _config(options)))
            _tell_manager("STOPPING=1")
            if service.failed.is_set() and service.error is not None:
                raise UsageError(f"the network failed on every camera: {reason_of(service.error)}")
            frames, count = sum(camera.counts.frames for camera in service.cameras), len(service.cameras)
    print(f"{frames} frames of {count} camera{'' if count == 1 else 's'}", file=sys.stderr)
    return 0


def _obey(signals: _Signals, service: CameraService, reload: Callable[[], None]) -> None:
    """Return once a signal says so, or the network has failed. Raises `BrokenPipeError` once nobody reads an output."""
    while not signals.stop and not service.failed.is_set():
        signals.wait(_TICK)
        if signals.reload:
            signals.reload = False
            reload()
        if any(camera.outputs.reader_left for camera in service.cameras):
            raise BrokenPipeError


def _tell_manager(state: str) -> None:
    """Tell systemd, or whatever else has started this as a service, what the state is; see sd_notify(3)."""
    place = os.environ.get("NOTIFY_SOCKET", "")
    if not place.startswith(("/", "@")):  # there is none, or it is of a kind that only virtual machines have
        return
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as connection:
            connection.sendto(state.encode(), place if place[0] == "/" else f"\0{place[1:]}")
    except OSError as error:
        note(f"the service manager cannot be told {state} ({error.strerror or error})")


def _reload(service: CameraService, before: CamerasConfig, read: Callable[[], CamerasConfig]) -> None:
    """Read the configuration again; `before` is the one that the program was started with."""
    try:
        after = read()
        said = service.reload(after)
    except Exception as error:  # noqa: BLE001 - a file must not end what runs, whatever is wrong with it
        note(f"the configuration is as before: {reason_of(error)}")
        return
    for table, old, new in (("model", before.model, after.model), ("web", before.web, after.web)):
        if old != new:
            said.append(f"[{table}] is as before: it changes when the program is started again")
    for line in said or ["the configuration is read again; nothing is different"]:
        note(line)


class _Signals:
    """SIGINT and SIGTERM set `stop`, SIGHUP sets `reload`, or `stop` where nothing can be read again; a SIGINT after that
    interrupts.

    Without a lock, as those of `threading.Event` are: a handler runs between any two instructions of the main thread,
    those of another handler among them, and would wait for ever for what it holds itself.
    """

    def __init__(self, *, reloads: bool) -> None:
        self.stop = False
        self.reload = False
        self._reloads = reloads
        self._before: dict[int, object] = {}
        self._woken, self._waker = socket.socketpair()
        self._woken.settimeout(0)
        self._waker.settimeout(0)

    def wait(self, seconds: float) -> None:
        """Return after `seconds`, or as soon as a signal has come."""
        if select.select([self._woken], [], [], seconds)[0]:
            self._woken.recv(4096)

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for name in ("SIGINT", "SIGTERM", "SIGHUP"):
                number = getattr(signal, name, None)
                reloads = self._reloads and name == "SIGHUP"
                # `nohup` has SIGHUP ignored, and so it stays where it would only end the run.
                if number is not None and (reloads or signal.getsignal(number) != signal.SIG_IGN):
                    self._before[number] = signal.signal(number, self._handle)
        return self

    def _handle(self, number: int, stack: FrameType | None) -> None:
        if self._reloads and number == getattr(signal, "SIGHUP", None):
            self.reload = True
        elif self.stop and number == signal.SIGINT:
            raise KeyboardInterrupt
        else:  # one that is sent again, as a process manager does, changes nothing
            self.stop = True
        with suppress(BlockingIOError):  # it is full of earlier ones
            self._waker.send(b"\0")

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self._woken.close()
        self._waker.close()


def _config(options: RunOptions) -> CamerasConfig:
    if options.config is None:
        return from_options(options)
    config = read_config(options.config)
    if config.web is not None and config.web.token is None and options.token is not None:
        config = replace(config, web=replace(config.web, token=options.token))
    return config


def from_options(options: RunOptions) -> CamerasConfig:
    """The configuration that several `--camera` and the other options of `ovs-run` stand for.

    Outputs get the cameras' names: `--save out.mp4` writes out_NAME.mp4, `--save out` out_NAME. Zones and rules are those
    of every camera. Raises `UsageError`.
    """
    for name in _ONE_ONLY:
        if getattr(options, name) not in (None, False):
            raise UsageError(f"--{name.replace('_', '-')} is for one camera; leave it out, or give one --camera")
    assert options.classes is not None
    ways = options.events, options.mqtt, options.webhook, options.on_event
    watch, delivery, _ = read_watch(WatchRequest(options.zones, options.rule, *ways))
    common = CameraConfig(
        source="0",
        classes=options.classes,
        background=options.background,
        exact_words=options.exact_words,
        threshold=options.threshold,
        sensitivity=options.sensitivity,
        stuff=parse_stuff(options.stuff),
        smooth=options.smooth,
        keyframes=options.keyframes,
        refine_edges=options.refine_edges,
        min_region=options.min_region,
        presets=read_presets(options.preset),
        size=options.size,
        rate=options.rate,
        mjpg=options.mjpg,
        flip=options.flip,
        opacity=options.opacity,
        names=options.names,
        legend=bool(options.legend),
        badge=bool(options.badge),
        masks=options.mask_form,
        json=options.json,
        overwrite=options.overwrite,
        watch=watch,
    )
    cameras = {
        name: replace(
            common,
            source=source,
            save=_named(options.save, name),
            json=_named(options.json, name),
            save_masks=_named(options.save_masks, name),
        )
        for name, source in _named_sources(options.camera)
    }
    model = ModelConfig(
        options.model, options.precision, options.provider, options.plan, options.threads, options.task, options.force
    )
    address = WEB_ADDRESS if options.web is None and options.only_watched else options.web
    web = None if address is None else WebConfig(address, options.token, options.recordings)
    return CamerasConfig(cameras, model, web, delivery)


def _named_sources(given: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Name and source of "door=rtsp://…" or of a source alone, which is called by its number."""
    seen: set[str] = set()
    for number, text in enumerate(given, 1):
        found = re.match(r"([^=:/]*)=(.+)", text)
        name, source = (found[1], found[2]) if found else (f"camera{number}", text)
        if not is_name(name) or name in seen:
            problem = "is given twice" if name in seen else "is no name; expected letters, digits, - and _"
            if shown_text(name) != name:
                problem = "is not UTF-8; expected letters, digits, - and _"
            raise UsageError(f"the camera {name[:80]!r} {problem}: --camera NAME=SOURCE")
        seen.add(name)
        yield name, source


def _named(output: str | None, camera: str) -> str | None:
    """An output's name with the camera's in it."""
    if output in (None, "", "-"):
        return output
    assert output is not None
    path = Path(output)
    return str(path.with_name(f"{path.stem}_{camera}{path.suffix}")) + ("/" if output.endswith("/") else "")
