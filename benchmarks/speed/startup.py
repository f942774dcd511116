"""Start-up in a new process: time to the first labels, cost of a class change, memory.

The parent starts this module in a child process, which prints one JSON object. It also starts `ovs-run` itself with an
empty cache, as on first use.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ...bundle.bundle import Bundle
from ...bundle.errors import SourceError

FIRST_NAMES = "person,bike,car,dog,chair"
NEW_NAMES = (  # in no training vocabulary
    "lighthouse,wheelbarrow,violin,pineapple,scarecrow",
    "trumpet,anvil,cactus,hammock,lantern",
    "canoe paddle,chess board,goldfish,igloo,jukebox",
    "kettle drum,lawn mower,marble statue,nutcracker,oil lamp",
    "penguin,quilt,rocking horse,saxophone,totem pole",
    "unicycle,volcano,windmill,xylophone,yurt",
)
_FRAMES = 10  # frames before memory is read
# Backends that are also a --provider of ovs-run. Not tensorrt: its plans are in the cache, which is empty here, and
# building one takes minutes.
_PROVIDERS = ("cpu", "cuda")


@dataclass(frozen=True)
class Start:
    """One bundle, precision and backend in a process of its own. Times in milliseconds."""

    model: str
    precision: str
    backend: str
    input_size: tuple[int, int]  # height, width
    threads: int
    first_labels_ms: float  # from the start of the process to the first labelled frame, of known names
    load_ms: float  # of that, opening the bundle and the engine
    first_names_ms: float  # first change to five new names, which loads the text encoder
    new_names_ms: float  # later changes to new names, median of five
    known_names_ms: float  # change back to known names
    resident_mib: float  # after some frames, with the text encoder loaded
    peak_mib: float
    gpu_mib: float | None  # of the process; None if the driver does not report it
    # From the start of `ovs-run --source PHOTO --classes FIVE-NEW-NAMES --json -` to the first frame's line, with an
    # empty cache, text encoder included. None for backends not in `_PROVIDERS`.
    command_ms: float | None = None


def measure_start(bundle: Bundle, precision: str, backend: str, threads: int, picture: Path) -> Start:
    """Measure in a child process with an empty cache. Raises `SourceError` if the child fails."""
    module = "from ovs_edge.benchmarks.speed.startup import main; main()"
    with tempfile.TemporaryDirectory() as cache:
        words = [str(bundle.path), precision, backend, str(threads), str(picture), cache]
        started = time.time()
        child = subprocess.run(
            [sys.executable, "-c", module, *words],
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    if child.returncode:
        last = child.stderr.strip().splitlines()[-1:] or ["no error message"]
        raise SourceError(f"a fresh process with {bundle.path.name} {precision} {backend} failed: {last[0]}")
    told = json.loads(child.stdout)
    return Start(
        model=bundle.path.name.removesuffix(".ovs"),
        precision=precision,
        backend=backend,
        input_size=bundle.manifest.input_size,
        threads=threads,
        first_labels_ms=(told.pop("first_labels") - started) * 1e3,
        command_ms=measure_command(bundle, precision, backend, threads, picture) if backend in _PROVIDERS else None,
        **told,
    )


def measure_command(bundle: Bundle, precision: str, backend: str, threads: int, picture: Path) -> float:
    """Milliseconds from the start of `ovs-run` on a photo to its first line of results, with an empty cache.

    Raises `SourceError` if it fails.
    """
    # The installed script; in a checkout that is not installed, the function it calls.
    script = Path(sysconfig.get_path("scripts")) / "ovs-run"
    call = (
        [str(script)] if script.is_file() else [sys.executable, "-c", "from ovs_edge.runtime.cli import main; main()"]
    )
    options = ("--model", str(bundle.path), "--precision", precision, "--provider", backend, "--threads", str(threads))
    source = ("--source", str(picture), "--classes", NEW_NAMES[0], "--json", "-", "--no-show")
    with tempfile.TemporaryDirectory() as cache:
        started = time.perf_counter()
        with subprocess.Popen(
            [*call, *source, *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "XDG_CACHE_HOME": cache},
        ) as process:
            assert process.stdout is not None
            line = process.stdout.readline()
            took = (time.perf_counter() - started) * 1e3
            error = process.communicate()[1]
    if process.returncode or not line:
        last = error.strip().splitlines()[-1:] or ["no error message"]
        raise SourceError(f"ovs-run with {bundle.path.name} {precision} {backend} failed: {last[0]}")
    return took


def main() -> None:
    """Entry point of the child process."""
    from statistics import median

    from ...runtime.draw.overlay import Style, draw
    from ...runtime.opencv import cv2
    from ...runtime.segmenter import Segmenter
    from ...runtime.vocabulary.text_encoder import TextEncoder
    from ..machine.system_state import memory_of_gpu
    from .backends import open_backend

    folder, precision, backend, threads, picture, cache = sys.argv[1:]
    start = time.perf_counter()
    bundle = Bundle.open(folder)
    session = open_backend(bundle, precision, backend, int(threads))
    segmenter = Segmenter(bundle.manifest, session, TextEncoder(bundle, int(threads), Path(cache)))
    load = (time.perf_counter() - start) * 1e3
    image = cv2.imread(picture)
    with segmenter:
        segmenter.set_classes(_known(bundle))
        segmenter.predict(image)
        first_labels = time.time()
        first, *later = (_timed(partial(segmenter.set_classes, names)) for names in NEW_NAMES)
        segmenter.set_classes(FIRST_NAMES)
        known = median(_timed(partial(segmenter.set_classes, FIRST_NAMES)) for _ in range(20))
        for _ in range(_FRAMES):
            draw(image, segmenter.predict(image), Style())
        resident, gpu = _resident(), memory_of_gpu()
    told = {
        "first_labels": first_labels,
        "load_ms": load,
        "first_names_ms": first,
        "new_names_ms": median(later),
        "known_names_ms": known,
        "resident_mib": resident,
        "peak_mib": _peak(),
        "gpu_mib": gpu,
    }
    print(json.dumps(told))


def _known(bundle: Bundle) -> list[str]:
    """Five names of the training vocabulary, whose vectors are part of the bundle."""
    return [names[0] for names in bundle.manifest.training_vocabulary[:5]] or FIRST_NAMES.split(",")


def _timed(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return (time.perf_counter() - start) * 1e3


def _resident() -> float:
    """Resident MiB now; without /proc, the peak."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return pages * resource.getpagesize() / 2**20


def _peak() -> float:
    """Largest resident MiB of this program; what getrusage tells includes the process that started it."""
    try:
        status = Path("/proc/self/status").read_text()
        return float(status.split("VmHWM:")[1].split()[0]) / 1024
    except (OSError, IndexError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
