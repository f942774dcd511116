"""Every parameter of a published file has a place, or the file is refused and those parameters are named."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ...bundle.errors import CheckpointError

_SHOWN = 5  # names of one problem in a message

Shape = tuple[int, ...]
Shapes = dict[str, Shape]  # by parameter name


@dataclass(frozen=True)
class Account:
    """Where each parameter of a published file goes. Names are those of the file unless said otherwise."""

    model: dict[str, str]  # name -> our parameter
    text: dict[str, str]  # name -> the text tower's parameter; empty if the file has no tower
    not_needed: tuple[str, ...]  # known, and no part of inference


def compare_shapes(found: Mapping[str, Shape], expected: Mapping[str, Shape], described: str) -> None:
    """Raise `CheckpointError` naming the parameters that are missing, unknown or of another shape.

    `described` begins the message, such as "model.pth looks like a GKC checkpoint (gkc_r50)".
    """
    reshaped = [name for name in expected if name in found and found[name] != expected[name]]
    problems = {
        "missing": expected.keys() - found.keys(),
        "unknown": found.keys() - expected.keys(),
        "of another shape": {f"{name} {found[name]} instead of {expected[name]}" for name in reshaped},
    }
    told = [
        f"{len(some)} {problem}: {', '.join(sorted(some)[:_SHOWN])}{', …' if len(some) > _SHOWN else ''}"
        for problem, some in problems.items()
        if some
    ]
    if told:
        raise CheckpointError(
            f"{described}, but of its parameters are {'; '.join(told)}. Copy the file again, or check which model it "
            "is of"
        )
