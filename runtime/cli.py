"""`ovs-run`: the command line. It parses; `options.py` declares and validates the options, `run.py` does the work."""

from __future__ import annotations

import os
from typing import Any

import typer
from typer.core import TyperCommand

from .command_line import add_command, run_command
from .options import WEB_ADDRESS, RunOptions

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


class _Command(TyperCommand):
    """`--web` may stand without a value, which Typer's options cannot."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        following = [*args[1:], "-"]
        given = zip(args, following, strict=True)
        complete = [(arg, WEB_ADDRESS) if arg == "--web" and not _is_address(after) else (arg,) for arg, after in given]
        return super().parse_args(ctx, [arg for entry in complete for arg in entry])


def _is_address(word: str) -> bool:
    """Whether the word after `--web` is its value, and not the next option or a source."""
    return not (word.startswith("-") or word == "demo" or any(sign in word for sign in "/*?") or os.path.exists(word))


def segment(options: RunOptions) -> int:
    """Segment photos, videos or a camera by the class names that you give."""
    # Imported once the options are known to be sound: --help must not wait for OpenCV.
    from .run import run

    return run(options)


add_command(app, RunOptions, segment, _Command)


def main() -> None:
    """Console command; an expected error is one line on stderr and exit code 2."""
    run_command(app)
