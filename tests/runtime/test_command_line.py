"""What all commands share: `--version`, one line for an error, and options that a dataclass declares."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points, version
from typing import Annotated

import pytest
import typer

from ovs_edge.bundle.errors import UsageError
from ovs_edge.runtime.command_line import add_command, run_command
from ovs_edge.runtime.options import RunOptions

COMMANDS = sorted(
    {
        entry.name: entry.value for entry in entry_points(group="console_scripts") if entry.name.startswith("ovs-")
    }.items()
)


def test_there_are_commands() -> None:
    assert {"ovs-run", "ovs-doctor", "ovs-export"} <= {name for name, _ in COMMANDS}


@pytest.mark.parametrize(("name", "target"), COMMANDS)
def test_every_command_says_its_version(
    name: str, target: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [name, "--version"])
    module, function = target.split(":")
    with pytest.raises(SystemExit) as ended:
        getattr(import_module(module), function)()
    assert ended.value.code in (0, None)
    assert capsys.readouterr() == (f"ovs-edge {version('ovs-edge')}\n", "")


@dataclass(frozen=True)
class _Options:
    count: Annotated[int, typer.Argument(help="How many.")]
    word: Annotated[tuple[str, ...], typer.Option(help="May be repeated.")] = ()
    loud: Annotated[bool, typer.Option("--loud", help="Whether.")] = False

    def __post_init__(self) -> None:
        if self.count < 1:
            raise UsageError("the count is too small")


def _run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> tuple[list[_Options], int]:
    seen: list[_Options] = []

    def count(options: _Options) -> int:
        """Count words."""
        seen.append(options)
        return 3 if options.loud else 0

    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    add_command(app, _Options, count)
    monkeypatch.setattr(sys, "argv", ["count", *arguments])
    with pytest.raises(SystemExit) as ended:
        run_command(app)
    return seen, ended.value.code if isinstance(ended.value.code, int) else 0


def test_options_come_from_the_dataclass(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _run(monkeypatch, "2") == ([_Options(2)], 0)
    assert _run(monkeypatch, "2", "--word", "a", "--word", "b", "--loud") == ([_Options(2, ("a", "b"), True)], 3)


@pytest.mark.parametrize(
    ("arguments", "says"), [(("0",), "the count is too small"), (("x",), "--help"), (("1", "--lowd"), "--loud")]
)
def test_an_error_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], says: str
) -> None:
    seen, code = _run(monkeypatch, *arguments)
    out, error = capsys.readouterr()
    assert (seen, code, out) == ([], 2, "")
    assert error.startswith("error: ") and error.count("\n") == 1 and says in error


@pytest.mark.parametrize(
    "changes", [{"threshold": float("nan")}, {"opacity": 2.0}, {"task": "instance"}, {"classes": None}]
)
def test_run_options_are_validated(changes: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        RunOptions(**{"classes": "cat", **changes})  # type: ignore[arg-type]


def test_the_help_text_is_the_docstring(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(monkeypatch, "--help") == ([], 0)
    out = capsys.readouterr().out
    assert "Count words." in out and "--version" in out and "May be repeated." in out
