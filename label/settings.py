"""What decides the labels of a job. It stands in the manifest; a job goes on with the same settings or not at all."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from ..bundle.errors import BundleError, UsageError
from ..bundle.strict import parse

_VERSION = 1  # of the manifest
_PACKAGES = ("ovs-edge", "numpy", "onnxruntime", "onnxruntime-gpu", "opencv-python-headless", "opencv-python", "av")


class Photos(str, Enum):
    """What becomes of the pictures that were labelled."""

    AUTO = "auto"  # what suits the format: linked, or left where they are
    LINK = "link"  # hard links where the file system can, else copies
    COPY = "copy"
    NONE = "none"  # left where they are; frames of videos are not kept


@dataclass(frozen=True)
class LabelSettings:
    """Settings of a job; two runs with the same settings and inputs write the same bytes."""

    bundle: str  # its name
    digest: str  # sha256 over the bundle's digests
    precision: str  # of the graph that runs, never "auto"
    classes: tuple[str, ...]  # each as "name|synonym:threshold"
    threshold: float  # confidence, 0..1
    background: str
    sensitivity: str
    exact_words: bool
    task: str
    stuff: tuple[str, ...]
    refine_edges: bool
    min_region: float  # share of the picture
    format: str
    shape: str
    simplify: float  # pixels
    photos: str
    every: str  # of videos
    shard_size: int  # pictures


@dataclass(frozen=True)
class LabelManifest:
    """`.ovs-label/manifest.json`."""

    settings: LabelSettings
    versions: dict[str, str] = field(default_factory=dict)  # of the packages that the first run used
    complete: bool = False
    labelled: int = 0  # pictures, once complete
    bad: int = 0  # inputs that could not be labelled, once complete
    version: int = _VERSION

    def to_json(self) -> bytes:
        """Readable text."""
        return (json.dumps(dataclasses.asdict(self), indent=2, ensure_ascii=False) + "\n").encode()

    @classmethod
    def from_json(cls, text: bytes, where: str) -> LabelManifest:
        """What `to_json` wrote. Raises `UsageError`."""
        advice = "choose another folder with -o"
        try:
            manifest = parse(cls, json.loads(text), f"{where}: manifest", advice)
        except (BundleError, ValueError) as error:
            raise UsageError(f"{where} was not written by this version of ovs-label ({error}); {advice}") from error
        if manifest.version != _VERSION:
            raise UsageError(f"{where} has a manifest of version {manifest.version}, expected {_VERSION}; {advice}")
        return manifest


def installed_versions() -> dict[str, str]:
    """Versions of the packages that decide the labels."""
    found: dict[str, str] = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # noqa: PERF203 - a few
            continue
    return found


def refuse_other(before: LabelSettings, now: LabelSettings, where: str) -> None:
    """Raise `UsageError` that names the first setting in which the job differs from the one that was begun."""
    for entry in dataclasses.fields(LabelSettings):
        old, new = getattr(before, entry.name), getattr(now, entry.name)
        if old != new:
            show: Callable[[Any], str] = _shown
            raise UsageError(
                f"{where} was begun with {entry.name} {show(old)}, now it is {show(new)}; go on with the same, or choose "
                "another folder with -o"
            )


def _shown(value: Any) -> str:
    text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return repr(text if len(text) <= 60 else f"{text[:57]}…")
