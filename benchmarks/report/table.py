"""A Markdown table under its title."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def table(title: str, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Title in bold, header, rows."""
    lines = [header, ["---"] * len(header), *rows]
    return f"**{title}**\n\n" + "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)
