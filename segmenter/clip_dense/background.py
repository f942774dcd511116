"""Names that compete with whatever is asked for, so that a pixel of something else is not painted."""

from __future__ import annotations

# Things that fill pictures without being looked for, each with its synonyms. A class that means one that is asked for
# steps back, see `runtime.vocabulary.background`. Both recipes were published with such a list for Pascal VOC.
BACKGROUND_NAMES: tuple[tuple[str, ...], ...] = (
    ("sky", "cloud"),
    ("wall",),
    ("ceiling",),
    ("floor",),
    ("road", "street"),
    ("sidewalk", "pavement"),
    ("ground", "dirt"),
    ("grass",),
    ("tree", "forest"),
    ("bush",),
    ("water", "sea", "river"),
    ("mountain", "hill"),
    ("sand", "beach"),
    ("snow",),
    ("rock", "stone"),
    ("building", "house"),
    ("window",),
    ("door",),
    ("curtain",),
    ("fence", "railing"),
    ("stairs",),
    ("table", "desk"),
    ("shelf", "cabinet"),
    ("carpet", "rug"),
)

# Least confidence of a labelled pixel: what NACLIP's published Pascal VOC, Pascal Context and COCO-Object settings take.
THRESHOLD = 0.1
