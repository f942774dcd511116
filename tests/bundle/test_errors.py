"""Signals that meet a library written in C: whatever error it makes of them, the command says that it was stopped."""

from __future__ import annotations

import codecs
import importlib
import io
import sys
import threading
import time
from functools import partial
from typing import NoReturn

import pytest

from ovs_edge.bundle.addresses import shown_text
from ovs_edge.bundle.errors import (
    BundleError,
    MissingExtraError,
    Terminated,
    _unprintable,
    exit_on_error,
    note,
    require,
)


@pytest.fixture(autouse=True)
def no_signal_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Terminated, "latest", 0)


def _converted(cause: BaseException) -> NoReturn:
    try:
        raise cause
    except BaseException as error:
        raise ImportError("initialization failed") from error


@pytest.mark.parametrize(
    ("cause", "code", "said"),
    [(KeyboardInterrupt(), 130, "interrupted\n"), (Terminated(15), 143, "stopped by a signal\n"),
     (Terminated(1), 129, "stopped by a signal\n")],
)  # fmt: skip
def test_an_error_that_a_signal_became(
    cause: BaseException, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def command() -> NoReturn:
        if isinstance(cause, Terminated):
            Terminated(int(str(cause.code)) - 128)  # as its handler makes it
        _converted(cause)

    with pytest.raises(SystemExit) as ended:
        exit_on_error(command)
    assert (ended.value.code, capsys.readouterr().err) == (code, said)


def test_a_signal_of_an_earlier_command_is_forgotten(capsys: pytest.CaptureFixture[str]) -> None:
    Terminated(1)

    def refused() -> None:
        raise BundleError("damaged")

    with pytest.raises(SystemExit) as ended:
        exit_on_error(refused)
    assert (ended.value.code, capsys.readouterr().err) == (2, "error: damaged\n")


def test_an_interrupted_import_is_no_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib, "import_module", lambda name: _converted(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        require("onnxruntime", "cpu")
    monkeypatch.setattr(importlib, "import_module", lambda name: _converted(OSError("no such library")))
    with pytest.raises(MissingExtraError, match="initialization failed"):
        require("onnxruntime", "cpu")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("out\udcff/", "out\\xff/"),
        (repr("m\udc80\udcfe.png"), "'m\\x80\\xfe.png'"),
        ("猫 \\ué", "猫 \\ué"),
        ("half \ud83d", "half \ud83d"),
    ],
)
def test_bytes_that_are_not_utf8_are_shown_in_one_way(text: str, shown: str) -> None:
    assert shown_text(text) == shown
    assert str(BundleError(text)) == shown
    assert shown_text(shown) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a \x1b[31mred\x00\x07", "a \\x1b[31mred\\x00\\x07"),
        ("two\r\nlines\x85and\u2028more", "two lines and more"),
        ("c1 \x9b2J, del \x7f", "c1 \\x9b2J, del \\x7f"),
        ("turned \u202egpj.exe", "turned \\u202egpj.exe"),
        ("猫 ‍é", "猫 ‍é"),
    ],
)
def test_what_others_wrote_cannot_steer_the_terminal(text: str, shown: str, capsys: pytest.CaptureFixture[str]) -> None:
    note(text)
    assert capsys.readouterr().err == f"note: {shown}\n"
    assert str(BundleError(text)) == shown
    assert str(BundleError(shown)) == shown


def test_notes_of_several_threads_are_whole_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stream(io.StringIO):
        def write(self, text: str) -> int:
            found = super().write(text[: len(text) // 2])
            time.sleep(0.001)  # another thread's turn
            return found + super().write(text[len(text) // 2 :])

    stream = Stream()
    monkeypatch.setattr(sys, "stderr", stream)
    threads = [threading.Thread(target=lambda word=word: [note(word) for _ in range(5)]) for word in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(stream.getvalue().splitlines()) == ["note: one"] * 5 + ["note: two"] * 5


@pytest.mark.parametrize(("others", "shown"), [("replace", "?"), ("backslashreplace", "\\u732b")])
def test_streams_show_such_bytes_alike(others: str, shown: str) -> None:
    handler = partial(_unprintable, codecs.lookup_error(others))
    codecs.register_error(f"test.{others}", handler)
    assert "a猫\udcff\udc80b".encode("latin-1", f"test.{others}").decode() == f"a{shown}\\xff\\x80b"


def test_other_errors_stay_what_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    def broken() -> None:
        raise ValueError("a fault of this program")

    with pytest.raises(ValueError, match="a fault of this program"):
        exit_on_error(broken)

    def refused() -> None:
        raise BundleError("damaged")

    with pytest.raises(SystemExit) as ended:
        exit_on_error(refused)
    assert (ended.value.code, capsys.readouterr().err) == (2, "error: damaged\n")
