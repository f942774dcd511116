"""MQTT topics, and names of cameras and rules as parts of them."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping

from ...rules import Rule

Rules = Mapping[str, Mapping[str, Rule]]  # of each camera, by their names

_LONGEST = 48  # characters
_DIGITS = 6  # of a digest, unless another name has the same ones
_PLAIN = re.compile(r"[a-z0-9]+(?:[ _-][a-z0-9]+)*")  # may stand in a topic with an underscore for each space


class Topics:
    """The topics of one configuration: no two cameras and no two rules of a camera have the same."""

    def __init__(self, prefix: str, cameras: Rules) -> None:
        self.prefix = prefix
        self._cameras = slugs(cameras)
        self._rules = {camera: slugs(rules) for camera, rules in cameras.items()}

    def camera(self, camera: str) -> str:
        """What the topics of a camera begin with; also of a camera of an earlier configuration."""
        return f"{self.prefix}/{self._cameras.get(camera) or slug(camera)}"

    def status(self, camera: str) -> str:
        """Topic that is "online" while the frames of a camera come."""
        return f"{self.camera(camera)}/status"

    def rule(self, camera: str, rule: str) -> str:
        """Topic of a rule's state, or of its events."""
        return f"{self.camera(camera)}/rules/{self._rules.get(camera, {}).get(rule) or slug(rule)}"

    def node(self, camera: str) -> str:
        """The camera as a device of Home Assistant. Two hyphens are in no slug."""
        return f"{slug(self.prefix)}--{self._cameras[camera]}"

    def entity(self, camera: str, rule: str) -> str:
        """The rule as a part of its device."""
        return self._rules[camera][rule]


def slug(name: str) -> str:
    """`name` in lower-case ASCII letters, digits, hyphens and underscores: `front door` is `front_door`.

    A name that loses more than its spaces gets six characters of its digest at the end, so that two names stay two
    topics: `count(car) > 3` is `count_car_3_c87210`. Of plain names, `a b` and `a_b` alone are the same; see `slugs`.
    """
    return name.replace(" ", "_") if _PLAIN.fullmatch(name) else _with_digest(name)


def slugs(names: Iterable[str]) -> dict[str, str]:
    """The slug of each of `names`, no two the same whatever their order: beside `a_b`, `a b` has a digest.

    Names that are slugs already keep theirs; of others that would be the same, the digests are as long as it takes.
    """
    wanted = {name: slug(name) for name in names}
    found = {name: short for name, short in wanted.items() if name == short}
    digits = _DIGITS
    while wanted.keys() - found.keys():
        taken = set(found.values())
        count = Counter(short for name, short in wanted.items() if name not in found)
        found |= {name: short for name, short in wanted.items() if count[short] == 1 and short not in taken}
        wanted |= {name: _with_digest(name, digits) for name in wanted if name not in found}
        digits += _DIGITS
    return {name: found[name] for name in wanted}


def _with_digest(name: str, digits: int = _DIGITS) -> str:
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    short = re.sub(r"[^a-z0-9]+", "_", plain).strip("_")
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:digits]
    return f"{short[:_LONGEST]}_{digest}".lstrip("_")
