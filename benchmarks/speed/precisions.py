"""A calibrated bundle's precisions beside FP32: the verdicts it carries, and what a CPU gains, in turns."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ...bundle.bundle import Bundle
from ...bundle.errors import UsageError
from ...bundle.stopwatch import burst_times
from ...runtime.capture.photos import read_photo
from ...runtime.engines.engine import EngineOptions
from ...runtime.engines.registry import open_session
from ...runtime.inference.preprocess import to_input
from ...runtime.vocabulary.text_encoder import TextEncoder
from ..report.table import table

_CPU = ("fp32", "int8-cpu")  # the others are for engines that are not here
_NAMES = 13  # classes of a timed run


@dataclass(frozen=True)
class PrecisionsResult:
    """What calibration did to one bundle."""

    bundle: str
    input_size: tuple[int, int]  # height, width
    threads: int  # 0: one per core
    classes: int  # K of the timed runs
    milliseconds: dict[str, float]  # precision -> median of the network alone, on a CPU
    verdicts: dict[str, dict[str, Any]]  # precision -> as in the manifest


def measure_precisions(path: Path, photo: Path, threads: int, rounds: int) -> PrecisionsResult:
    """Time what a CPU runs, the precisions in turns; raises `UsageError` for a bundle without verdicts."""
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


def precisions_table(document: dict[str, Any]) -> str:
    """Markdown of a result with the key "precisions"."""
    result = document["precisions"]
    height, width = result["input_size"]
    milliseconds = result["milliseconds"]
    rows = []
    for name, verdict in result["verdicts"].items():
        took, gain = milliseconds.get(name), ""
        if took is not None:
            gain = f"{took:.1f} / {milliseconds['fp32']:.1f} ms, {milliseconds['fp32'] / took:.2f}x"
        labelled = ", ".join(f"{row['dataset']} {row['found']:.3f} / {row['fp32']:.3f}" for row in verdict["labelled"])
        rows.append(
            [name, f"{verdict['agreement']:.2%}", f"{verdict['worst']:.2%}", labelled, gain]
            + ["passed" if verdict["passed"] else "failed"]
        )
    title = (
        f"Precisions of `{result['bundle']}` beside FP32, {height}x{width}; network on a CPU with K = {result['classes']}, "
        f"{result['threads'] or 'all'} threads"
    )
    return table(title, ["precision", "labels equal", "worst photo", "mIoU / of FP32", "CPU / FP32", "verdict"], rows)
