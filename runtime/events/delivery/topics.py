"""Names of cameras and rules as parts of MQTT topics."""

from __future__ import annotations

import hashlib
import re
import unicodedata

_LONGEST = 48  # characters


def slug(name: str) -> str:
    """`name` in lower-case ASCII letters, digits and underscores: `count(car in yard) > 3` is `count_car_in_yard_3`.

    A name that loses more than spaces and punctuation, or is too long, gets six characters of its digest at the end, so
    that two names stay two topics.
    """
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    short = re.sub(r"[^a-z0-9]+", "_", plain).strip("_")
    if short == name or re.sub(r"[ _-]+", "_", name) == short:
        return short
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:6]
    return f"{short[:_LONGEST]}_{digest}".lstrip("_")
