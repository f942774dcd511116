"""`Plan`: a TensorRT engine with the sidecar that says what it was built from, and for which device.

A plan is a folder, in the user's cache or where `ovs-build -o` put it:

    plan.json     the sidecar, the bundle's manifest included
    engine.bin    the serialised engine
    layers.json   what the engine was made of, for `ovs-build --inspect`; nothing runs by it

TensorRT runs what it deserialises, and crashes on what was built for another version. So the sidecar is compared with
this machine, and the engine's digest with the sidecar, before anything is deserialised. The digest detects damage and
mix-ups, not manipulation: an engine is code, so use plans only from sources whose programs you would run.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from ...bundle.bundle import Bundle
from ...bundle.errors import BundleError, PlanError
from ...bundle.files import cache_folder
from ...bundle.manifest import Manifest
from ...bundle.strict import parse

SCHEMA = 1
SIDECAR = "plan.json"
ENGINE = "engine.bin"
LAYERS = "layers.json"
_SIDECAR_LIMIT = 64 * 2**20  # bytes; a real one has some ten thousand

Formulation = Literal["gridsample", "gather", "plugin"]


@dataclass(frozen=True)
class Profile:
    """One size of the text vectors that the engine is made for; smaller ones are padded with zero rows."""

    classes: int  # K
    names: int  # S

    def holds(self, classes: int, names: int) -> bool:
        """Whether vectors (classes, names, D) fit in."""
        return classes <= self.classes and names <= self.names

    def __str__(self) -> str:
        return f"{self.classes}x{self.names}"


@dataclass(frozen=True)
class Target:
    """What an engine is bound to."""

    module: str  # "tensorrt" or "tensorrt_rtx"
    version: str  # of it
    gpu: str | None  # name; None: built with no GPU, which only tensorrt_rtx can
    capability: str | None  # compute capability, "8.7"
    machine: str  # "x86_64", "aarch64"
    system: str  # "Linux"

    @classmethod
    def here(cls, module: str, version: str, gpu: str | None, capability: str | None) -> Target:
        """This machine's."""
        return cls(module, version, gpu, capability, platform.machine(), platform.system())

    def __str__(self) -> str:
        return f"{self.module} {self.version}, {self.gpu or 'no GPU'}"


@dataclass(frozen=True)
class Sidecar:
    """`plan.json`."""

    bundle: str  # its name
    bundle_digest: str  # identity of the bundle it was built from
    precision: str  # of the bundle
    formulation: Formulation  # of deformable attention
    target: Target
    profiles: tuple[Profile, ...]  # in the order of the engine's optimisation profiles
    level: int  # of the builder's optimisation, 0..5
    engine_sha256: str
    engine_bytes: int
    created_by: str  # distribution and version
    manifest: Manifest  # the bundle's
    parity: dict[str, Any] = field(default_factory=dict)  # against ONNX Runtime on this GPU; empty: not compared
    workspace: int | None = None  # bytes of scratch that were asked for; None: half of what was free
    chosen_from: tuple[str, ...] = ()  # "fp16 gather", …: what it was the fastest of; empty: its precision was named
    schema: int = SCHEMA

    def to_json(self) -> str:
        """Readable JSON, keys in the order of the fields."""
        return json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n"


@dataclass(frozen=True)
class Plan:
    """A plan on disk whose sidecar has been read; the engine is read, and checked, by `engine`."""

    path: Path
    sidecar: Sidecar

    @classmethod
    def open(cls, path: str | Path) -> Plan:
        """Read the sidecar. Raises `PlanError` for anything that is not one."""
        path = Path(path)
        file = path / SIDECAR
        try:
            if file.stat().st_size > _SIDECAR_LIMIT:
                raise PlanError(f"{file} is larger than {_SIDECAR_LIMIT} bytes; build the plan again with ovs-build")
            raw = json.loads(file.read_text(encoding="utf-8"))
        except OSError as error:
            raise PlanError(f"cannot read {file} ({error.strerror}); expected a folder that ovs-build wrote") from error
        except (ValueError, RecursionError) as error:
            raise PlanError(f"{file} is not JSON ({error}); build the plan again with ovs-build") from error
        schema = raw.get("schema") if isinstance(raw, dict) else None
        if type(schema) is not int or schema != SCHEMA:
            raise PlanError(f"{file} has schema {schema!r}, this version reads {SCHEMA}; build the plan again")
        try:
            sidecar = parse(Sidecar, raw, str(file), "build the plan again with ovs-build")
            Manifest.from_json(json.dumps(raw["manifest"]), f"{file}: manifest")
        except BundleError as error:
            raise PlanError(str(error)) from error
        if not sidecar.profiles or any(profile.classes < 1 or profile.names < 1 for profile in sidecar.profiles):
            raise PlanError(f"{file} has no sound profiles; build the plan again with ovs-build")
        return cls(path, sidecar)

    @property
    def compared(self) -> bool:
        """Whether it was compared with ONNX Runtime on its GPU; only plans that passed are published as such."""
        return bool(self.sidecar.parity)

    def strangers(self, here: Target) -> list[str]:
        """What of this machine differs from what the plan was built for, in words; empty where it fits."""
        built = self.sidecar.target
        found = []
        if (built.module, built.version) != (here.module, here.version):
            found.append(f"it was built by {built.module} {built.version}, here is {here.module} {here.version}")
        # What tensorrt_rtx builds without a GPU is made for every RTX card.
        if built.gpu is not None and (built.gpu, built.capability) != (here.gpu, here.capability):
            found.append(
                f"it was built for {built.gpu} (compute capability {built.capability}), here is "
                f"{here.gpu or 'no GPU'} ({here.capability})"
            )
        if (built.machine, built.system) != (here.machine, here.system):
            found.append(f"it was built on {built.system} {built.machine}, here is {here.system} {here.machine}")
        return found

    def engine(self, here: Target) -> bytes:
        """The engine's bytes, unchanged since they were built; raises `PlanError` if they are not for this machine."""
        if reasons := self.strangers(here):
            raise PlanError(f"the plan {self.path} does not fit: {'; '.join(reasons)}; build it here with ovs-build")
        data, damage = self._read()
        if damage:
            raise PlanError(f"{damage}; copy it again or build it again with ovs-build")
        return data

    @property
    def damage(self) -> str:
        """In which way the engine is not what was built, in words; empty where it is whole. Reads all of it."""
        return self._read()[1]

    def _read(self) -> tuple[bytes, str]:
        """The engine's bytes, or nothing, and what is wrong with them."""
        file = self.path / ENGINE
        try:
            size = file.stat().st_size
            if size != self.sidecar.engine_bytes:
                expected = self.sidecar.engine_bytes
                return b"", f"{file} has {size} bytes, its sidecar says {expected}: it is cut short or another plan's"
            # These very bytes are hashed and deserialised: the file may change in between.
            data = file.read_bytes()
        except OSError as error:
            return b"", f"cannot read {file} ({error.strerror})"
        digest, expected_digest = hashlib.sha256(data).hexdigest(), self.sidecar.engine_sha256
        if digest != expected_digest:
            return b"", f"{file} was altered: sha256 {digest[:12]}…, its sidecar says {expected_digest[:12]}…"
        return data, ""


def cached_path(bundle_digest: str, precision: str, target: Target, profiles: Sequence[Profile]) -> Path:
    """Where the cache keeps a plan: by bundle, precision, TensorRT, GPU and profiles."""
    named = {"precision": precision, "target": asdict(target), "profiles": [str(profile) for profile in profiles]}
    key = hashlib.sha256(json.dumps(named, sort_keys=True).encode()).hexdigest()
    return _shelf(bundle_digest) / key[:16]


def cached(bundle: Bundle, precision: str) -> Iterator[Plan]:
    """Readable plans of `bundle` in `precision`, whether they fit or not; the newest first."""
    shelf = _shelf(bundle.digest)
    # A name that begins with a dot is a plan in the making.
    folders = [path for path in shelf.glob("[!.]*") if (path / SIDECAR).is_file()] if shelf.is_dir() else []
    for folder in sorted(folders, key=lambda path: (path / SIDECAR).stat().st_mtime, reverse=True):
        try:
            plan = Plan.open(folder)
        except PlanError:
            continue
        if (plan.sidecar.bundle_digest, plan.sidecar.precision) == (bundle.digest, precision):
            yield plan


def fitting(bundle: Bundle, precision: str, here: Target, profiles: Sequence[Profile] | None = None) -> Plan:
    """The newest cached plan that was built for `here`, whole, and of these profiles if they are given.

    Raises `PlanError` that says why there is none.
    """
    reasons = []
    for plan in cached(bundle, precision):
        if found := plan.strangers(here):
            reasons.append(f"is stale: {found[0]}")
        elif profiles is not None and plan.sidecar.profiles != tuple(profiles):
            holds, asked = (",".join(map(str, some)) for some in (plan.sidecar.profiles, profiles))
            reasons.append(f"holds {holds}, asked for is {asked}")
        elif damage := plan.damage:
            reasons.append(f"is damaged: {damage}")
        else:
            return plan
    name = bundle.manifest.name
    if reasons:
        raise PlanError(f"the plan of {name} in {precision} {reasons[0]}")
    raise PlanError(f"there is no plan of {name} in {precision} for {here}")


def _shelf(bundle_digest: str) -> Path:
    return cache_folder("plans") / bundle_digest[:16]
