"""What `ovs-bench gpu` does: detect, run the parts, write one result and its page, fail on a parity miss."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Any

from ...bundle.errors import OvsError, ParityError, UsageError
from ..result_file import write_result
from .capabilities import Capabilities, detect
from .kit import Kit
from .options import GpuOptions
from .runner import forget, run_parts
from .tables import gpu_tables


def run_gpu(options: GpuOptions) -> int:
    """`ovs-bench gpu`; returns its exit code. Raises `ParityError` after everything is written."""
    from ...models import default_bundle

    capabilities = detect()
    if not options.dry_run_on_cpu and capabilities.backends == ("cpu",):
        raise UsageError(
            f"no GPU engine can be used here ({capabilities.cuda_obstacle or 'no TensorRT'}); install one of them, see "
            "scripts/gpu-kit, or test the kit itself with --dry-run-on-cpu"
        )
    print(_found(capabilities), file=sys.stderr)
    kit = Kit(options.results, options.model or (default_bundle(),), options.scale, capabilities, options.threads)
    parts = run_parts(kit, options.chosen_parts, lambda step: print(step, file=sys.stderr))
    result: dict[str, Any] = {
        "gpu": {"dry_run": options.dry_run_on_cpu, "capabilities": asdict(capabilities), "parts": parts}
    }
    write_result(options.results / "gpu.json", None, result)
    print(gpu_tables(result))
    _write_page(options)
    failed = {name: part["error"] for name, part in parts.items() if "error" in part}
    if not failed:
        forget(kit)
    misses = [row for name in ("parity", "frames") for row in parts.get(name, {}).get("rows", []) if not row["passed"]]
    if misses:
        worst = min(misses, key=lambda row: row["labels_equal"])
        raise ParityError(
            f"{len(misses)} parity checks failed; the worst: {worst['model']} {worst['precision']} on "
            f"{worst['backend']} with {_case(worst)}: {worst['labels_equal']:.2%} of labels "
            f"equal, expected {worst['least_equal']:.1%}; do not use this backend, and report it with gpu.json"
        )
    if failed:
        name, error = next(iter(failed.items()))
        raise UsageError(f"{len(failed)} of {len(parts)} parts failed, {name} first: {error}; run it again to retry")
    return 0


def _case(row: dict[str, Any]) -> str:
    if "frame_size" in row:
        return f"frames of {row['frame_size'][1]}x{row['frame_size'][0]}"
    return f"K={row['classes']}, S={row['names']}"


def _found(capabilities: Capabilities) -> str:
    gpu = capabilities.gpu or "no GPU"
    packages = ", ".join(f"{name} {version}" for name, version in capabilities.packages.items())
    return f"{gpu}; backends: {', '.join(capabilities.backends)}; {packages}"


def _write_page(options: GpuOptions) -> None:
    """The HTML page, where the packages for it are installed."""
    try:
        from ..report.page import write_page
    except ImportError:
        print("no page.html without matplotlib and markdown-it-py: pip install 'ovs-edge[report]'", file=sys.stderr)
        return
    try:
        write_page(options.results, options.results / "page.html")
    except OvsError as error:  # the result is written, and what it says of parity matters more
        print(f"no page.html: {error}", file=sys.stderr)
        return
    print(f"wrote {options.results / 'page.html'}")
