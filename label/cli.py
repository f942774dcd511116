"""`ovs-label`: the command line. It parses; `options.py` declares and validates the options, `run.py` does the work."""

from __future__ import annotations

import typer

from ..runtime.command_line import add_command, run_command
from .options import LabelOptions

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None, no_args_is_help=True)


def label(options: LabelOptions) -> int:
    """Label photos, archives and videos with the classes that you name, as a data set of another tool's format.

    A run that was stopped, however it was, goes on where it was when the same command is given again; what was added
    to the sources in the meantime is labelled too.
    """
    # Imported once the options are known to be sound: --help must not wait for OpenCV.
    from .run import run

    return run(options)


add_command(app, LabelOptions, label)


def main() -> None:
    """Console command; an expected error is one line on stderr and exit code 2."""
    run_command(app)


if __name__ == "__main__":
    main()
