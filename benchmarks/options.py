"""What the commands of `ovs-bench` share: options, and the result file."""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from ..bundle.errors import SinkError, UsageError
from ..bundle.files import replacing

Model = Annotated[Path | None, typer.Option(help="Bundle folder NAME.ovs. Default: the embedded one.")]
Output = Annotated[Path | None, typer.Option("--output", "-o", help="Write the result as JSON.")]
Precision = Annotated[str, typer.Option(help="Which of the bundle's precisions to measure.")]
Threads = Annotated[int, typer.Option(min=0, help="CPU threads; 0: one per core.")]


def positive(text: str, option: str, example: str) -> list[int]:
    """The numbers of a comma-separated list; raises `UsageError` for anything but numbers from 1."""
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 1:
        raise UsageError(f"{option} is {text!r}, expected numbers such as {example}")
    return numbers


def write_result(output: Path | None, bundle: Path | None, result: dict[str, Any]) -> None:
    """Write `result` with the command line, the machine and, where there is one, the bundle's identity."""
    if output is None:
        return
    from ..bundle.bundle import Bundle
    from .machine.environment import Environment

    # Where the result was put is nobody's business, and is not part of the measurement.
    words = [word for word in sys.argv[1:] if word not in ("-o", "--output", str(output), f"--output={output}")]
    document: dict[str, Any] = {"command": shlex.join(["ovs-bench", *words])}
    if bundle is not None:
        opened = Bundle.open(bundle, verify=False)
        document |= {"bundle": opened.manifest.name, "bundle_digest": opened.digest}
    document |= {"environment": asdict(Environment.here()), **result}
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with replacing(output) as work:
            work.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise SinkError(f"cannot write {output} ({error}); free some space or choose another place") from error
    print(f"wrote {output}")
