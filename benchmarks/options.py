"""Options that several commands of `ovs-bench` share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Option

from ..bundle.errors import UsageError
from ..bundle.files import refuse_other_file

Model = Annotated[Path | None, Option(help="Bundle folder NAME.ovs. Default: the embedded model.")]
Output = Annotated[
    Path | None, Option("--output", "-o", help="Write the result as JSON.", callback=lambda path: _result_file(path))
]
Precision = Annotated[str, Option(help="Which of the bundle's precisions to measure.")]
Threads = Annotated[int, Option(min=0, help="CPU threads; 0: one per core.")]
Synonyms = Annotated[
    bool, Option("--synonyms", help="Ask for each class by all its names instead of by its plain name.")
]


def _result_file(path: Path | None) -> Path | None:
    """Told before anything is measured."""
    if path is not None:
        refuse_other_file(path, b'"command": "')
    return path


def positive(text: str, option: str, example: str) -> list[int]:
    """The numbers of a comma-separated list; raises `UsageError` for anything but whole numbers of at least 1."""
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 1:
        raise UsageError(f"{option} is {text!r}, expected numbers such as {example}")
    return numbers


def words(text: str, option: str) -> tuple[str, ...]:
    """The entries of a comma-separated list, at least one. Raises `UsageError`."""
    found = tuple(word.strip() for word in text.split(",") if word.strip())
    if not found:
        raise UsageError(f"{option} is {text!r}, expected names, comma-separated")
    return found
