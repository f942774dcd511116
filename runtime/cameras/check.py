"""`ovs-doctor --config`: a configuration and everything that it names, tried before a service is started with it.

Cameras are opened, the broker is asked, ports and folders are looked at; nothing is written and no event is sent.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from ...bundle.addresses import redact, redact_address
from ...bundle.errors import OvsError
from ..engines.engine import Finding, examined, unexamined
from ..events.delivery.options import CommandOptions, DeliveryConfig, JsonLinesOptions, SpoolOptions
from ..events.delivery.probe import broker_problem, lines_problem, webhook_problem
from ..events.evidence import waiting_rules
from ..sinks.output_files import refuse_foreign
from ..viewer.access import Guard, parse_address
from .config import CameraConfig, CamerasConfig, WebConfig, read_config
from .opening import open_camera
from .outputs import dated
from .shared_model import SharedModel

_MOST_AT_ONCE = 16  # cameras that are tried at the same time


def check_config(path: Path) -> Iterator[Finding]:
    """Everything there is to say of the configuration at `path`. Never raises."""
    try:
        config = read_config(path)
    except OvsError as error:
        yield Finding("configuration", "missing", str(error), "docs/guides/cameras.md lists tables and keys")
        return
    except Exception as error:  # noqa: BLE001 - it is told, as in all other parts
        yield unexamined("configuration", error, "missing")
        return
    yield Finding("configuration", "ok", f"{path}: {', '.join(config.cameras)}")
    yield from _examined("model", partial(_model, config))
    with ThreadPoolExecutor(_MOST_AT_ONCE) as pool:
        for findings in pool.map(_opened, config.cameras, config.cameras.values()):
            yield from findings
    for name, camera in config.cameras.items():
        yield from _examined(f"camera {name}", partial(_outputs, name, camera))
    if config.web is not None:
        yield from _examined("page", partial(_web, config.web))
    for topic, way in _ways(config.delivery):
        yield from _examined(topic, way)


def _examined(topic: str, probe: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """The findings of `probe`. What cannot be examined counts as missing: nobody knows that it works."""
    return examined(topic, probe, failed="missing")


def _model(config: CamerasConfig) -> Iterator[Finding]:
    """The bundle, and the classes of each camera in it."""
    try:
        model = SharedModel(config.model)
    except OvsError as error:
        yield Finding("model", "missing", str(error), None)
        return
    try:
        at_once = f", {model.at_once} frames at a time" if model.at_once > 1 else ""
        yield Finding("model", "ok", f"{model.manifest.name}, {model.precision}{at_once}")
        for name, camera in config.cameras.items():
            yield from _classes(name, camera, model)
    finally:
        model.close()


def _classes(name: str, camera: CameraConfig, model: SharedModel) -> Iterator[Finding]:
    key = "classes"
    try:
        segmenter = model.segmenter(camera)
        active, key = segmenter.active, "presets"
        for preset in camera.presets:
            segmenter.set_classes(preset)
    except OvsError as error:
        yield Finding(f"camera {name}", "missing", str(error), f"change {key} in [cameras.{name}]")
        return
    yield Finding(f"camera {name}", "ok", f"classes {', '.join(active.labels)}")
    for line in waiting_rules(camera.watch.rules, active.classes):
        yield Finding(f"camera {name}", "note", line, "classes may also be typed on the page while it runs")


def _outputs(name: str, camera: CameraConfig) -> Iterator[Finding]:
    try:
        for output in camera.outputs:
            refuse_foreign(Path(dated(output)), "the output", overwrite=camera.overwrite, allow="overwrite = true")
    except OvsError as error:
        yield Finding(f"camera {name}", "missing", str(error), f"change [cameras.{name}]")
        return
    yield from (_writable(f"camera {name}", dated(output)) for output in camera.outputs)


def _opened(name: str, camera: CameraConfig) -> list[Finding]:
    return list(_examined(f"camera {name}", partial(_camera, name, camera)))


def _camera(name: str, camera: CameraConfig) -> Iterator[Finding]:
    """Open a camera, and take a frame."""
    topic = f"camera {name}"
    try:
        source = open_camera(camera)
    except OvsError as error:
        yield Finding(topic, "missing", str(error), f"change source in [cameras.{name}], or see to the camera")
        return
    try:
        frame = next(iter(source), None)
    except OvsError as error:
        yield Finding(topic, "missing", str(error), None)
        return
    finally:
        source.close()
    if frame is None:
        yield Finding(topic, "missing", f"{redact_address(camera.source)} gives no frame", None)
        return
    height, width = frame.image.shape[:2]
    yield Finding(topic, "ok", f"{redact_address(camera.source)}: {width}x{height}, {source.fps:g} frames a second")


def _web(web: WebConfig) -> Iterator[Finding]:
    hint = "change [web]"
    try:
        from ..viewer.connections import bound_socket

        address = parse_address(web.address)
        Guard(address, web.token)
        hint = "change address in [web]; a service that runs has the port already"
        bound_socket(address, option='address = "{}"').close()
    except OvsError as error:
        yield Finding("page", "missing", str(error), hint)
        return
    others = "" if address.loopback else ", which other machines reach with the token"
    yield Finding("page", "ok", f"{web.address}{others}")
    yield _writable("recordings", str(web.recordings))


def _ways(delivery: DeliveryConfig) -> Iterator[tuple[str, Callable[[], Iterator[Finding]]]]:
    """Topic and probe of each way that events go."""
    if (mqtt := delivery.mqtt) is not None:
        shown = redact(mqtt.url)
        yield "MQTT", partial(_answered, "MQTT", shown, partial(broker_problem, mqtt), "[mqtt]")
    if (hook := delivery.webhook) is not None:
        yield "webhook", partial(_answered, "webhook", hook.shown, partial(webhook_problem, hook), "[webhook]")
    if delivery.command is not None:
        yield "command", partial(_command, delivery.command)
    if delivery.json_lines is not None and delivery.json_lines.path != "-":
        yield "events", partial(_json_lines, delivery.json_lines)
    if delivery.waits:
        yield "spool", partial(_spool, delivery.spool)


def _command(options: CommandOptions) -> Iterator[Finding]:
    program = options.run[0]
    found = shutil.which(program)
    if found is None:
        yield Finding("command", "missing", f"there is no program {program}", "change run in [command]")
    else:
        yield Finding("command", "ok", found)


def _json_lines(options: JsonLinesOptions) -> Iterator[Finding]:
    problem = lines_problem(options)
    if problem is None:
        yield Finding("events", "ok", f"writes {options.path}")
    else:
        yield Finding("events", "missing", problem, "change path in [json_lines]")


def _spool(options: SpoolOptions) -> Iterator[Finding]:
    try:
        yield _writable("spool", str(options.place))
    except OvsError as error:
        yield Finding("spool", "missing", str(error), "give a folder in [spool]")


def _answered(topic: str, shown: str, problem: Callable[[], str | None], table: str) -> Iterator[Finding]:
    try:
        found = problem()
    except OvsError as error:
        found = str(error)
    if found is None:
        yield Finding(topic, "ok", f"{shown} answers")
    else:
        yield Finding(topic, "missing", f"{shown}: {found}", f"change {table}, or see to the other side")


def _writable(topic: str, output: str) -> Finding:
    """Whether a file or folder can be made, without making it."""
    path = Path(output)
    folder = path if path.is_dir() else path.parent
    while not folder.exists() and folder != folder.parent:  # it is made when it is needed
        folder = folder.parent
    if folder.is_dir() and os.access(folder, os.W_OK | os.X_OK) and (not path.is_file() or os.access(path, os.W_OK)):
        return Finding(topic, "ok", f"writes {output}")
    return Finding(topic, "missing", f"{output} cannot be written", f"let this user write in {folder}")
