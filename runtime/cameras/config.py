"""The configuration of `ovs-run --config`: a TOML file with a table for the model, the page and each camera.

    [model]
    precision = "auto"

    [web]
    address = "0.0.0.0:8080"

    [defaults]                      # keys of cameras, for those that do not give them
    classes = "person, car|van"

    [cameras.yard]
    source = "rtsp://user:${YARD_PASSWORD}@192.168.1.20/stream"

    [cameras.door]
    source = "0"
    classes = ["person", "parcel|box"]
    json = "door.jsonl"
    rules = ["person in frame for 2s"]

    [mqtt]                          # where events of all cameras go
    url = "mqtt://broker"

Paths are relative to the file's folder, those of certificates, passwords and programs included. docs/guides/cameras.md
lists all keys.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

from ...bundle.addresses import scheme_of
from ...bundle.errors import UsageError
from ..capture.options import CaptureOptions, Flip, parse_size
from ..engines.registry import providers
from ..events.config import TABLES as WATCH_TABLES
from ..events.config import WatchConfig, parse_watch, read_toml
from ..events.delivery.in_file import delivery_tables
from ..events.delivery.options import TABLES as DELIVERY_TABLES
from ..events.delivery.options import DeliveryConfig, parse_delivery
from ..options import TASKS
from ..sinks.mask_form import MaskForm
from ..sinks.output_files import refuse_inputs
from ..vocabulary.live import MOST_PRESETS
from ..vocabulary.sensitivity import Sensitivity
from .tables import Between, Place, read_table, table_of

MOST_CAMERAS = 64
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}")
_TABLES = ("model", "web", "defaults", "cameras", *DELIVERY_TABLES)


class Sharing(str, Enum):
    """How frames of several cameras share a CPU."""

    AUTO = "auto"  # side by side on a CPU; `ovs-bench cameras` compares both
    SIDE_BY_SIDE = "side-by-side"  # as many frames as cores, up to four, at the same time: more frames a second
    ONE_AT_A_TIME = "one-at-a-time"  # all cores on one frame: less time for each


@dataclass(frozen=True)
class ModelConfig:
    """Table `[model]`: the network that all cameras share."""

    bundle: Path | None = None  # folder NAME.ovs; None: the embedded model
    precision: str = "auto"
    provider: str = "auto"
    plan: Path | None = None  # folder of a TensorRT plan
    threads: Annotated[int, Between(0, 4096)] = 0  # of the CPU; 0: one per core
    task: str = "auto"
    force: bool = False  # run a precision even if it failed its comparison with FP32
    sharing: Sharing = Sharing.AUTO

    def __post_init__(self) -> None:
        for name, value, known in (("provider", self.provider, providers()), ("task", self.task, TASKS)):
            if value not in known:
                raise UsageError(f'{name} is "{value[:40]}", expected one of: {", ".join(known)}')


@dataclass(frozen=True)
class WebConfig:
    """Table `[web]`: the page and the metrics. Without the table there is neither."""

    address: str = "127.0.0.1:8080"  # HOST:PORT
    token: str | None = None  # None: generated if other machines can connect
    recordings: Path = Path("recordings")  # folder; each camera has its own in it


@dataclass(frozen=True)
class CameraConfig:
    """Table `[cameras.NAME]`."""

    source: str  # as of --camera: a video file, too, which is played in a loop
    classes: str | tuple[str, ...]  # as of --classes, or a list
    # -- labels
    background: str = "auto"
    exact_words: bool = False
    threshold: Annotated[float | None, Between(0, 1)] = None
    sensitivity: Sensitivity = Sensitivity.NORMAL
    stuff: tuple[str, ...] = ()
    smooth: Annotated[float | None, Between(0, 1)] = None  # strength of temporal smoothing; None: 0.9, panoptic 0
    keyframes: Annotated[int, Between(1, 100)] = 1
    refine_edges: bool = False
    min_region: Annotated[float, Between(0, 1)] = 0.0
    presets: tuple[str, ...] = ()  # class lists for the keys 1 to 9 of the page
    # -- capture
    max_fps: Annotated[float, Between(0.01, 1000)] = 30.0  # frames a second decoded and segmented at most
    size: str | None = None  # "1280x720"
    rate: Annotated[float | None, Between(0.01, 1000)] = None
    mjpg: bool = False
    flip: Flip = Flip.NONE
    # -- pictures and outputs
    opacity: Annotated[float, Between(0, 1)] = 0.5
    names: bool = True
    legend: bool = False
    badge: bool = False
    save: str | None = None
    json: str | None = None
    masks: MaskForm = MaskForm.NONE  # in the JSON lines
    save_masks: str | None = None
    overwrite: bool = False
    # Its tables zones and lines, and its rules; see runtime/events/config.py.
    watch: WatchConfig = field(default_factory=WatchConfig, metadata={"apart": True})

    def __post_init__(self) -> None:
        if not self.source.strip():
            raise UsageError('source is empty, expected a camera such as "0" or "rtsp://host/stream"')
        if not self.classes or not str(self.classes).strip():
            raise UsageError('classes is empty, expected names such as "person, bike|bicycle"')
        listed = () if isinstance(self.classes, str) else self.classes
        if files := [name for name in listed if name.strip().startswith("@")]:
            raise UsageError(f"classes is a list with the file {files[0][:80]!r}; give it as a text, not in a list")
        if len(self.presets) > MOST_PRESETS:
            raise UsageError(
                f"presets has {len(self.presets)} lists, expected at most {MOST_PRESETS}: one for each key"
            )
        self.capture  # noqa: B018 - raises for a size that is none
        if self.masks is not MaskForm.NONE and self.json is None:
            raise UsageError("masks is for JSON lines; add json, or use save_masks")

    @property
    def capture(self) -> CaptureOptions:
        """What is asked of the source."""
        return CaptureOptions(parse_size(self.size), self.rate, self.mjpg, self.flip)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Files and folders that are written."""
        return tuple(name for name in (self.save, self.json, self.save_masks) if name not in (None, "-"))

    @property
    def inputs(self) -> tuple[Path, ...]:
        """Files that are read, as far as they are there."""
        lists = [*self.class_lists, *self.presets]
        names = (self.source, *(part[1:] for text in lists for part in _entries(text) if part.startswith("@")))
        return tuple(Path(name) for name in names if scheme_of(name) is None and os.path.exists(name))

    @property
    def class_files(self) -> tuple[Path, ...]:
        """Files that hold its classes."""
        parts = (part for text in self.class_lists for part in _entries(text))
        return tuple(Path(part[1:]) for part in parts if part.startswith("@"))

    @property
    def class_lists(self) -> tuple[str, ...]:
        """Texts of `classes` and `background` that may name files."""
        return (self.classes, self.background) if isinstance(self.classes, str) else (self.background,)

    @property
    def writes(self) -> bool:
        """Whether there is an output, standard output included."""
        return any(name is not None for name in (self.save, self.json, self.save_masks))

    @property
    def watches(self) -> bool:
        """Whether there are zones, lines or rules."""
        return bool(self.watch.rules or self.watch.places.zones or self.watch.places.lines)

    @property
    def kept(self) -> CameraConfig:
        """The configuration without what a running camera can change: its classes and how its pictures are labelled."""
        return replace(
            self, classes="any", threshold=None, sensitivity=Sensitivity.NORMAL, refine_edges=False, min_region=0.0,
            opacity=0.5, names=True, legend=False, badge=False, presets=(), watch=WatchConfig(),
        )  # fmt: skip


@dataclass(frozen=True)
class CamerasConfig:
    """A whole configuration."""

    cameras: Mapping[str, CameraConfig]  # by name
    model: ModelConfig = field(default_factory=ModelConfig)
    web: WebConfig | None = None
    delivery: DeliveryConfig = field(default_factory=DeliveryConfig)  # where the events of all cameras go
    path: Path | None = None  # of the file; None: the cameras are options of the command

    def __post_init__(self) -> None:
        if not 1 <= len(self.cameras) <= MOST_CAMERAS:
            raise UsageError(f"{len(self.cameras)} cameras are given, expected 1 to {MOST_CAMERAS}")
        self._refuse_collisions()

    def _refuse_collisions(self) -> None:
        """Raise `UsageError` where two outputs are one file, by whatever path, or an output is something that is read."""
        written = [(f"the camera {name}", output) for name, camera in self.cameras.items() for output in camera.outputs]
        lines = self.delivery.json_lines
        if lines is not None and lines.path != "-":
            written.append(("[json_lines]", lines.path))
        printing = [name for name, camera in self.cameras.items() if camera.json == "-"]
        if printing and lines is not None and lines.path == "-":
            raise UsageError(f"the camera {printing[0]} and [json_lines] both have standard output; give one a file")
        read = [path for camera in self.cameras.values() for path in camera.inputs]
        if self.path is not None:
            read.append(self.path)
        taken: dict[str, str] = {}
        for writer, output in written:
            real = os.path.realpath(output)
            if real in taken:
                who = (
                    f"{writer} has two outputs"
                    if taken[real] == writer
                    else f"{taken[real]} and {writer} both have one"
                )
                raise UsageError(f"{who} named {output}; give each its own name")
            taken[real] = writer
            try:
                refuse_inputs(Path(output), read, "the output")
            except UsageError as error:
                raise UsageError(f"{writer}: {error}") from error


def read_config(path: Path) -> CamerasConfig:
    """The configuration in the file at `path`. Raises `UsageError` in one line with file, table and key."""
    tables, top = read_toml(path), Place(str(path))
    for key in tables:
        if key not in _TABLES:
            raise top.error(f"[{key}]", f"is unknown; expected the tables {', '.join(_TABLES)}")
    folder = path.parent.absolute()
    model = read_table(table_of(tables.get("model", {}), top, "model"), ModelConfig, top.within("model"))
    model = replace(model, **_absolute(folder, bundle=model.bundle, plan=model.plan))
    web = None
    if "web" in tables:
        web = read_table(table_of(tables["web"], top, "web"), WebConfig, top.within("web"))
        web = replace(web, recordings=folder / web.recordings)
    delivery = replace(parse_delivery(delivery_tables(tables, path), top.file), origin=str(path.absolute()))
    cameras = dict(_cameras(tables, top, folder))
    try:
        return CamerasConfig(cameras, model, web, delivery, path)
    except UsageError as error:
        raise UsageError(f"{path}: [cameras] {error}") from error


def _cameras(tables: Mapping[str, Any], top: Place, folder: Path) -> Iterator[tuple[str, CameraConfig]]:
    defaults = table_of(tables.get("defaults", {}), top, "defaults")
    # Read alone, with what has no default put in, so that its mistakes are told of it and not of a camera.
    _camera({"source": "0", "classes": "any", **defaults}, top.within("defaults"))
    cameras = table_of(tables.get("cameras", {}), top, "cameras")
    for name, values in cameras.items():
        place = top.within("cameras")
        if not is_name(name):
            raise place.error(repr(name[:80]), "is no name of a camera; expected letters, digits, - and _, up to 64")
        own = table_of(values, place, name)
        yield name, _relative_to(folder, _camera({**defaults, **own}, place.within(name)))


def _camera(values: Mapping[str, Any], place: Place) -> CameraConfig:
    keys = {key: value for key, value in values.items() if key not in WATCH_TABLES}
    watch = parse_watch(values, f"{place.file}: [{place.table}]")
    return replace(read_table(keys, CameraConfig, place), watch=watch)


def is_name(text: str) -> bool:
    """Whether `text` can name a camera: it stands in addresses, in file names and in metrics."""
    return _NAME.fullmatch(text) is not None


def _relative_to(folder: Path, camera: CameraConfig) -> CameraConfig:
    """`camera` with the paths of a file in `folder`."""
    outputs: dict[str, Any] = {
        name: value
        if value == "-"
        else str(folder / value) + ("/" if value.endswith("/") else "")  # a folder stays one
        for name in ("save", "json", "save_masks")
        if (value := getattr(camera, name)) is not None
    }

    def listed(text: str) -> str:
        if "@" not in text:
            return text
        entries = (f"@{folder / name[1:]}" if name.startswith("@") else name for name in _entries(text, folder))
        return ", ".join(entries)

    classes, source = camera.classes, camera.source
    classes = listed(classes) if isinstance(classes, str) else classes
    if scheme_of(source) is None and not (source.isascii() and source.isdigit()):
        source = str(folder / source)
    lists: dict[str, Any] = {"background": listed(camera.background), "presets": tuple(map(listed, camera.presets))}
    return replace(camera, classes=classes, source=source, **lists, **outputs)


def _entries(text: str, folder: Path = Path()) -> list[str]:
    """Entries of a class list, each of which may be the "@FILE" of a file in `folder`; a file's name may hold commas."""
    whole = text.strip()
    if whole.startswith("@") and os.path.isfile(folder / whole[1:]):
        return [whole]
    return [entry.strip() for entry in text.split(",")]


def _absolute(folder: Path, **paths: Path | None) -> dict[str, Any]:
    return {name: None if path is None else folder / path for name, path in paths.items()}
