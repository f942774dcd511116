"""`ovs-build`: a bundle becomes a TensorRT plan for the device."""

from __future__ import annotations

import typer

from ovs_edge.bundle.errors import exit_on_error

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.command()
def build() -> None:
    """Build a plan and compare it with the bundle before it is published."""


def main() -> None:
    """Console command; an expected error is one line on stderr and exit code 2."""
    exit_on_error(app)


if __name__ == "__main__":
    main()
