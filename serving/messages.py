"""What goes from the HTTP server to a replica, and back; and what the server knows of replicas."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from ..bundle.errors import UsageError

MOST_CLASSES_TEXT = 64 * 1024  # characters of a request's classes


class AnswerFormat(Enum):
    """What a client gets."""

    PNG = "png"  # an index PNG: the class's number, 255 (65535 in a 16-bit PNG) where there is none
    COCO = "coco"  # JSON with a run-length encoded mask for each class that was found


@dataclass(frozen=True)
class SegmentRequest:
    """One picture and the classes to look for in it."""

    image: bytes  # a file: JPEG, PNG, WebP or BMP
    classes: tuple[str, ...]  # entries such as "bike|bicycle" or "cup:0.2"
    answer: AnswerFormat = AnswerFormat.PNG


@dataclass(frozen=True)
class SegmentAnswer:
    """What a replica made of a request."""

    status: int  # of HTTP
    content_type: str
    body: bytes
    labels: tuple[str, ...] = ()  # of the classes, in the order of their numbers
    cached: bool = False  # the list of classes was encoded already
    steps: tuple[tuple[str, float], ...] = ()  # name and seconds of each step


class ReplicaLost(Exception):
    """The replica that worked on a request is gone; another one may answer it."""


class Replicas(Protocol):
    """Any number of workers, to each of which requests are given."""

    @property
    def count(self) -> int:
        """How many there are when all of them run."""
        ...

    async def segment(self, request: SegmentRequest) -> SegmentAnswer:
        """The answer of one of them. Raises `ReplicaLost`."""
        ...

    async def running(self) -> int:
        """How many of them can answer now."""
        ...


def parse_class_list(text: str) -> tuple[str, ...]:
    """`person,bike|bicycle`, or a JSON list, whose names may hold commas. Raises `UsageError`.

    Never a file: `@names.txt`, which the commands read, is a name like any other here.
    """
    if len(text) > MOST_CLASSES_TEXT:
        raise UsageError(f"the classes are {len(text)} characters, at most {MOST_CLASSES_TEXT} are read")
    if not text.lstrip().startswith("["):
        return tuple(text.split(","))
    try:
        entries = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"the classes begin like a JSON list, but are none ({error})") from error
    if not all(isinstance(entry, str) for entry in entries):
        raise UsageError('the classes are a JSON list of something else than text, expected ["person", "bike|bicycle"]')
    return tuple(entries)


def error_answer(status: int, reason: str) -> SegmentAnswer:
    """{"error": "one line"}."""
    return SegmentAnswer(status, "application/json", json.dumps({"error": reason}).encode())
