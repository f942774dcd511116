"""What a build's child process may do; at module level, so that the child can import it."""

from __future__ import annotations

import os
import signal

from ovs_edge.bundle.errors import MissingExtraError, PlanError
from ovs_edge.calibration.tensorrt.builder import BuildRequest, BuiltEngine, Step


def works(request: BuildRequest, step: Step) -> BuiltEngine:
    assert step("phase", 1, 2) and step("phase", 2, 2)
    request.engine.write_bytes(b"engine")
    return BuiltEngine("0" * 64, 6, 0.1, 1.0, ())


def is_killed(request: BuildRequest, step: Step) -> BuiltEngine:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("still alive")


def crashes(request: BuildRequest, step: Step) -> BuiltEngine:
    os.kill(os.getpid(), signal.SIGABRT)
    raise AssertionError("still alive")


def fails(request: BuildRequest, step: Step) -> BuiltEngine:
    raise PlanError("TensorRT cannot build it")


def lacks(request: BuildRequest, step: Step) -> BuiltEngine:
    raise MissingExtraError("cannot import tensorrt")


def cannot_write(request: BuildRequest, step: Step) -> BuiltEngine:
    raise OSError(28, "No space left on device")
