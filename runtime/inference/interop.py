"""Predictions in the formats of other tools: supervision's `Detections`, and COCO's run-length encoded masks.

COCO counts runs of equal pixels down the columns, in turn 0 and 1, the first of 0 (perhaps none). `counts` is the list
of them, or the same as text: from the fourth on as the difference to the count before the last, in groups of five bits,
lowest first, a sixth bit on all but the last group, 48 added to make printable characters. See `rleToString` of
https://github.com/cocodataset/cocoapi.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ...bundle.errors import UsageError, require
from .prediction import Prediction

if TYPE_CHECKING:
    from supervision import Detections

Mask = npt.NDArray[np.bool_]
Integers = npt.NDArray[np.int64]

_FEW = 100  # counts: more are faster as arrays
_MOST_GROUPS = 6  # of five bits: counts stay below 2 ** 29, as in the C library


@dataclass(frozen=True)
class _Part:
    """What becomes one detection: a class's pixels, or one segment."""

    mask: Mask  # (H, W)
    box: tuple[int, int, int, int]  # x0, y0, x1, y1
    score: float  # 0..1
    index: int  # of its class
    id: int | None  # of its segment


def to_detections(prediction: Prediction) -> Detections:
    """`prediction` for supervision: one detection for each class that was found, or for each segment if it has them.

    `xyxy` (N, 4) in pixels, `mask` (N, H, W) bool, `confidence` (N,), `class_id` (N,) index into
    `prediction.classes`, `data["class_name"]` (N,); of segments also `data["segment_id"]` (N,).
    Raises `MissingExtraError` where supervision is not installed.

    >>> import supervision as sv
    >>> detections = to_detections(segmenter.predict(image))
    >>> picture = sv.MaskAnnotator().annotate(image.copy(), detections)
    """
    detections: type[Detections] = require("supervision", "supervision").Detections
    parts = _parts(prediction)
    height, width = prediction.labels.shape
    data: dict[str, Any] = {"class_name": np.array([prediction.classes[part.index] for part in parts], np.str_)}
    if prediction.segment_map is not None:
        data["segment_id"] = np.array([part.id for part in parts], np.int64)
    return detections(
        xyxy=np.array([part.box for part in parts], np.float32).reshape(-1, 4),
        mask=np.array([part.mask for part in parts], np.bool_).reshape(-1, height, width),
        confidence=np.array([part.score for part in parts], np.float32),
        class_id=np.array([part.index for part in parts], np.int64),
        data=data,
    )


def to_coco(
    prediction: Prediction, image_id: int = 0, category_ids: Mapping[str, int] | None = None
) -> list[dict[str, Any]]:
    """`prediction` as entries of a COCO results file, ready for `json.dump`: one for each class or segment.

    `segmentation` is compressed RLE, `bbox` x, y, width, height in pixels. `category_ids` gives each class's id by its
    label; without it they are numbered 1, 2, 3, … in the order asked for. Raises `UsageError` for a class without id.

    >>> json.dump(to_coco(segmenter.predict(image), image_id=7), file)
    """
    entries = []
    for part in _parts(prediction):
        label = prediction.classes[part.index]
        if category_ids is not None and label not in category_ids:
            raise UsageError(f"the class {label!r} has no id in category_ids, expected one for every class asked for")
        x0, y0, x1, y1 = part.box
        entries.append(
            {
                "image_id": image_id,
                "category_id": part.index + 1 if category_ids is None else category_ids[label],
                "segmentation": encode_rle(part.mask),
                "bbox": [x0, y0, x1 - x0, y1 - y0],
                "area": int(np.count_nonzero(part.mask)),
                "score": part.score,
            }
        )
    return entries


def encode_rle(mask: Mask, *, compressed: bool = True) -> dict[str, Any]:
    """COCO's RLE of a mask (H, W): `size` [H, W] and `counts`, text if `compressed`, else a list of run lengths."""
    pixels = np.asarray(mask, np.bool_).ravel(order="F")
    starts = np.flatnonzero(np.diff(pixels, prepend=False))  # where a run of other pixels begins
    counts = np.diff(starts, prepend=0, append=pixels.size).tolist()
    return {"size": list(mask.shape), "counts": encode_counts(counts) if compressed else counts}


def decode_rle(rle: Mapping[str, Any]) -> Mask:
    """The mask (H, W) of an RLE, compressed (text or ASCII bytes) or not. Raises `UsageError` for what is none."""
    try:
        height, width = (int(side) for side in rle["size"])
        counts = rle["counts"]
        if isinstance(counts, bytes):
            counts = counts.decode("ascii")
        runs = np.array(_from_text(counts) if isinstance(counts, str) else counts, np.int64)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise UsageError(f"not an RLE ({error!r}); expected size [H, W] and counts, a list or COCO's text") from error
    pixels = height * width
    # No run is longer than the mask, so that the sum cannot overflow.
    sound = runs.ndim == 1 and min(height, width) >= 0 and bool(((runs >= 0) & (runs <= pixels)).all())
    if not sound or int(runs.sum()) != pixels:
        raise UsageError(f"the RLE's counts do not fill its {width}x{height} pixels; expected run lengths that do")
    ones = np.arange(len(runs)) % 2 == 1
    return np.repeat(ones, runs).reshape((height, width), order="F")


def encode_counts(counts: list[int]) -> str:
    """Run lengths as COCO's text."""
    if len(counts) < _FEW:
        return _text_of_few(counts)
    return encode_many_counts(np.array(counts, np.int64), np.array([len(counts)]))[0]


def _text_of_few(counts: list[int]) -> str:
    text = bytearray()
    for index, count in enumerate(counts):
        rest = count - counts[index - 2] if index > 2 else count
        more = True
        while more:
            group = rest & 31
            rest >>= 5
            more = rest != (-1 if group & 16 else 0)  # bit 16 of the last group is the sign
            text.append(48 + (group | 32 if more else group))
    return text.decode("ascii")


def encode_many_counts(counts: Integers, lengths: Integers) -> list[str]:
    """Run lengths of several masks, one mask's after another's, as COCO's texts. `lengths` (N,) of each list, above 0."""
    firsts = lengths.cumsum() - lengths
    rest = counts.copy()
    rest[2:] -= counts[:-2]
    for place in range(3):  # of a mask's counts these are not differences
        whole = firsts[lengths > place] + place
        rest[whole] = counts[whole]
    groups = min(_MOST_GROUPS, int(np.abs(rest).max()).bit_length() // 5 + 1)  # one bit of them is the sign
    parts = rest[:, None] >> 5 * np.arange(groups)
    there = np.ones((len(rest), groups + 1), np.bool_)
    there[:, -1] = False
    there[:, 1:-1] = parts[:, 1:] != -(parts[:, :-1] >> 4 & 1)  # what is left is not the sign of the last group alone
    characters = ((parts & 31) + 48 + 32 * there[:, 1:]).astype(np.uint8)
    text = characters[there[:, :-1]].tobytes().decode("ascii")
    marks = np.add.reduceat(there.ravel(), firsts * (groups + 1), dtype=np.int64).cumsum().tolist()
    return [text[start:end] for start, end in zip([0, *marks], marks, strict=False)]


def _from_text(text: str) -> list[int]:
    counts: list[int] = []
    value = groups = 0
    for place, character in enumerate(text):
        code = ord(character) - 48
        if not 0 <= code < 64 or groups == _MOST_GROUPS:
            raise ValueError(f"no count at character {place}")
        value |= (code & 31) << (5 * groups)
        groups += 1
        if not code & 32:
            if code & 16:
                value -= 1 << (5 * groups)
            counts.append(value + counts[-2] if len(counts) > 2 else value)
            value = groups = 0
    if groups:
        raise ValueError("the text ends within a count")
    return counts


def _parts(prediction: Prediction) -> list[_Part]:
    ids = prediction.segment_map
    if ids is not None:
        return [_Part(ids == part.id, part.box, part.score, part.index, part.id) for part in prediction.segments]
    order = {label: index for index, label in enumerate(prediction.classes)}
    regions = [(region, order[region.label]) for region in prediction.regions()]
    return [_Part(prediction.labels == index, part.box, part.confidence, index, None) for part, index in regions]
