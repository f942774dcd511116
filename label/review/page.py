"""The page of a review: one file with its pictures in it, which asks the network for nothing and runs no script."""

from __future__ import annotations

import base64
import html
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from ...runtime.draw.overlay import Style, draw
from ...runtime.draw.palette import colours
from ...runtime.inference.prediction import NOTHING, Prediction
from ...runtime.opencv import cv2
from ..geometry.regions import label_map
from ..records import decoded
from .ranking import ReviewCandidate

_WIDTH = 480  # pixels of a picture on the page
_QUALITY = 80
_STYLE = """
body{font:15px/1.4 system-ui,sans-serif;margin:2em auto;max-width:1100px;padding:0 1em;background:#fff;color:#222}
@media(prefers-color-scheme:dark){body{background:#181818;color:#ddd}}
figure{display:inline-block;vertical-align:top;margin:0 1em 1.6em 0;width:480px;max-width:100%}
figure div{position:relative}img{width:100%;display:block}img+img{position:absolute;inset:0}
figure div:hover img+img{opacity:0}figcaption{overflow-wrap:anywhere}
i{display:inline-block;width:.8em;height:.8em;margin-right:.5em}
table{border-collapse:collapse;margin:1em 0}td,th{padding:.15em 1em .15em 0;text-align:left}
"""
_CSP = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"

Image = npt.NDArray[np.uint8]  # (H, W, 3) BGR


def page(
    entries: Iterator[tuple[ReviewCandidate, Image]], classes: Sequence[str], pictures: Counter[int], total: int
) -> Iterator[str]:
    """The page in pieces. `pictures` counts the pictures of each class, `total` all that were labelled."""
    yield (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_CSP}">\n'
        '<meta name="viewport" content="width=device-width">\n'
        f"<title>Labels to review</title><style>{_STYLE}</style></head><body>\n<h1>Labels to review</h1>\n"
        "<p>Most doubtful first. Point at a picture to see it without its labels.</p>\n"
        "<table><tr><th>class</th><th>pictures</th></tr>\n"
    )
    for index, (name, (blue, green, red)) in enumerate(zip(classes, colours(tuple(classes)).tolist(), strict=True)):
        swatch = f'<i style="background:#{red:02x}{green:02x}{blue:02x}"></i>'
        yield f"<tr><td>{swatch}{html.escape(name)}</td><td>{pictures[index]} of {total}</td></tr>\n"
    yield "</table>\n"
    for number, (candidate, image) in enumerate(entries, 1):
        small, painted = _pictures(candidate, image, classes)
        yield (
            f'<figure><div><img alt="" src="{_data(small)}"><img alt="labels" src="{_data(painted)}"></div>\n'
            f"<figcaption><b>{number}. {html.escape(candidate.record.name)}</b><br>{html.escape(reasons(candidate))}"
            f"<br><small>{html.escape(candidate.record.source)}</small></figcaption></figure>\n"
        )
    yield "</body></html>\n"


def reasons(candidate: ReviewCandidate) -> str:
    """Why a picture is on the page, in words."""
    said = []
    if candidate.weakest:
        said.append(f"{candidate.weakest}: confidence {1 - candidate.doubt:.0%}")
    else:
        said.append("nothing was found")
    if candidate.flipped:
        said.append(f"{candidate.flipped:.0%} of the labels change when mirrored")
    if candidate.rarity >= 0.5:
        said.append(f"{candidate.rarest} is rare")
    return "; ".join(said)


def _pictures(candidate: ReviewCandidate, image: Image, classes: Sequence[str]) -> tuple[Image, Image]:
    """The picture, and the same with its labels, as small as the page shows them."""
    height, width = image.shape[:2]
    labels = label_map(decoded(candidate.record), (height, width), NOTHING)
    scale = min(1.0, _WIDTH / width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    index = np.asarray(cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST_EXACT), np.int32)
    prediction = Prediction(index, np.ones(index.shape, np.float32), tuple(classes))
    return small, draw(small, prediction, Style(legend=False, figures=False))


def _data(image: Image) -> str:
    written, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    assert written
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()
