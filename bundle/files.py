"""Files that appear whole or not at all, and the user's cache."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def replacing(path: Path, tag: str = "partial") -> Iterator[Path]:
    """A name beside `path` to write to, which takes its place when the block ends well and is removed when it does not.

    `tag` tells apart processes that may write the same file at once. What the system refuses raises its own `OSError`.
    """
    work = path.with_name(f".{path.name}.{tag}")
    try:
        yield work
        os.replace(work, path)
    except BaseException:
        with suppress(OSError):
            work.unlink(missing_ok=True)
        raise


def cache_folder(name: str) -> Path:
    """`$XDG_CACHE_HOME/ovs-edge/NAME`, or the same under `~/.cache`."""
    root = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG specification has relative paths ignored.
    base = Path(root) if os.path.isabs(root) else Path(os.path.expanduser("~")) / ".cache"
    return base / "ovs-edge" / name
