"""Open-vocabulary segmentation on the edge: `import ovs_edge`.

Names are resolved when they are first used (PEP 562), so that `import ovs_edge` costs nothing and needs neither
OpenCV nor torch.
"""

from __future__ import annotations

import os
import signal
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

# ONNX Runtime 1.29 and newer send telemetry unless this is set before its first import; a user's own value stays.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

_PROGRAM = os.path.basename(getattr(sys, "argv", [""])[0])

# SIGHUP has `ovs-run --config` read its file again. Before it has read it there is nothing to do, and nothing may end it.
if (
    _PROGRAM == "ovs-run"
    and any(word.partition("=")[0] == "--config" for word in sys.argv)
    and hasattr(signal, "SIGHUP")
):
    signal.signal(signal.SIGHUP, lambda number, stack: None)

# Ctrl-C while the modules of a command are still being imported: no traceback.
if _PROGRAM.startswith("ovs-"):
    sys.excepthook = lambda kind, error, trace: (
        print("interrupted", file=sys.stderr)
        if issubclass(kind, KeyboardInterrupt)
        else sys.__excepthook__(kind, error, trace)
    )

if TYPE_CHECKING:
    from ovs_edge.bundle.errors import (
        BundleError,
        CheckpointError,
        DatasetError,
        MissingExtraError,
        OvsError,
        ParityError,
        PlanError,
        SinkError,
        SourceError,
        UsageError,
    )
    from ovs_edge.export.export_bundle import export_bundle
    from ovs_edge.runtime.capture.registry import open_source
    from ovs_edge.runtime.frame import Frame
    from ovs_edge.runtime.inference.interop import to_coco, to_detections
    from ovs_edge.runtime.inference.prediction import Prediction, Region, Segment
    from ovs_edge.runtime.inference.refinement import Refinement
    from ovs_edge.runtime.segmenter import Segmenter

    __version__: str

_ERRORS = (
    "BundleError",
    "CheckpointError",
    "DatasetError",
    "MissingExtraError",
    "OvsError",
    "ParityError",
    "PlanError",
    "SinkError",
    "SourceError",
    "UsageError",
)
_PLACES = {  # public name -> (module, name in it)
    **{name: (".bundle.errors", name) for name in _ERRORS},
    "Frame": (".runtime.frame", "Frame"),
    "Prediction": (".runtime.inference.prediction", "Prediction"),
    "Refinement": (".runtime.inference.refinement", "Refinement"),
    "Region": (".runtime.inference.prediction", "Region"),
    "Segment": (".runtime.inference.prediction", "Segment"),
    "Segmenter": (".runtime.segmenter", "Segmenter"),
    "export_bundle": (".export.export_bundle", "export_bundle"),
    "open_source": (".runtime.capture.registry", "open_source"),
    "to_coco": (".runtime.inference.interop", "to_coco"),
    "to_detections": (".runtime.inference.interop", "to_detections"),
}

__all__ = [  # noqa: RUF022 - the order in which a reader meets them
    "Segmenter",
    "Prediction",
    "Region",
    "Segment",
    "Refinement",
    "Frame",
    "open_source",
    "to_detections",
    "to_coco",
    "export_bundle",
    "OvsError",
    "UsageError",
    "BundleError",
    "CheckpointError",
    "DatasetError",
    "MissingExtraError",
    "ParityError",
    "PlanError",
    "SinkError",
    "SourceError",
    "__version__",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("ovs-edge")
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _PLACES[name]
    return getattr(import_module(module, __name__), attribute)


def __dir__() -> list[str]:
    return sorted(__all__)
