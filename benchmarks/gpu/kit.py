"""One run of the GPU kit: what its parts are given."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ...bundle.bundle import Bundle
from .capabilities import Capabilities
from .plan import Scale

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Kit:
    """One run of the kit."""

    folder: Path  # of the results
    bundles: tuple[Path, ...]
    scale: Scale
    capabilities: Capabilities
    threads: int  # of the CPU; 0: one per core

    @property
    def backends(self) -> tuple[str, ...]:
        """Backends that are measured."""
        return ("cpu",) if self.scale.cpu_only else self.capabilities.backends

    @property
    def providers(self) -> tuple[str, ...]:
        """Providers of ONNX Runtime that are measured."""
        return tuple(name for name in ("cpu", "cuda") if name in self.backends)

    @property
    def key(self) -> dict[str, Any]:
        """What the results of all parts depend on; a run of another key cannot continue this one."""
        return {
            "bundles": [Bundle.open(path, verify=False).digest for path in self.bundles],
            "scale": json.loads(json.dumps(asdict(self.scale))),
            "gpu": self.capabilities.gpu,
            "packages": self.capabilities.packages,
        }


# A part: what was done before, and the time by `time.monotonic` after which it begins nothing more.
Part = Callable[[Kit, dict[str, Any], Tell, float], dict[str, Any]]
