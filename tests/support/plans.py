"""Plans for the GPU that is not there (fake_gpu.py)."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from support import fake_gpu

from ovs_edge.bundle.bundle import Bundle
from ovs_edge.runtime.plan import ENGINE, SIDECAR, Plan, Profile, Sidecar, Target

PROFILES = (Profile(4, 2), Profile(16, 5))


def target(**changes: Any) -> Target:
    """The fake's."""
    return Target.here(
        **{"module": "tensorrt", "version": fake_gpu.VERSION, "gpu": fake_gpu.GPU, "capability": "8.7", **changes}
    )


def make_plan(bundle: Bundle, folder: Path, engine: bytes | None = None, **changes: Any) -> Plan:
    """Write a plan of `bundle` that the fake runs, with `changes` to its sidecar."""
    sizes = [(profile.classes, profile.names) for profile in PROFILES]
    data = fake_gpu.engine_bytes(bundle.graph("fp32"), sizes) if engine is None else engine
    described = {
        "bundle": bundle.manifest.name,
        "bundle_digest": bundle.digest,
        "precision": "fp32",
        "formulation": "gridsample",
        "target": target(),
        "profiles": PROFILES,
        "level": 3,
        "engine_sha256": hashlib.sha256(data).hexdigest(),
        "engine_bytes": len(data),
        "created_by": "tests",
        "manifest": bundle.manifest,
        "parity": {"rows": []},
        **changes,
    }
    folder.mkdir(parents=True)
    (folder / ENGINE).write_bytes(data)
    (folder / SIDECAR).write_text(Sidecar(**described).to_json(), encoding="utf-8")
    return Plan.open(folder)
