"""`ovs-calibrate`: the command line. It parses; `options.py` declares the options, `run.py` does the work."""

from __future__ import annotations

import typer

from ..runtime.command_line import add_command, run_command
from .options import CalibrateOptions

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


def calibrate(options: CalibrateOptions) -> int:
    """Write FP16 and INT8 graphs beside FP32 and compare each with FP32; below its threshold, exit code 3."""
    # Imported once the options have been checked: --help must not wait for onnx and onnxruntime.
    from .run import run

    return run(options)


add_command(app, CalibrateOptions, calibrate)


def main() -> None:
    """Console command; an expected error is one line on stderr and exit code 2."""
    run_command(app)


if __name__ == "__main__":
    main()
