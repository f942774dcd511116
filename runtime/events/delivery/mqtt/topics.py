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
    """The slug of each of `names`, no two the same whatever their order: beside `a_b`, `a b` has a digest."""
    found = {name: slug(name) for name in names}
    count = Counter(found.values())
    return {name: short if name == short or count[short] == 1 else _with_digest(name) for name, short in found.items()}


def _with_digest(name: str) -> str:
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    short = re.sub(r"[^a-z0-9]+", "_", plain).strip("_")
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:6]
    return f"{short[:_LONGEST]}_{digest}".lstrip("_")
