"""In words, for the terminal: the best candidate where nothing was found, and what is at a pixel."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..segmenter import Segmenter
from .frame_processor import ActiveClasses, Prepared
from .inspector import Inspector
from .prediction import Prediction

_SEEN = 0.05  # probability below which a class is not likely anywhere, and the lowest threshold that is advised
_ROOM = 0.05  # by which an advised threshold is below the probability
_LEAST = 1e-6  # of confidences that are divided by
_TOP = 99.5  # percentile of a class's probability that counts: the best place for it, but not a single pixel
_RIVALS = 5  # background classes, those with the most pixels, that classes are compared with; a run of the network each


@dataclass(frozen=True)
class LikeliestClass:
    """Of the classes in use the likeliest one, at the place of the picture where it is likeliest."""

    label: str
    score: float  # estimate of its probability there, 0..1, with the background classes competing
    threshold: float | None = None  # the confidence threshold of its own, "cup:0.2"
    rival: str | None = None  # name of the background class that is likelier there; None where there is none


def best_candidate(segmenter: Segmenter, image: npt.NDArray[np.uint8]) -> LikeliestClass | None:
    """The class in use that `image` (H, W, 3) BGR resembles most; None where the text encoder can read none of them."""
    active = segmenter.active
    nearest, probability, winners = _probabilities(segmenter, segmenter.prepare(image), active)
    unreadable = {reading.name for reading in active.readings if not reading.readable}
    found: LikeliestClass | None = None
    for index, entry in enumerate(active.classes):
        own = probability[nearest == index]
        if not own.size or entry.label in unreadable:
            continue
        score = float(np.percentile(own, _TOP))
        if found is None or score > found.score:
            winner = int(np.bincount(winners[(nearest == index) & (probability >= score)]).argmax())
            rival = active.vocabulary.classes[winner].names[0] if winner >= active.shown else None
            found = LikeliestClass(entry.label, score, entry.threshold, rival)
    return found


def _probabilities(
    segmenter: Segmenter, prepared: Prepared, active: ActiveClasses
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """At each pixel (h, w) of the frame: the likeliest class in use, its probability, and the winner of all classes.

    The graph gives the winner and its probability only. Where that is a background class, the classes in use are
    compared with it alone, as if the ratio of two probabilities were the same whatever else competes. That is exact
    for one softmax over all classes, and an estimate for the others: with queries, each has a softmax of its own;
    without, only the classes that win most places are compared at full detail. Pixels of background classes that win
    few of them are left out, their probability is 0.
    """
    winners, scores = _infer(segmenter, prepared, active)
    behind = winners >= active.shown
    probability = np.where(behind, 0, scores).astype(np.float64)
    if not behind.any():
        return winners, probability, winners
    asked = range(active.shown)
    nearest, share = _infer(segmenter, prepared, active.among(asked))  # as if there were no background
    pixels = np.bincount(winners[behind])
    for rival in pixels.argsort()[::-1][: min(_RIVALS, np.count_nonzero(pixels))].tolist():
        labels, confidence = _infer(segmenter, prepared, active.among([*asked, rival]))
        lost = (winners == rival) & (labels == rival)
        odds = 1 / np.maximum(confidence[lost], _LEAST) - 1  # of all classes in use together, against the rival
        probability[lost] = scores[lost] * np.minimum(odds * share[lost], 1)  # the winner is as likely at least
    return np.where(behind, nearest, winners), probability, winners


def _infer(
    segmenter: Segmenter, prepared: Prepared, active: ActiveClasses
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Winners and confidences (h, w) of the frame's part of the map."""
    inferred = segmenter.infer(prepared, active)
    height, width = prepared.letterbox.scaled_in(inferred.labels.shape[1:])
    labels, confidence = inferred.labels[0, :height, :width], inferred.confidence[0, :height, :width]
    return labels.astype(np.int64), confidence.astype(np.float32)


def nothing_found(segmenter: Segmenter, image: npt.NDArray[np.uint8]) -> str:
    """One line for a picture in which no class was found: the best candidate, and what to try."""
    found = best_candidate(segmenter, image)
    other = "other names (--list-names prints those the model was trained with)"
    if found is None:
        return f"nothing was found; try {other}"
    score, threshold = f"{found.score:.2f}", found.threshold
    meant = segmenter.reading(found.label).suggestion
    advice = [] if meant is None else [f"the name {meant!r}"]
    if segmenter.sensitivity != "high":
        advice.append(f"--sensitivity high (now: {segmenter.sensitivity})")
    if found.score < _SEEN:
        tried = " or ".join([*advice, other])
        return (
            f"nothing was found, and no class is likely anywhere (best candidate: {found.label} {score}); try {tried}"
        )
    if found.rival is not None:
        reason = f"where {found.rival!r} is likelier"
    elif found.score < (effective := segmenter.effective_threshold if threshold is None else threshold):
        if score >= f"{effective:.2f}":
            score = f"{found.score:.4f}"
        reason = f"below its threshold of {effective:.4g}"
        lower = found.score - _ROOM - (segmenter.active.margin if threshold is None else 0)
        lowered = f"{max(_SEEN, lower):.2f}"
        advice = [f"--threshold {lowered}" if threshold is None else f"{found.label}:{lowered}"]
    else:
        reason, advice = "but on too few pixels", []
    tried = f"; try {' or '.join(advice)}" if advice else ""
    return f"nothing was found; best candidate: {found.label} {score}, {reason}{tried}"


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
