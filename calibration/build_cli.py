"""`ovs-build`: the command line. It parses; `build_options.py` declares the options, `tensorrt/command.py` builds."""

from __future__ import annotations

import typer

from ..runtime.command_line import add_command, run_command
from .build_options import BuildOptions

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


def build(options: BuildOptions) -> int:
    """Build a TensorRT plan, compare it with ONNX Runtime on a few images, and keep it for ovs-run if it passes."""
    # Imported once the options have been checked: --help must not wait for TensorRT and onnx.
    from .tensorrt.command import run

    return run(options)


add_command(app, BuildOptions, build)


def main() -> None:
    """Console command; an expected error is one line on stderr and exit code 2, or 3 for a plan that differs."""
    run_command(app)


if __name__ == "__main__":
    main()
