"""`ovs-doctor --config`: a configuration and everything that it names, tried before a service is started with it.

Cameras are opened, the broker is asked, ports and folders are looked at; nothing is written and no event is sent.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ...bundle.addresses import redact, redact_address
from ...bundle.errors import OvsError
from ..engines.engine import Finding
from ..events.delivery.options import DeliveryConfig
from ..events.delivery.probe import broker_problem, lines_problem, webhook_problem
from ..sinks.output_files import refuse_foreign
from ..viewer.access import Guard, parse_address
from .config import CameraConfig, CamerasConfig, WebConfig, read_config
from .opening import open_camera
from .outputs import dated
from .shared_model import SharedModel

_MOST_AT_ONCE = 16  # cameras that are tried at the same time


def check_config(path: Path) -> Iterator[Finding]:
    """Everything there is to say of the configuration at `path`. Never raises `OvsError`."""
    try:
        config = read_config(path)
    except OvsError as error:
        yield Finding("configuration", "missing", str(error), "docs/guides/cameras.md lists tables and keys")
        return
    yield Finding("configuration", "ok", f"{path}: {', '.join(config.cameras)}")
    yield from _model(config)
    with ThreadPoolExecutor(_MOST_AT_ONCE) as pool:
        yield from pool.map(_camera, config.cameras, config.cameras.values())
    for name, camera in config.cameras.items():
        yield from _outputs(name, camera)
    if config.web is not None:
        yield _web(config.web)
    yield from _delivery(config.delivery)


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
        yield from [_classes(name, camera, model) for name, camera in config.cameras.items()]
    finally:
        model.close()


def _classes(name: str, camera: CameraConfig, model: SharedModel) -> Finding:
    key = "classes"
    try:
        segmenter = model.segmenter(camera)
        labels, key = segmenter.active.labels, "presets"
        for preset in camera.presets:
            segmenter.set_classes(preset)
    except OvsError as error:
        return Finding(f"camera {name}", "missing", str(error), f"change {key} in [cameras.{name}]")
    return Finding(f"camera {name}", "ok", f"classes {', '.join(labels)}")


def _outputs(name: str, camera: CameraConfig) -> Iterator[Finding]:
    try:
        for output in camera.outputs:
            refuse_foreign(Path(dated(output)), "the output", overwrite=camera.overwrite, allow="overwrite = true")
    except OvsError as error:
        yield Finding(f"camera {name}", "missing", str(error), f"change [cameras.{name}]")
        return
    yield from (_writable(f"camera {name}", dated(output)) for output in camera.outputs)


def _camera(name: str, camera: CameraConfig) -> Finding:
    """Open a camera, and take a frame."""
    topic = f"camera {name}"
    try:
        source = open_camera(camera)
    except OvsError as error:
        return Finding(topic, "missing", str(error), f"change source in [cameras.{name}], or see to the camera")
    try:
        frame = next(iter(source), None)
    except OvsError as error:
        return Finding(topic, "missing", str(error), None)
    finally:
        source.close()
    if frame is None:
        return Finding(topic, "missing", f"{redact_address(camera.source)} gives no frame", None)
    height, width = frame.image.shape[:2]
    return Finding(topic, "ok", f"{redact_address(camera.source)}: {width}x{height}, {source.fps:g} frames a second")


def _web(web: WebConfig) -> Finding:
    hint = "change [web]"
    try:
        from ..viewer.connections import bound_socket

        address = parse_address(web.address)
        Guard(address, web.token)
        hint = "change address in [web]; a service that runs has the port already"
        bound_socket(address, option='address = "{}"').close()
    except OvsError as error:
        return Finding("page", "missing", str(error), hint)
    others = "" if address.loopback else ", which other machines reach with the token"
    return Finding("page", "ok", f"{web.address}{others}")


def _delivery(delivery: DeliveryConfig) -> Iterator[Finding]:
    if delivery.mqtt is not None:
        options = delivery.mqtt
        yield _answered("MQTT", redact(options.url), lambda: broker_problem(options), "[mqtt]")
    if delivery.webhook is not None:
        hook = delivery.webhook
        yield _answered("webhook", hook.shown, lambda: webhook_problem(hook), "[webhook]")
    if delivery.command is not None:
        program = delivery.command.run[0]
        found = shutil.which(program)
        state, text = ("missing", f"there is no program {program}") if found is None else ("ok", found)
        yield Finding("command", state, text, "change run in [command]" if found is None else None)
    if delivery.json_lines is not None and delivery.json_lines.path != "-":
        problem = lines_problem(delivery.json_lines)
        yield (
            Finding("events", "ok", f"writes {delivery.json_lines.path}")
            if problem is None
            else Finding("events", "missing", problem, "change path in [json_lines]")
        )
    if delivery.any and delivery.spool.folder is not None:
        yield _writable("spool", delivery.spool.folder)


def _answered(topic: str, shown: str, problem: Callable[[], str | None], table: str) -> Finding:
    try:
        found = problem()
    except OvsError as error:
        found = str(error)
    if found is None:
        return Finding(topic, "ok", f"{shown} answers")
    return Finding(topic, "missing", f"{shown}: {found}", f"change {table}, or see to the other side")


def _writable(topic: str, output: str) -> Finding:
    """Whether a file or folder can be made, without making it."""
    path = Path(output)
    folder = path if path.is_dir() else path.parent
    while not folder.exists() and folder != folder.parent:  # it is made when it is needed
        folder = folder.parent
    if folder.is_dir() and os.access(folder, os.W_OK | os.X_OK) and (not path.is_file() or os.access(path, os.W_OK)):
        return Finding(topic, "ok", f"writes {output}")
    return Finding(topic, "missing", f"{output} cannot be written", f"let this user write in {folder}")
