"""`ovs-export`: a trained checkpoint, or a plain CLIP, becomes a bundle that devices run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from ..bundle.errors import require
from ..runtime.command_line import add_command, run_command
from ..runtime.threads.unwinding import unwinding_on_signals
from .command import ExportCommandOptions

# Torch is imported once the options have been checked: --help must not wait for it.
if TYPE_CHECKING:
    from rich.console import Console

    from ..bundle.manifest import Manifest

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


def export(options: ExportCommandOptions) -> int:
    """Export a checkpoint or a plain CLIP as a bundle, compared with torch; nothing is written if it differs."""
    from rich.console import Console

    from .report import show_bundle

    start = time.perf_counter()
    console = Console(soft_wrap=True, highlight=False)
    with unwinding_on_signals(), _status(console) as tell:
        manifest = _export(options, console, tell)
    show_bundle(console, options.target, manifest, time.perf_counter() - start)
    return 0


def _export(options: ExportCommandOptions, console: Console, tell: Callable[[str], None]) -> Manifest:
    if options.checkpoint is not None:
        request = options.request()
        _require_packages()
        from .export_bundle import export_bundle
        from .report import show_parity

        return export_bundle(
            options.checkpoint,
            options.target,
            request,
            clip_text=options.clip_text,
            trust_pickle=options.trust_pickle,
            tell=tell,
            on_parity=lambda parity: show_parity(console, parity),
        )
    assert options.clip is not None
    _require_packages()
    require("open_clip", "export")
    from .clip.export import export_clip_bundle
    from .report import show_parity

    return export_clip_bundle(
        options.clip,
        options.target,
        options.clip_request(),
        tell=tell,
        note=lambda text: console.print(f"note: {text}"),
        on_parity=lambda parity: show_parity(console, parity),
    )


def _require_packages() -> None:
    for module in ("torch", "onnx", "onnxscript"):
        require(module, "export")


@contextmanager
def _status(console: Console) -> Iterator[Callable[[str], None]]:
    """`tell(step)` shows the present step: a spinner on a terminal, nothing elsewhere."""
    if not console.is_terminal:
        yield lambda step: None
        return
    with console.status("") as status:
        yield lambda step: status.update(step)


add_command(app, ExportCommandOptions, export)


def main() -> None:
    """Console command; an expected error is one line on stderr and its exit code."""
    run_command(app)


if __name__ == "__main__":
    main()
