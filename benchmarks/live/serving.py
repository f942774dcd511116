"""Load test of `ovs-serve`: many clients at a time, each with classes of its own, for minutes.

Every client sends pictures with lists of classes that nobody else asks for, in turn, and waits where it is told to.
Afterwards each distinct answer is compared with `Segmenter.predict`, and every repetition with the first answer, byte by
byte. Meanwhile another client sends what has to be refused, and the memory of all processes is read.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...bundle.bundle import Bundle
from ...bundle.errors import SourceError
from ...bundle.image_files import is_image_file
from ...runtime.capture.photos import decode_photo
from ...runtime.engines.engine import EngineOptions
from ...runtime.engines.registry import open_session
from ...runtime.inference.interop import decode_rle
from ...runtime.inference.prediction import NOTHING
from ...runtime.opencv import cv2
from ...runtime.segmenter import Segmenter
from ...runtime.vocabulary.text_encoder import TextEncoder
from ...serving.options import ServeOptions
from .clients import Key, Load, send_load
from .process_memory import ServerMemory, server_memory

_PHOTOS = 4  # pictures that are sent
_LISTS = 4  # lists of classes of each client
_NAMES = 4  # classes of a list, beside the one that names the client
_THINGS = (
    "person", "bicycle", "car", "dog", "cat", "horse", "sheep", "cow", "bird", "boat", "tree", "grass", "sky", "water",
    "road", "building", "chair", "table", "sofa", "plant", "wall", "floor", "book", "bottle", "mountain", "flower",
)  # fmt: skip
_KINDS = ("striped", "wooden", "broken", "tiny", "golden", "painted", "rusty", "folded")
_CACHE = 16  # MiB for vectors of lists in each replica: fewer than the clients use, so that lists come and go
_SETTLED = 0.25  # share of the run after which memory should be constant
_END = 60.0  # seconds for the server to end

Labels = npt.NDArray[np.int32]


@dataclass(frozen=True)
class ServingSample:
    """The server at one moment."""

    seconds: float  # since the first request
    answers: int
    busy: int  # 503
    server_mib: float  # memory of its own (resident, not shared) of the HTTP server
    replicas_mib: float  # the same of all replicas
    ray_mib: float  # the same of Ray's processes


@dataclass(frozen=True)
class ServingResult:
    """One run."""

    bundle: str
    minutes: float
    clients: int
    replicas: int
    queue: int
    threads: int  # of the CPU, of each replica
    lists: int  # of classes
    answers: int  # with status 200
    per_second: float
    median_ms: float  # from sending to the answer
    p95_ms: float
    busy: int  # 503, all with Retry-After
    failures: int  # any other error, or a 503 without Retry-After
    leaks: int  # answers whose classes are not those of the request
    unlike_the_first: int  # answers that differ from the first one to the same picture and classes
    compared: int  # distinct answers, compared with `predict`
    exact: int  # of them equal in every pixel
    least_agreement: float  # share of equal pixels of the worst one
    hostile: int  # malformed and oversized requests
    refused: int  # of them refused with the status that they should have
    hostile_statuses: dict[str, list[int]]  # what came for each kind
    memory_growth: float  # of server and replicas, from a quarter of the run to its end, as a share
    samples: tuple[ServingSample, ...] = field(repr=False)

    @property
    def right(self) -> bool:
        """Whether every answer was right, and everything else was refused."""
        wrong = self.failures + self.leaks + self.unlike_the_first + (self.compared - self.exact)
        return not wrong and self.refused == self.hostile and self.answers > 0


def measure_serving(
    path: Path,
    photos: Path,
    *,
    clients: int,
    replicas: int,
    queue: int,
    minutes: float,
    tell: Callable[[ServingSample], None] = lambda sample: None,
) -> ServingResult:
    """Start `ovs-serve`, load it, stop it, and compare. Raises `SourceError` where there are no photos or no server."""
    pictures = [place.read_bytes() for place in sorted(photos.rglob("*")) if is_image_file(place)][:_PHOTOS]
    if not pictures:
        raise SourceError(f"{photos} holds no photos; give a folder of some")
    lists = [_classes(client, number) for client in range(clients) for number in range(_LISTS)]
    command = [
        *(sys.executable, "-c", "from ovs_edge.serving.cli import main; main()", str(path.resolve())),
        *("--replicas", str(replicas), "--queue", str(queue), "--cache", str(_CACHE), "--address", "127.0.0.1:0"),
    ]
    samples: list[ServingSample] = []
    with (
        tempfile.TemporaryFile("w+") as said,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said, text=True) as server,
    ):
        try:
            url = _address(server, said)

            def sample(seconds: float, load: Load) -> None:
                samples.append(_sample(seconds, load, server_memory(server.pid)))
                tell(samples[-1])

            load = send_load(url, pictures, lists, clients, minutes * 60, sample)
        finally:
            server.terminate()  # where a shell has Ctrl-C ignored, the child would, too
            server.wait(_END)
    threads = ServeOptions(replicas=replicas).threads_each
    agreements = _compare(path, threads, pictures, lists, load.first)
    times = np.array(load.seconds or [0.0]) * 1e3
    return ServingResult(
        bundle=Bundle.open(path, verify=False).manifest.name,
        minutes=minutes,
        clients=clients,
        replicas=replicas,
        queue=queue,
        threads=threads,
        lists=len(lists),
        answers=load.answers,
        per_second=load.answers / (minutes * 60),
        median_ms=float(np.median(times)),
        p95_ms=float(np.percentile(times, 95)),
        busy=load.busy,
        failures=load.failures,
        leaks=load.leaks,
        unlike_the_first=load.unlike_the_first,
        compared=len(agreements),
        exact=sum(agreement == 1 for agreement in agreements),
        least_agreement=min(agreements, default=0.0),
        hostile=load.hostile,
        refused=load.refused,
        hostile_statuses={name: sorted(found) for name, found in load.hostile_statuses.items()},
        memory_growth=_growth(samples),
        samples=tuple(samples),
    )


def _classes(client: int, number: int) -> tuple[str, ...]:
    """Classes that no other client asks for: the last one names the client."""
    draw = random.Random(client * _LISTS + number)
    common = draw.sample(_THINGS, _NAMES)
    return (*common[:-1], f"{common[-1]}|{draw.choice(_KINDS)} {common[-1]}", f"{draw.choice(_KINDS)} lantern {client}")


def _address(server: subprocess.Popen[str], said: Any) -> str:
    assert server.stdout is not None
    line = next((line for line in server.stdout if "http://" in line), "")
    if not line:
        server.wait(_END)
        said.seek(0)
        raise SourceError(f"ovs-serve ended with code {server.returncode}: {said.read()[-300:]}")
    return line[line.index("http://") :].strip()


def _sample(seconds: float, load: Load, memory: ServerMemory) -> ServingSample:
    return ServingSample(
        round(seconds, 1), load.answers, load.busy, memory.server_mib, memory.replicas_mib, memory.ray_mib
    )


def _growth(samples: list[ServingSample]) -> float:
    """Of server and replicas: the last tenth of the run against what came just after they had settled."""
    sizes = [sample.server_mib + sample.replicas_mib for sample in samples]
    if len(sizes) < 4:
        return 0.0
    few = max(1, len(sizes) // 10)
    settled = int(len(sizes) * _SETTLED)
    before = float(np.median(sizes[settled : settled + few]))
    return float(np.median(sizes[-few:])) / before - 1


def _compare(
    path: Path, threads: int, pictures: list[bytes], lists: list[tuple[str, ...]], first: dict[Key, bytes]
) -> list[float]:
    """Share of equal pixels of each answer with what `predict` gives."""
    images = [decode_photo(data, "the picture") for data in pictures]
    bundle = Bundle.open(path)
    with tempfile.TemporaryDirectory() as cache:
        encoder = TextEncoder(bundle, threads, Path(cache))
        session = open_session(bundle, EngineOptions(threads=threads))
        agreements = []
        with Segmenter(bundle.manifest, session, encoder) as segmenter:
            for chosen in sorted({key.classes for key in first}):
                segmenter.set_classes(lists[chosen])
                for key in sorted(key for key in first if key.classes == chosen):
                    expected = segmenter.predict(images[key.picture]).labels
                    found = _labels(first[key], key.answer)
                    same = found.shape == expected.shape
                    agreements.append(float((found == expected).mean()) if same else 0.0)
    return agreements


def _labels(body: bytes, answer: str) -> Labels:
    """Labels (H, W) of an answer, NOTHING where there is none."""
    if answer == "png":
        values: Labels = cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_UNCHANGED).astype(np.int32)
        return np.where(values == 255, NOTHING, values)
    document = json.loads(body)
    labels = np.full((document["height"], document["width"]), NOTHING, np.int32)
    for entry in document["annotations"]:
        labels[decode_rle(entry["segmentation"])] = entry["category_id"] - 1
    return labels
