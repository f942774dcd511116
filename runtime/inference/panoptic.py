"""A panoptic graph's raw outputs to the segments of a frame, and which classes have instances."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from ...bundle.errors import BundleError
from ...bundle.letterbox import Letterbox
from ...bundle.manifest import Manifest
from ...bundle.panoptic import Axis, panoptic_segments
from ..engines.session import RawOutputs
from .prediction import Segment

Floats = npt.NDArray[np.float32]


class Stuff:
    """Words for what has no instances: sky, road. A plural's final s makes no difference, nor does case."""

    def __init__(self, manifest: Manifest, further: Iterable[str] = ()) -> None:
        """All names of the training classes that the manifest calls stuff, and `further` words."""
        first = {_plain(name) for name in manifest.stuff}
        trained = (names for names in manifest.training_vocabulary if names and _plain(names[0]) in first)
        self._words = first | {_plain(name) for names in trained for name in names} | {_plain(word) for word in further}

    def __contains__(self, names: Iterable[str]) -> bool:
        """Whether one of a class's names is such a word."""
        return any(_plain(name) in self._words for name in names)


def _plain(name: str) -> str:
    name = " ".join(name.casefold().split())
    return name[:-1] if name.endswith("s") and not name.endswith("ss") else name


def frame_segments(
    raw: RawOutputs, letterbox: Letterbox, classes: Sequence[str], things: Sequence[bool]
) -> tuple[npt.NDArray[np.int32], tuple[Segment, ...]]:
    """Map (H, W) of a frame's segments, 0 where there is none, and the segments in the order of their ids.

    `classes` and `things` are those asked for; what the graph scored beyond them is background, and like "no object"
    it makes no segment. Masks go through the sizes that the published inference takes them through, to the input and
    cut to the frame's part of it, then to the frame, all before a pixel is given to a query. (Deciding at the input's
    size and enlarging the ids gives other segments to 1.5 to 3.8 % of the pixels of FC-CLIP's reference case.) Raises
    `BundleError` for outputs that do not fit each other.
    """
    masks, logits, shown = raw.mask_logits, raw.class_logits, len(classes)
    fits = masks.ndim == 4 and masks.shape[0] == 1 and logits.ndim == 3 and logits.shape[:2] == masks.shape[:2]
    if not fits or logits.shape[2] <= shown or 0 in masks.shape:
        raise BundleError(
            f"the segmenter gave mask_logits {list(masks.shape)} and class_logits {list(logits.shape)} for {shown} "
            "classes, expected (1, Q, h, w) and (1, Q, K + 1); export the bundle again"
        )
    share = np.exp(logits[0] - logits[0].max(1, keepdims=True))
    share /= share.sum(1, keepdims=True)
    # The greater of background and "no object", not their sum: a class need beat only one of them at a time.
    share = np.concatenate([share[:, :shown], share[:, shown:].max(1, keepdims=True)], 1).astype(np.float32)
    rows, columns = (
        Axis.bilinear(size, target).then(Axis.bilinear(scaled, source))
        for size, target, scaled, source in zip(
            masks.shape[2:], letterbox.target, letterbox.scaled, letterbox.source, strict=True
        )
    )
    ids, parts = panoptic_segments(masks[0], share, np.asarray(things, bool), resize=(rows, columns))
    return ids, tuple(
        Segment(
            id=part.id,
            index=part.label,
            label=classes[part.label],
            thing=part.thing,
            area=part.area,
            box=_box(ids == part.id),
            score=part.score,
        )
        for part in parts
    )


def _box(mask: npt.NDArray[np.bool_]) -> tuple[int, int, int, int]:
    ys, xs = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(xs[0]), int(ys[0]), int(xs[-1]) + 1, int(ys[-1]) + 1
