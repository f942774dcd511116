"""Latency of the network, of a change of classes, and the memory of a whole `ovs-run`."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from ovs_edge.bundle.bundle import Bundle
from ovs_edge.bundle.errors import SourceError
from ovs_edge.runtime.segmenter import Segmenter
from ovs_edge.runtime.session import open_session
from ovs_edge.runtime.text import TextEncoder

FIRST_NAMES = "person,bike,car,dog,chair"
NEW_NAMES = (  # in no training vocabulary of ours
    "lighthouse,wheelbarrow,violin,pineapple,scarecrow",
    "trumpet,anvil,cactus,hammock,lantern",
    "canoe paddle,chess board,goldfish,igloo,jukebox",
    "kettle drum,lawn mower,marble statue,nutcracker,oil lamp",
    "penguin,quilt,rocking horse,saxophone,totem pole",
    "unicycle,volcano,windmill,xylophone,yurt",
)


@dataclass(frozen=True)
class SpeedResult:
    """One bundle on one machine. Times in milliseconds."""

    bundle: str
    input_size: tuple[int, int]  # height, width
    precision: str
    classes: int  # K that the network was given, the background among them
    names: int  # S
    threads: int
    runs: int
    latency_p50: float
    latency_p90: float
    latency_p99: float
    first_names_ms: float  # change to five names never encoded before, the first since the start: loads the encoder
    new_names_ms: float  # the same later on, median of five changes
    cached_names_ms: float  # change back to known names
    peak_memory_mib: float  # resident, of `ovs-run --source demo` from start to end


def measure_speed(
    path: Path, precision: str = "fp32", threads: int = 2, runs: int = 200, warmup: int = 20
) -> SpeedResult:
    """Time the network on fresh random pictures with `FIRST_NAMES` and the automatic background, as `ovs-run` has it."""
    bundle = Bundle.open(path)
    rng = np.random.default_rng(0)
    height, width = bundle.manifest.input_size
    pictures = rng.integers(0, 256, (8, 1, height, width, 3), dtype=np.uint8)
    # A cache of our own, so that no name is known from an earlier run.
    with tempfile.TemporaryDirectory() as cache:
        session = open_session(bundle, precision, threads, "cpu")
        segmenter = Segmenter(bundle.manifest, session, TextEncoder(bundle, threads, Path(cache)))
        with segmenter:
            segmenter.set_classes(FIRST_NAMES)
            vectors = segmenter.asked.vocabulary.vectors
            times = []
            for index in range(warmup + runs):
                start = time.perf_counter()
                session.run(pictures[index % len(pictures)], vectors)
                times.append((time.perf_counter() - start) * 1e3)
            first, *later = (_timed(partial(segmenter.set_classes, names)) for names in NEW_NAMES)
            cached = float(np.median([_timed(lambda: segmenter.set_classes(FIRST_NAMES)) for _ in range(20)]))
    p50, p90, p99 = (float(np.percentile(times[warmup:], q)) for q in (50, 90, 99))
    return SpeedResult(
        bundle.manifest.name, (height, width), precision, len(vectors), vectors.shape[1], threads, runs,
        p50, p90, p99, first, float(np.median(later)), cached, _peak_memory(path, precision, threads),
    )  # fmt: skip


def _timed(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return (time.perf_counter() - start) * 1e3


def _peak_memory(path: Path, precision: str, threads: int) -> float:
    """Peak resident memory, MiB, of a real `ovs-run` on the demo photos."""
    code = "from ovs_edge.runtime.cli import main; main()"
    with tempfile.TemporaryDirectory() as folder:
        arguments = [
            sys.executable, "-c", code, "--source", "demo", "--classes", "person,cat,cup,sky", "--model", str(path),
            "--precision", precision, "--threads", str(threads), "--save", f"{folder}/out",
        ]  # fmt: skip
        process = subprocess.Popen(
            arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env={**os.environ, "XDG_CACHE_HOME": folder}
        )
        assert process.stderr is not None
        message = process.stderr.read().decode(errors="replace")
        _, status, usage = os.wait4(process.pid, 0)
        process.stderr.close()
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SourceError(f"ovs-run ended with {process.returncode} while its memory was measured: {message}")
    return usage.ru_maxrss / 1024
