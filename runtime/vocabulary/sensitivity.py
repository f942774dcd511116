"""How readily a class is found: found and falsely found are one curve, and `Sensitivity` is a point on it.

The rules act on text vectors and on the confidence threshold, so they work with every engine and cost nothing per frame:

* Trained names near a name that is asked for are left out of the background classes (`drop`).
* The nearest of them are taken over: they become further names of the class that is asked for (`take`).
* The background classes are weighted: mixing a vector with a direction in which no trained name has a component scales
  its cosine with every query, here by `weight`.
* The confidence threshold of classes without their own is raised by `margin`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Sensitivity(str, Enum):
    """Values of --sensitivity."""

    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"


@dataclass(frozen=True)
class Rules:
    """What a sensitivity means. Cosines are of names' vectors, the training vocabulary's mean taken off."""

    drop: float  # from this cosine on, a trained name is none of the background classes
    take: float | None  # from this cosine on, it is one more name of the class; None: never
    weight: float  # factor on the background's cosines with the queries, 0..1
    margin: float = 0.0  # added to the confidence threshold, which stays at most `MOST_CONFIDENT`


MOST_CONFIDENT = 0.95  # a higher threshold would leave nothing

# Cosine from which two names count as one thing. Without the mean, all prompts look alike (0.6 for "car" and "bus") and
# the scale differs by encoder. On MiniLM sentence vectors, 21 pairs to keep apart (car/truck, cat/dog,
# rocket/aeroplane) reach 0.46; of 24 near-synonyms (cup/mug, road/street, cat/kitten), 19 exceed 0.48.
NEAR = 0.48

# Measured with `mini` on 120 validation photos of voc and 40 of coco_things, each class asked for alone. Shares of: found
# (IoU over 0.5), nothing painted, and falsely painted, of absent classes at random / of those most similar to what is
# there (over 1 % of the picture):
#             voc                                 coco_things
#   LOW       0.32  0.52  0.01 / 0.04             0.25  0.54  0.02 / 0.05
#   NORMAL    0.35  0.33  0.04 / 0.20             0.29  0.39  0.04 / 0.16
#   HIGH      0.45  0.18  0.11 / 0.49             0.28  0.28  0.07 / 0.29
RULES = {
    Sensitivity.LOW: Rules(NEAR, None, 1.0),
    Sensitivity.NORMAL: Rules(NEAR, 0.5, 0.9),
    Sensitivity.HIGH: Rules(0.25, 0.5, 0.85),
}
# Models without queries compare every place with the names, at a softer temperature: near names tell themselves apart,
# and names taken over only add false alarms. Chosen with `dense_mini` on the validation photos of coco_panoptic, msrc and
# camvid, each class asked for alone; found, and absent classes painted:
#   dropped from 0.48 on     0.46 / 0.02     0.95 / 0.09     0.81
#   dropped from 0.60 on     0.46 / 0.02     0.95 / 0.08     0.96
#   HIGH                     0.50 / 0.09     0.96 / 0.11     0.76
DENSE_RULES = {
    Sensitivity.LOW: Rules(0.6, None, 1.0, margin=0.2),
    Sensitivity.NORMAL: Rules(0.6, None, 1.0),
    Sensitivity.HIGH: Rules(0.25, 0.5, 0.7),
}
# Text vectors that were trained with pictures compete as published models expect them to.
PUBLISHED_RULES = {
    Sensitivity.LOW: Rules(NEAR, None, 1.0),
    Sensitivity.NORMAL: Rules(NEAR, None, 1.0),
    Sensitivity.HIGH: Rules(NEAR, None, 0.9),
}
