"""What all `ovs-…` commands share: options declared by a dataclass, `--version`, and one line for every error."""

from __future__ import annotations

import dataclasses
import inspect
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

import typer
from typer.core import TyperCommand
from typer.main import get_command

from ..bundle.errors import UsageError, end_quietly, exit_on_error

Options = TypeVar("Options")

_INTERRUPTED = 130


def run_command(app: typer.Typer) -> None:
    """Run a console command and exit; `--version` is added to it. An expected error is one line on stderr."""
    exit_on_error(lambda: _run(app))


def add_command(
    app: typer.Typer, options: type[Options], body: Callable[[Options], int], cls: type[TyperCommand] = TyperCommand
) -> None:
    """Add a command to `app` whose options are the fields of the dataclass `options`; `body` gives its exit code.

    A field is `Annotated[type, typer.Option(...)]` or `Annotated[type, typer.Argument(...)]`; its name, default and
    type are the option's. A `tuple[str, ...]` is an option that may be given several times. The dataclass validates
    its values in `__post_init__`. The help text is the docstring of `body`, its first paragraphs.
    """
    hints = get_type_hints(options, include_extras=True)

    repeated = {field.name for field in dataclasses.fields(options) if isinstance(field.default, tuple)}  # type: ignore[arg-type]

    def command(**values: Any) -> None:
        given = {
            name: tuple(value or ()) if name in repeated or isinstance(value, list) else value
            for name, value in values.items()
        }
        try:
            code = body(options(**given))
        except BrokenPipeError:  # of which Typer makes exit code 1
            end_quietly()
        if code:
            sys.exit(code)  # not typer.Exit: 130 is what Typer makes of a KeyboardInterrupt

    parameters = [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if field.default is dataclasses.MISSING else _default(field.default),
            annotation=_repeatable(hints[field.name]),
        )
        for field in dataclasses.fields(options)  # type: ignore[arg-type]
    ]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    app.command(cls=cls, name=body.__name__, help=inspect.getdoc(body))(command)


def _default(value: Any) -> Any:
    if value == ():
        return None  # before click 8.2 an argument that may be given several times has no default
    return list(value) if isinstance(value, tuple) else value


def _repeatable(hint: Any) -> Any:
    """Typer repeats lists, frozen dataclasses hold tuples."""
    kind, *extras = get_args(hint) if get_origin(hint) is Annotated else (hint,)
    if get_origin(kind) is tuple:
        kind = list[get_args(kind)[0]]  # type: ignore[misc]
    return Annotated.__class_getitem__((kind, *extras))  # type: ignore[attr-defined]


def _run(app: typer.Typer) -> None:
    command = get_command(app)
    command.params.append(_version_option())
    try:
        code = command(standalone_mode=False)
    except Exception as error:
        # Typer carries click within itself or not, depending on its version: its errors are known by what they have.
        if not hasattr(error, "format_message"):
            raise
        if type(error).__name__ == "NoArgsIsHelpError":
            error.show()  # type: ignore[attr-defined]
            sys.exit(2)
        program = command.name if getattr(error, "ctx", None) is None else error.ctx.command_path  # type: ignore[attr-defined]
        raise UsageError(f"{error.format_message().rstrip('.')}; see {program} --help") from error
    if code == _INTERRUPTED:  # Typer makes an exit code of a KeyboardInterrupt
        raise KeyboardInterrupt
    sys.exit(code if isinstance(code, int) else 0)


def _version_option() -> Any:
    """The option, taken from a command of its own: every version of Typer makes it from the same declaration."""
    holder = typer.Typer(add_completion=False)

    @holder.command()
    def hold(
        *,
        print_version: Annotated[
            bool,
            typer.Option(
                "--version",
                callback=_show_version,
                is_eager=True,
                expose_value=False,
                help="Print the version and exit.",
            ),
        ] = False,
    ) -> None: ...

    return get_command(holder).params[0]


def _show_version(value: Any) -> None:
    if value:
        try:
            found = version("ovs-edge")
        except PackageNotFoundError:
            found = "(not installed)"
        print(f"ovs-edge {found}")
        raise typer.Exit
