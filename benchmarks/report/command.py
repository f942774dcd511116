"""What `ovs-bench report` does: tables and plots of result files."""

from __future__ import annotations

from ...bundle.errors import require
from .options import ReportOptions
from .report import tables, update


def run_report(options: ReportOptions) -> int:
    """`ovs-bench report`; returns its exit code."""
    if options.html is not None or options.plots is not None:
        require("matplotlib", "report")
        require("markdown_it", "report")
        from .page import write_page, write_plots

        if options.html is not None:
            write_page(options.results, options.html)
            print(f"wrote {options.html}")
        for path in write_plots(options.results, options.plots) if options.plots is not None else ():
            print(f"wrote {path}")
    for target in options.readme:
        print(f"{target} {'updated' if update(target, options.results) else 'is up to date'}")
    if not options.readme and options.html is None and options.plots is None:
        print(tables(options.results))
    return 0
