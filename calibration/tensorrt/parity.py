"""Parity of a plan with ONNX Runtime on a few images, with the smallest and the largest class list of every profile."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ...bundle.bundle import Bundle
from ...bundle.errors import ParityError
from ...bundle.vocabulary import stack_names
from ...runtime.engines.plan import Profile
from ...runtime.engines.session import RawOutputs, Session
from ...runtime.vocabulary.text_encoder import TextEncoder
from .photos import Bytes, Pictures

# Least share of pixels with the same label, on the worst image. Both sides run the same file: in INT8 and FP16, too,
# only the order of sums differs.
BARS = {"fp32": 0.999}
_BAR = 0.99
# Largest difference of a panoptic plan's masks and classes, as `PlanRow` measures it. Between mini in FP16 and in FP32,
# masks differ by 0.013 on the worst of six images and classes by 0.008; two orders of FP32 sums differ far less.
QUERY_BARS = {"fp32": 0.003}
_QUERY_BAR = 0.03
_RUNS = 20  # timed runs of each row

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class PlanRow:
    """One vocabulary on every image."""

    profile: str  # that holds it, "32x64"
    classes: int  # K
    names: int  # S
    labels_equal: float  # share of pixels, worst picture
    confidence_apart: float  # mean absolute difference, worst picture
    milliseconds: float  # median of a run, this profile
    # Of a panoptic plan, worst picture; 0 where equal, 1 where nothing is shared:
    masks_apart: float | None = None  # 1 - intersection over union of the queries' masks as probabilities
    classes_apart: float | None = None  # half the sum of |difference| of the K + 1 probabilities, mean over queries


@dataclass(frozen=True)
class PlanParity:
    """Result of a comparison."""

    pictures: int
    source: str  # of the pictures
    pictures_sha256: str  # of their pixels
    bar: float  # least `labels_equal`
    queries_bar: float  # most `masks_apart` and `classes_apart`
    rows: tuple[PlanRow, ...]

    def to_dict(self) -> dict[str, Any]:
        """For the sidecar."""
        return asdict(self)

    @property
    def milliseconds(self) -> float:
        """Geometric mean of a run over the rows, so that each size counts the same."""
        return float(np.exp(np.mean([np.log(max(row.milliseconds, 1e-3)) for row in self.rows])))

    @property
    def speed(self) -> str:
        """Milliseconds of the first and the last row, in words."""
        ends = dict.fromkeys((self.rows[0], self.rows[-1]))
        return ", ".join(f"{row.milliseconds:.2f} ms with {row.profile}" for row in ends)

    def check(self) -> None:
        """Raise `ParityError` if a row is past a threshold."""
        for row in self.rows:
            found = []
            # Negated, so that a NaN fails, too.
            if not row.labels_equal >= self.bar or not np.isfinite(row.confidence_apart):
                found.append(f"{row.labels_equal:.2%} of labels equal, expected {self.bar:.1%}")
            for what, apart in (("masks", row.masks_apart), ("classes", row.classes_apart)):
                if apart is not None and not apart <= self.queries_bar:
                    found.append(f"the queries' {what} are {apart:.4f} apart, expected at most {self.queries_bar}")
            if found:
                raise ParityError(
                    f"the plan differs from ONNX Runtime: with {row.classes} classes of {row.names} names, "
                    f"{'; '.join(found)}; the plan is not used. Try --msda gather or another precision"
                )


def compare_plan(
    plan: Session,
    reference: Session,
    pictures: Pictures,
    vocabularies: Sequence[tuple[Profile, Floats]],
    precision: str,
    tell: Callable[[str], None],
    *,
    panoptic: bool = False,
) -> PlanParity:
    """Run both on every image with every vocabulary (K, S, D); `panoptic` sessions give masks and classes as well."""
    rows = []
    for profile, vectors in vocabularies:
        classes, names = vectors.shape[:2]
        tell(f"comparing with ONNX Runtime, {classes} classes of {names} names")
        found = [
            _apart_raw(plan.run_raw(picture, vectors), reference.run_raw(picture, vectors))
            if panoptic
            else _apart(plan.run(picture, vectors), reference.run(picture, vectors))
            for picture in pictures.images
        ]
        # numpy's maximum, unlike Python's, keeps a NaN.
        unequal, confidence, *queries = (float(value) for value in np.max(found, axis=0))
        run = _milliseconds(plan, pictures.images[0], vectors)
        rows.append(PlanRow(str(profile), classes, names, 1 - unequal, confidence, run, *queries))
    bar, queries_bar = BARS.get(precision, _BAR), QUERY_BARS.get(precision, _QUERY_BAR)
    return PlanParity(len(pictures.images), pictures.source, pictures.digest, bar, queries_bar, tuple(rows))


def _apart(found: tuple[Any, Any], expected: tuple[Any, Any]) -> list[float]:
    """Share of labels that differ, mean difference of the confidence."""
    return [float((found[0] != expected[0]).mean()), float(np.abs(found[1] - expected[1]).mean())]


def _apart_raw(found: RawOutputs, expected: RawOutputs) -> list[float]:
    """`_apart`, then how far the queries' masks and classes are, as `PlanRow` has it."""
    masks, masks_expected = (_sigmoid(outputs.mask_logits) for outputs in (found, expected))
    union = np.maximum(masks, masks_expected).sum(dtype=np.float64)
    shared = np.minimum(masks, masks_expected).sum(dtype=np.float64) / union if union != 0 else 1.0
    classes, classes_expected = (_softmax(outputs.class_logits) for outputs in (found, expected))
    apart = np.abs(classes - classes_expected).sum(-1).mean() / 2
    first = _apart((found.labels, found.confidence), (expected.labels, expected.confidence))
    return [*first, float(1 - shared), float(apart)]


def _sigmoid(logits: Floats) -> Floats:
    shares: Floats = (1 / (1 + np.exp(-np.clip(logits, -60, 60)))).astype(np.float32)  # beyond, it is 0 or 1
    return shares


def _softmax(logits: Floats) -> Floats:
    with np.errstate(invalid="ignore"):  # what is not finite becomes NaN, and fails
        shares = np.exp(logits - logits.max(-1, keepdims=True))
    result: Floats = shares / shares.sum(-1, keepdims=True)
    return result


def _milliseconds(session: Session, picture: Bytes, vectors: Floats) -> float:
    times = []
    for _ in range(_RUNS):
        start = time.perf_counter()
        session.run(picture, vectors)
        times.append((time.perf_counter() - start) * 1e3)
    return round(float(np.median(times)), 3)


def make_vocabularies(bundle: Bundle, profiles: Sequence[Profile]) -> list[tuple[Profile, Floats]]:
    """Text vectors at both ends of every profile, smallest first: those of names, then random ones beside them."""
    names = [name for entry in bundle.manifest.background_classes for name in entry]
    known = TextEncoder(bundle).encode(names) if names else np.zeros((0, bundle.manifest.text.dim), np.float32)
    made: list[tuple[Profile, Floats]] = []
    least = 1
    for profile in sorted(profiles, key=lambda one: (one.classes, one.names)):
        most = min(profile.classes, bundle.manifest.graph.max_classes)
        for classes, each in dict.fromkeys(((min(least, most), 1), (most, profile.names))):
            made.append((profile, _vectors(known, classes, each, bundle.manifest.text.dim)))
        least = most + 1
    return made


def _vectors(known: Floats, classes: int, names: int, dim: int) -> Floats:
    rng = np.random.default_rng(classes * 1000 + names)
    random = rng.standard_normal((max(0, classes * names - len(known)), dim)).astype(np.float32)
    random /= np.linalg.norm(random, axis=1, keepdims=True)
    rows = np.concatenate((known, random))[: classes * names]
    # In turn, so that the known names are spread over as many classes as possible.
    return stack_names([rows[index::classes] for index in range(classes)], dim)
