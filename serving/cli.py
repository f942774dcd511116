"""`ovs-serve`: the command line."""

from __future__ import annotations

import typer

from ..runtime.command_line import add_command, run_command
from .options import ServeOptions

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


def serve(options: ServeOptions) -> int:
    """Segmentation over HTTP for many clients: POST /segment takes a picture and the classes of this request.

    Ends with Ctrl-C or SIGTERM, after the requests that are under way.
    """
    from .command import run_serve

    return run_serve(options)


add_command(app, ServeOptions, serve)


def main() -> None:
    """Console entry point."""
    run_command(app)


if __name__ == "__main__":
    main()
