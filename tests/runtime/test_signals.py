"""SIGTERM and SIGHUP unwind a command as Ctrl-C does: temporary files go, the exit code tells the signal."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

# A command that writes a folder and waits; it says when it has begun.
_COMMAND = """
import signal, time
import typer
from pathlib import Path
from ovs_edge.bundle.files import replacing_folder
from ovs_edge.runtime.command_line import run_command, unwinding_on_signals

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
