"""`ovs-train`: the command line. It parses; `request.py` declares the options, `command.py` runs."""

from __future__ import annotations

import typer

from ..bundle.errors import require
from ..runtime.command_line import add_command, run_command
from .request import TrainRequest

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


def train(request: TrainRequest) -> int:
    """Train a segmenter on photos with named masks and write model.pt.

    On several devices: torchrun --nproc_per_node N --no-python ovs-train …
    """
    require("torch", "train")
    # Imported once the options have been checked: --help must not wait for torch.
    from .command import run

    return run(request)


add_command(app, TrainRequest, train)


def main() -> None:
    """Console command; an expected error is one line on stderr and exit code 2."""
    run_command(app)


if __name__ == "__main__":
    main()
