"""In words, for the terminal: the best candidate where nothing was found, and what is at a pixel."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from ..segmenter import Segmenter
from .inspector import Inspector
from .prediction import Prediction

_SEEN = 0.05  # confidence below which a class is no candidate
_TOP = 99.5  # percentile of a class's confidence that counts: the best place for it, but not a single pixel


def best_candidate(segmenter: Segmenter, image: npt.NDArray[np.uint8]) -> tuple[str, float] | None:
    """The class in use that `image` (H, W, 3) BGR resembles most, and its confidence without background classes."""
    active = segmenter.active
    vectors = active.vocabulary.vectors.copy()
    vectors[active.shown :] = 0  # no names: they cannot win
    alone = replace(active, vocabulary=replace(active.vocabulary, vectors=vectors))
    inferred = segmenter.infer(segmenter.prepare(image), alone)
    labels, confidence = inferred.labels[0], inferred.confidence[0]
    unreadable = {reading.name for reading in active.readings if not reading.readable}
    best = [
        float(np.percentile(confidence[labels == index], _TOP)) if (labels == index).any() else 0.0
        for index in range(active.shown)
    ]
    best = [0.0 if label in unreadable else value for label, value in zip(active.labels, best, strict=True)]
    index = int(np.argmax(best))
    return (active.labels[index], best[index]) if best[index] >= _SEEN else None


def nothing_found(segmenter: Segmenter, image: npt.NDArray[np.uint8]) -> str:
    """One line for a picture in which no class was found: the best candidate, and what to try."""
    found = best_candidate(segmenter, image)
    advice = [f"--sensitivity high (now {segmenter.sensitivity})"] if segmenter.sensitivity != "high" else []
    if found is None:
        advice.append("other names (--list-names prints those the model was trained with)")
        return f"nothing was found, and no class comes near; try {' or '.join(advice)}"
    if found[1] >= segmenter.effective_threshold:
        better = ", but background names fit better (--why X,Y says which)"
    else:
        better = ""
        advice.append(f"--threshold {max(0.05, segmenter.threshold / 2):.2f}")
    tried = f"; try {' or '.join(advice)}" if advice else ""
    return f"nothing was found; best candidate: {found[0]} {found[1]:.2f}{better}{tried}"


def why(
    segmenter: Segmenter, image: npt.NDArray[np.uint8], prediction: Prediction, point: tuple[int, int]
) -> Iterator[str]:
    """Lines on what is at `point` (x, y), and what else it might be. Raises `UsageError` for a point outside."""
    inspector = Inspector(segmenter)
    try:
        info = inspector.ask(image, prediction, *point).result()
    finally:
        inspector.close()
    shown = "nothing that was asked for" if info.label is None else f"{info.label}, {info.share:.1%} of the picture"
    yield f"at {point[0]},{point[1]}: {shown}"
    for guess in info.guesses:
        asked = "" if guess.active else "  (not asked for)"
        yield f"  {guess.score:5.2f}  {guess.label or 'background'}{asked}"
