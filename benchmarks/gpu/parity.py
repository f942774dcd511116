"""Parity of every backend and precision with ONNX Runtime on the CPU, at the corners of K and S."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt

from ...bundle.bundle import Bundle
from ...bundle.errors import OvsError
from ...bundle.vocabulary import stack_names
from ...runtime.engines.engine import EngineOptions
from ...runtime.engines.registry import open_session
from ...runtime.engines.session import Session
from ...runtime.vocabulary.text_encoder import TextEncoder
from ..speed.backends import open_backend, why_not

# Least share of equal labels, on the worst picture. Both sides run the same graph: only the order of sums differs.
LEAST_EQUAL = {"fp32": 0.999}
_LEAST_EQUAL = 0.99

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class ParityRow:
    """One backend and precision at one corner."""

    model: str
    precision: str
    backend: str
    classes: int  # K
    names: int  # S
    labels_equal: float  # share of pixels, worst picture
    confidence_apart: float  # mean absolute difference, worst picture
    least_equal: float  # acceptance threshold of `labels_equal`

    @property
    def passed(self) -> bool:
        """Whether it is within the acceptance threshold; NaN is not."""
        return self.labels_equal >= self.least_equal and bool(np.isfinite(self.confidence_apart))


def measure_parity(
    bundle: Bundle,
    backends: Sequence[str],
    corners: Sequence[tuple[int, int]],
    pictures: Sequence[npt.NDArray[np.uint8]],
    tell: Callable[[str], None],
    deadline: float = math.inf,
) -> tuple[list[ParityRow], list[str]]:
    """Rows of every backend and precision, and what was left out with the reason; after `deadline`, all that is left.

    `corners` are pairs of K and S, `pictures` network inputs (1, H, W, 3) uint8 BGR. The reference of a precision is
    the same graph on the CPU provider.
    """
    rows: list[ParityRow] = []
    left_out: list[str] = []
    vectors = list(_vocabularies(bundle, corners))
    for precision, backend in product(bundle.manifest.precisions, backends):
        name = f"{bundle.manifest.name} {precision} on {backend}"
        if (reason := why_not(backend, precision)) is not None:
            left_out.append(f"{name}: {reason}")
            continue
        if time.monotonic() > deadline:
            left_out.append(f"{name}: out of time")
            continue
        tell(f"parity of {name}")
        subject = (bundle.manifest.name, precision, backend)
        found: list[ParityRow] = []
        is_open = False
        try:
            with ExitStack() as stack:
                reference = stack.enter_context(open_session(bundle, EngineOptions(precision, provider="cpu")))
                session = stack.enter_context(open_backend(bundle, precision, backend, 0))
                is_open = True
                for row in _compare(session, reference, subject, vectors, pictures, deadline):
                    found.append(row)  # noqa: PERF402 - what was found stays when a later corner raises
            if len(found) < len(vectors):
                left_out.append(f"{name}: {len(vectors) - len(found)} corners, out of time")
        except OvsError as error:
            left_out.append(f"{name}: {error}")
            if is_open:  # a backend that opens and then cannot run fails its next corner
                found.append(_failed(subject, vectors[len(found)]))
        rows += found
    return rows, left_out


def _failed(subject: tuple[str, str, str], vectors: Floats) -> ParityRow:
    return ParityRow(
        *subject,
        classes=vectors.shape[0],
        names=vectors.shape[1],
        labels_equal=0.0,
        confidence_apart=float("inf"),
        least_equal=LEAST_EQUAL.get(subject[1], _LEAST_EQUAL),
    )


def _compare(
    session: Session,
    reference: Session,
    subject: tuple[str, str, str],
    vocabularies: Sequence[Floats],
    pictures: Sequence[npt.NDArray[np.uint8]],
    deadline: float,
) -> Iterator[ParityRow]:
    for vectors in vocabularies:
        if time.monotonic() > deadline:
            return
        unequal, apart = [], []
        for picture in pictures:
            labels, confidence = session.run(picture, vectors)
            expected, expected_confidence = reference.run(picture, vectors)
            unequal.append(float((labels != expected).mean()))
            apart.append(float(np.abs(confidence - expected_confidence).mean()))
        # numpy's maximum, unlike Python's, keeps a NaN.
        yield ParityRow(
            *subject,
            classes=vectors.shape[0],
            names=vectors.shape[1],
            labels_equal=1 - float(np.max(unequal)),
            confidence_apart=float(np.max(apart)),
            least_equal=LEAST_EQUAL.get(subject[1], _LEAST_EQUAL),
        )


def _vocabularies(bundle: Bundle, corners: Sequence[tuple[int, int]]) -> Iterator[Floats]:
    """Text vectors (K, S, D) of trained names first, then random ones."""
    dim, most = bundle.manifest.text.dim, bundle.manifest.graph.max_classes
    names = [name for entry in bundle.manifest.training_vocabulary for name in entry]
    known = TextEncoder(bundle).encode(names) if names else np.zeros((0, dim), np.float32)
    for classes, each in dict.fromkeys((min(classes, most), each) for classes, each in corners):
        rng = np.random.default_rng(classes * 1000 + each)
        random = rng.standard_normal((max(0, classes * each - len(known)), dim)).astype(np.float32)
        random /= np.linalg.norm(random, axis=1, keepdims=True)
        rows = np.concatenate((known, random))[: classes * each]
        yield stack_names([rows[index::classes] for index in range(classes)], dim)
