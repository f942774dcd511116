"""`ovs-calibrate`: a bundle gains FP16 and INT8 graphs, each with a measured verdict."""

from __future__ import annotations

import typer

from ovs_edge.bundle.errors import exit_on_error

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.command()
def calibrate() -> None:
    """Write FP16 and INT8 beside FP32 and measure what each computes."""


def main() -> None:
    """Console command; an expected error is one line on stderr and exit code 2."""
    exit_on_error(app)


if __name__ == "__main__":
    main()
