"""A plan beside ONNX Runtime on real pictures, at both ends of every profile: what passes is published."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from ovs_edge.bundle.bundle import Bundle
from ovs_edge.bundle.errors import ParityError
from ovs_edge.bundle.vocabulary import stack_names
from ovs_edge.runtime.demo import PHOTOS, photo_folder
from ovs_edge.runtime.photos import read_photo
from ovs_edge.runtime.plan import Profile
from ovs_edge.runtime.preprocess import to_input
from ovs_edge.runtime.session import Session
from ovs_edge.runtime.sources import open_source
from ovs_edge.runtime.text import TextEncoder

# Least share of pixels with the same label, on the worst picture. Both sides run the same file, so INT8 has no more to
# excuse than FP16: the order of sums.
BARS = {"fp32": 0.999}
_BAR = 0.99
_PICTURES = 4
_RUNS = 20  # timed runs of each profile

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class PlanRow:
    """One vocabulary on every picture."""

    profile: str  # that holds it, "32x64"
    classes: int  # K
    names: int  # S
    labels_equal: float  # share of pixels, worst picture
    confidence_apart: float  # mean absolute difference, worst picture
    milliseconds: float  # median of a run, this profile


@dataclass(frozen=True)
class PlanParity:
    """Everything that was compared."""

    pictures: int
    bar: float  # least `labels_equal`
    rows: tuple[PlanRow, ...]

    def to_dict(self) -> dict[str, Any]:
        """For the sidecar."""
        return asdict(self)

    @property
    def milliseconds(self) -> float:
        """Median of a run with the smallest profile."""
        return self.rows[0].milliseconds

    def check(self) -> None:
        """Raise `ParityError` if a row is below the bar."""
        for row in self.rows:
            # Negated, so that a NaN fails, too.
            if not row.labels_equal >= self.bar or not np.isfinite(row.confidence_apart):
                raise ParityError(
                    f"the plan differs from ONNX Runtime: {row.labels_equal:.2%} of labels equal with {row.classes} "
                    f"classes of {row.names} names, expected {self.bar:.1%}; the plan is not used. Try --msda gather "
                    "or another precision"
                )


def compare_plan(
    plan: Session,
    reference: Session,
    pictures: Sequence[Bytes],
    vocabularies: Sequence[tuple[Profile, Floats]],
    precision: str,
    tell: Callable[[str], None],
) -> PlanParity:
    """Run both on every picture, uint8 (1, H, W, 3) BGR, with every vocabulary (K, S, D)."""
    rows = []
    for profile, vectors in vocabularies:
        classes, names = vectors.shape[:2]
        tell(f"comparing with ONNX Runtime, {classes} classes of {names} names")
        equal, apart = 1.0, 0.0
        for picture in pictures:
            labels, confidence = plan.run(picture, vectors)
            expected_labels, expected_confidence = reference.run(picture, vectors)
            equal = min(equal, float((labels == expected_labels).mean()))
            # numpy's maximum, unlike Python's, keeps a NaN.
            apart = float(np.maximum(apart, np.abs(confidence - expected_confidence).mean()))
        rows.append(PlanRow(str(profile), classes, names, equal, apart, _milliseconds(plan, pictures[0], vectors)))
    return PlanParity(len(pictures), BARS.get(precision, _BAR), tuple(rows))


def _milliseconds(session: Session, picture: Bytes, vectors: Floats) -> float:
    times = []
    for _ in range(_RUNS):
        start = time.perf_counter()
        session.run(picture, vectors)
        times.append((time.perf_counter() - start) * 1e3)
    return round(float(np.median(times)), 3)


def read_pictures(source: str | None, size: tuple[int, int]) -> list[Bytes]:
    """A few pictures of `source`, which is as `ovs-run --source` takes it, or the demo's photos. Raises `SourceError`."""
    if source is None:
        folder = photo_folder()
        return [to_input(read_photo(folder / name), size)[0] for name in PHOTOS[:_PICTURES]]
    opened = open_source(source, None)
    try:
        every = max(1, (opened.total or _PICTURES) // _PICTURES)
        frames = islice(opened, 0, every * _PICTURES, every)
        return [to_input(frame.image, size)[0] for frame in frames]
    finally:
        opened.close()


def make_vocabularies(bundle: Bundle, profiles: Sequence[Profile]) -> list[tuple[Profile, Floats]]:
    """Text vectors at both ends of every profile, smallest first: those of names, then random ones beside them."""
    names = [name for entry in bundle.manifest.training_vocabulary for name in entry]
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
    # Dealt out like cards, so that the names that are known fall to as many classes as possible.
    return stack_names([rows[index::classes] for index in range(classes)], dim)
