"""MkDocs hook: `<!-- options: COMMAND -->` becomes the command's own help, so that the page cannot drift from it."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from typing import Any

import typer.main

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib

_MARK = re.compile(r"<!-- options: ([\w-]+) -->")
_PROJECT = Path(__file__).parents[1] / "pyproject.toml"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace every mark of a page."""
    return _MARK.sub(lambda mark: command_page(mark[1]), markdown)


def command_page(name: str) -> str:
    """A console command as Markdown: usage, description, one table of options; sub-commands below it."""
    target = tomllib.loads(_PROJECT.read_text(encoding="utf-8"))["project"]["scripts"][name]
    command = typer.main.get_command(import_module(target.split(":")[0]).app)
    return _describe(command, name, level=2)


def _describe(command: Any, name: str, level: int) -> str:
    context = command.context_class(command, info_name=name)
    lines = [f"{'#' * level} {name}", "", _clean(command.help or ""), "", f"`{_usage(command, context, name)}`", ""]
    rows = [row for parameter in command.params if (row := _row(parameter, context)) is not None]
    if rows:
        lines += ["| option | meaning |", "|---|---|", *rows, ""]
    for child in sorted(getattr(command, "commands", {})):
        lines.append(_describe(command.commands[child], f"{name} {child}", level + 1))
    return "\n".join(lines)


def _usage(command: Any, context: Any, name: str) -> str:
    return " ".join([name, *command.collect_usage_pieces(context)])


def _row(parameter: Any, context: Any) -> str | None:
    if getattr(parameter, "hidden", False):
        return None
    record = parameter.get_help_record(context)
    if record is None:
        return f"| `{parameter.make_metavar(context)}` | {_clean(getattr(parameter, 'help', '') or '')} |"
    return f"| `{record[0].replace('|', ' or ')}` | {_clean(record[1])} |"


def _clean(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
