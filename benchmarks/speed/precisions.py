"""Precisions of a calibrated bundle beside FP32: the parity figures it carries, and CPU latency, interleaved."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ...bundle.bundle import Bundle
from ...bundle.errors import UsageError
from ...runtime.capture.photos import read_photo
from ...runtime.engines.engine import EngineOptions
from ...runtime.engines.registry import open_session
from ...runtime.inference.preprocess import to_input
from ...runtime.stopwatch import burst_times
from ...runtime.vocabulary.text_encoder import TextEncoder

_CPU = ("fp32", "int8-cpu")  # the others are for other engines
_NAMES = 13  # K of a timed run


@dataclass(frozen=True)
class PrecisionsResult:
    """Parity and latency of one bundle's precisions."""

    bundle: str
    input_size: tuple[int, int]  # height, width
    threads: int  # 0: one per core
    classes: int  # K of the timed runs
    milliseconds: dict[str, float]  # precision -> median of the network alone, on the CPU
    verdicts: dict[str, dict[str, Any]]  # precision -> as in the manifest


def measure_precisions(path: Path, photo: Path, threads: int, rounds: int) -> PrecisionsResult:
    """Time the precisions for CPUs, interleaved; raises `UsageError` for a bundle without calibrated precisions."""
    bundle = Bundle.open(path, force=True)
    manifest = bundle.manifest
    if not manifest.verdicts:
        raise UsageError(f"{path} has no calibrated precision; make some with: ovs-calibrate {path} --images FOLDER")
    image = to_input(read_photo(photo), manifest.input_size)[0]
    names = [entry[0] for entry in manifest.training_vocabulary[:_NAMES]] or ["person", "sky"]
    vectors = TextEncoder(bundle, threads).encode(names)[:, None]
    timed = [precision for precision in _CPU if precision in manifest.precisions]
    with ExitStack() as stack:
        sessions = [
            stack.enter_context(open_session(bundle, EngineOptions(precision, threads, "cpu"))) for precision in timed
        ]
        medians = np.median(burst_times([partial(session.run, image, vectors) for session in sessions], rounds), axis=0)
    return PrecisionsResult(
        bundle=manifest.name,
        input_size=manifest.input_size,
        threads=threads,
        classes=len(names),
        milliseconds=dict(zip(timed, map(float, medians), strict=True)),
        verdicts={name: {**asdict(verdict), "passed": verdict.passed} for name, verdict in manifest.verdicts.items()},
    )
