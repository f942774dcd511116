"""Time of a graph on a CPU as the sum of its kernels' times, which other programs on the machine hardly disturb.

A whole run is as long as its worst interruption; a kernel is short, and most of its runs are not interrupted. So the
lower quantile of each kernel over a few runs tells what it takes, even on a busy machine.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from ...bundle.errors import require
from ...runtime.engines.onnx_runtime import capped
from .ranges import Feeds

_QUANTILE = 0.2
_RUNS, _FEWEST, _SECONDS = 30, 5, 5.0  # after so many seconds, the fewest runs are enough
_WARM_UP = 2


def kernel_milliseconds(model: onnx.ModelProto, feed: Feeds, threads: int) -> float:
    """Sum over kernels of the lower quantile of their times, in milliseconds; the graph runs as `int8-cpu` would."""
    ort = require("onnxruntime", "calibrate")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "graph.onnx"
        path.write_bytes(model.SerializeToString())
        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = capped(threads)
        options.inter_op_num_threads = 1
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        begin = time.perf_counter()
        for done in range(_RUNS + _WARM_UP):
            session.run(None, dict(feed))
            if done >= _FEWEST + _WARM_UP and time.perf_counter() - begin > _SECONDS:
                break
        events: list[dict[str, Any]] = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    times: dict[str, list[float]] = {}
    for event in events:
        name = str(event.get("name", ""))
        if event.get("cat") == "Node" and name.endswith("_kernel_time"):
            times.setdefault(name, []).append(float(event["dur"]))
    return sum(float(np.quantile(found[_WARM_UP:] or found, _QUANTILE)) for found in times.values()) / 1e3
