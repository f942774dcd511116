"""A contact sheet of the worst answers: large things that were missed, and what was painted for absent names."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ...runtime.draw.overlay import fill
from ...runtime.opencv import cv2
from ...runtime.segmenter import Segmenter
from .queries import FALSE_ALARM, FOUND, PhotoClasses, Query, QuerySet

_COLUMNS = 6
_MISSED, _FALSE = 24, 12  # tiles of either kind at most
_TILE = (240, 180)  # width, height in pixels, without the caption
_CAPTION = 34  # pixels
_OPACITY = 0.6
_WHITE, _BLACK = (255, 255, 255), (0, 0, 0)

Image = npt.NDArray[np.uint8]


def worst(queries: Sequence[Query]) -> list[Query]:
    """Missed classes by the area that was missed, then false alarms by the area that was painted; largest first."""
    alone = [query for query in queries if len(query.request) == 1]
    missed = [query for query in alone if query.present and query.outcomes[-1].iou <= FOUND]
    false = [query for query in alone if not query.present and query.outcomes[-1].painted >= FALSE_ALARM]
    missed.sort(key=lambda query: (-query.share * (1 - query.outcomes[-1].iou), query.photo, query.name))
    false.sort(key=lambda query: (-query.outcomes[-1].painted, query.photo, query.name))
    return [*missed[:_MISSED], *false[:_FALSE]]


def contact_sheet(segmenter: Segmenter, queries: QuerySet, chosen: Sequence[Query]) -> Image | None:
    """One tile (H, W, 3) BGR for each of `chosen`: what was painted, and the truth's outline in white."""
    tiles = [_tile(segmenter, queries, query) for query in chosen]
    if not tiles:
        return None
    blank = np.full_like(tiles[0], 255)
    tiles += [blank] * (-len(tiles) % _COLUMNS)
    rows = [np.concatenate(tiles[start : start + _COLUMNS], 1) for start in range(0, len(tiles), _COLUMNS)]
    return np.concatenate(rows, 0)


def _tile(segmenter: Segmenter, queries: QuerySet, query: Query) -> Image:
    image, classes, _ = queries.load(query.index)
    segmenter.set_classes(query.request)
    painted = fill(image, segmenter.predict(image), _OPACITY)
    _outline(painted, classes, query.name)
    scale = min(_TILE[0] / image.shape[1], _TILE[1] / image.shape[0])
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    tile = np.full((_TILE[1] + _CAPTION, _TILE[0], 3), 255, np.uint8)
    tile[: size[1], : size[0]] = cv2.resize(painted, size, interpolation=cv2.INTER_AREA)
    outcome = query.outcomes[-1]
    about = f"IoU {outcome.iou:.2f} of {query.share:.0%}" if query.present else f"absent, {outcome.painted:.0%} painted"
    for line, text in enumerate((query.name, about)):
        origin = (4, _TILE[1] + 13 + 15 * line)
        cv2.putText(tile, text[:36], origin, cv2.FONT_HERSHEY_SIMPLEX, 0.42, _BLACK, 1, cv2.LINE_AA)
    return tile


def _outline(canvas: Image, classes: PhotoClasses, name: str) -> None:
    if name not in classes.masks:
        return
    mask = classes.masks[name].astype(np.uint8)
    outlines, _ = cv2.findContours(mask, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    for colour, width in ((_BLACK, 4), (_WHITE, 2)):
        cv2.drawContours(canvas, outlines, -1, colour, width)
