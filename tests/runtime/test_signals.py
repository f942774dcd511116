"""SIGTERM and SIGHUP unwind a command as Ctrl-C does: temporary files go, the exit code tells the signal."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ovs_edge.bundle.errors import Terminated
from ovs_edge.runtime.threads.unwinding import unwinding_on_signals

# A command that writes a folder and waits; it says when it has begun.
_COMMAND = """
import signal, time
import typer
from pathlib import Path
from ovs_edge.bundle.files import replacing_folder
from ovs_edge.runtime.command_line import run_command
from ovs_edge.runtime.threads.unwinding import unwinding_on_signals

app = typer.Typer(add_completion=False)

@app.command()
def work(target: Path) -> None:
    with unwinding_on_signals(), replacing_folder(target, "marker", "thing") as folder:
        (folder / "half").write_text("half")
        print("begun", flush=True)
        time.sleep(60)

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell in the background hands it on as ignored
signal.signal(signal.SIGHUP, signal.SIG_DFL)
run_command(app)
"""


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)], ids=lambda x: str(x)
)
def test_a_signal_leaves_no_temporary_folder(tmp_path: Path, number: signal.Signals, code: int) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", _COMMAND, str(tmp_path / "out")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    process.send_signal(number)
    _, error = process.communicate(timeout=30)
    assert (process.returncode, "Traceback" in error) == (code, False)
    assert error in ("interrupted\n", "stopped by a signal\n")
    assert list(tmp_path.iterdir()) == []


# What swallows an exception: a finalizer, a callback of a weak reference, a library that tries another way.
_SWALLOWED = """
import os, signal, sys, time, weakref
import typer
from pathlib import Path
from ovs_edge.bundle.files import replacing_folder
from ovs_edge.runtime.command_line import run_command
from ovs_edge.runtime.threads.unwinding import unwinding_on_signals

app = typer.Typer(add_completion=False)

def stop(*_: object) -> None:
    os.kill(os.getpid(), NUMBER)
    time.sleep(0.01)

class Held:
    def __del__(self) -> None:
        stop()

class Other: ...

@app.command()
def work(way: str, target: Path) -> None:
    with unwinding_on_signals(), replacing_folder(target, "marker", "thing") as folder:
        (folder / "half").write_text("half")
        if way == "finalizer":
            Held()
        elif way == "callback":
            kept = Other()
            reference = weakref.ref(kept, stop)
            del kept
        else:
            try:
                stop()
            except BaseException as error:
                pass  # and on
        time.sleep(60)

signal.signal(signal.SIGINT, signal.default_int_handler)
run_command(app)
"""


@pytest.mark.parametrize(
    ("way", "number", "code"),
    [("finalizer", signal.SIGINT, 130), ("callback", signal.SIGTERM, 143), ("library", signal.SIGINT, 130)],
)
def test_a_signal_whose_exception_was_swallowed_ends_the_command_all_the_same(
    tmp_path: Path, way: str, number: signal.Signals, code: int
) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", _SWALLOWED.replace("NUMBER", str(int(number))), way, str(tmp_path / "out")],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (code, "interrupted\n" if code == 130 else "stopped by a signal\n")
    assert list(tmp_path.iterdir()) == []


def test_further_signals_do_not_disturb_the_clean_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Terminated, "latest", 0)
    cleaned = []
    with pytest.raises(Terminated), unwinding_on_signals():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGHUP)
            time.sleep(0.5)  # longer than it takes to send it again
            cleaned.append(True)
    assert cleaned == [True]
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
