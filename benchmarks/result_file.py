"""The result file of a benchmark: what was measured, with which command, on which machine."""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..bundle.bundle import Bundle
from ..bundle.errors import SinkError
from ..bundle.files import replacing
from .machine.environment import Environment


def write_result(
    output: Path | None, bundle: Path | None, result: dict[str, Any], *, program: str = "ovs-bench"
) -> None:
    """Write `result` with the command line, the machine and, where there is one, the identity of the bundle.

    `output` None writes nothing; `program` is how the command line is called. Raises `SinkError`.
    """
    if output is None:
        return
    # The place of the result file is not part of the measurement.
    arguments = [word for word in sys.argv[1:] if word not in ("-o", "--output", str(output), f"--output={output}")]
    document: dict[str, Any] = {"command": shlex.join([program, *arguments])}
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
