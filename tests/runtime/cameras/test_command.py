"""`ovs-run --config` as a service manager runs it: it starts, reads its file again on SIGHUP, and ends on SIGTERM."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import pytest
from support.cameras import clip, until

from ovs_edge.runtime.cameras.config import CameraConfig, CamerasConfig
from ovs_edge.runtime.cameras.run import _reload, _Signals
from ovs_edge.runtime.cameras.service import CameraService

_RUN = [sys.executable, "-c", "from ovs_edge.runtime.cli import main; main()"]


def ovs_run(*arguments: object) -> subprocess.Popen[str]:
    command = [*_RUN, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(run: subprocess.Popen[str]) -> str:
    """What a run says on its way out, which SIGTERM begins."""
    run.send_signal(signal.SIGTERM)
    try:
        return run.communicate(timeout=60)[1]
    finally:
        run.kill()


def lines(path: Path) -> int:
    return len(path.read_text().splitlines()) if path.exists() else 0


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="no SIGHUP on this system")
def test_sighup_reads_the_file_again_and_sigterm_ends(tiny_bundle: Path, tmp_path: Path) -> None:
    clip(tmp_path)
    path = tmp_path / "cameras.toml"
    head = f'[model]\nbundle = "{tiny_bundle}"\nthreads = 1\n[defaults]\nsource = "halves.avi"\nclasses = "red"\n'
    path.write_text(f'{head}[cameras.a]\njson = "a.jsonl"\n')
    run = ovs_run("--config", path)
    assert run.stderr is not None
    try:
        until(lambda: lines(tmp_path / "a.jsonl") > 3)
        path.write_text(f'{head}[cameras.a]\njson = "a.jsonl"\nclasses = "green"\n[cameras.b]\njson = "b.jsonl"\n')
        run.send_signal(signal.SIGHUP)
        assert {run.stderr.readline(), run.stderr.readline()} == {"note: a: changed\n", "note: b: added\n"}
        until(lambda: lines(tmp_path / "b.jsonl") > 3)
        path.write_text(f"{head}[cameras.a]\nthreshold = 7\n")
        run.send_signal(signal.SIGHUP)
        problem = "[cameras.a] threshold is 7, expected a number from 0 to 1"
        assert run.stderr.readline() == f"note: the configuration is as before: {path}: {problem}\n"
        before = lines(tmp_path / "a.jsonl"), lines(tmp_path / "b.jsonl")
        until(lambda: lines(tmp_path / "a.jsonl") > before[0] and lines(tmp_path / "b.jsonl") > before[1])
        for _ in range(300):  # a handler is interrupted by the next signal
            run.send_signal(signal.SIGHUP)
    finally:
        said = ended(run)
    assert run.returncode == 0
    assert said.endswith("cameras\n"), said
    found = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    classes = [entry["class"] for line in found for entry in line["classes"]]
    assert classes == sorted(classes, reverse=True)  # red, then green: no frame by half of each
    assert set(classes) == {"red", "green"}
    # The camera went on: no frame of it was read twice, and none came out of order.
    indices = [line["index"] for line in found]
    assert indices == sorted(set(indices))


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="no SIGHUP on this system")
def test_sighup_while_it_starts_ends_nothing(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "cameras.toml"
    path.write_text(
        f'model = {{bundle = "{tiny_bundle}", threads = 1}}\ncameras.a = {{source = "1", classes = "red"}}\n'
    )
    begin = "import sys; sys.argv[0] = 'ovs-run'; import ovs_edge; print(1, flush=True); "
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(0.005)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        code = f"{begin} from ovs_edge.runtime.cli import main; main()"
        command = [sys.executable, "-c", code, f"--config={path}"]
        run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert run.stdout is not None
        assert run.stderr is not None
        run.stdout.readline()
        told = ""
        while run.poll() is None and not told:
            run.send_signal(signal.SIGHUP)  # again and again, all the while
            with suppress(TimeoutError):
                told = manager.recv(99).decode()
        notes = []
        while (line := run.stderr.readline()) and "the configuration is read again" not in line:
            notes.append(line)
        ended(run)
        assert (told, manager.recv(99).decode()) == ("READY=1", "STOPPING=1")
    assert (run.returncode, bool(line)) == (0, True), notes


def test_several_cameras_by_options(tiny_bundle: Path, tmp_path: Path) -> None:
    source = clip(tmp_path)
    options = ("--model", tiny_bundle, "--threads", 1, "--classes", "red", "--json", tmp_path / "out.jsonl")
    run = ovs_run("--camera", f"door={source}", "--camera", source, *options)
    try:
        until(lambda: all(lines(tmp_path / f"out_{name}.jsonl") > 2 for name in ("door", "camera2")))
    finally:
        run.send_signal(signal.SIGINT)
        _, said = run.communicate(timeout=60)
    assert (run.returncode, said.endswith("2 cameras\n")) == (0, True), said


_EVENTS = [word for time in ("100ms", "400ms", "700ms") for word in ("--rule", f"red in frame for {time}")]


@pytest.mark.parametrize("output", [["--json", "-"], ["--web", "127.0.0.1:0", "--events", "-", *_EVENTS]])
def test_a_reader_that_leaves_ends_the_run(tiny_bundle: Path, tmp_path: Path, output: list[str]) -> None:
    source = clip(tmp_path)
    run = ovs_run("--camera", source, "--camera", source, "--model", tiny_bundle, "--classes", "red", *output)
    assert run.stdout is not None
    assert run.stderr is not None
    found = json.loads(run.stdout.readline())
    run.stdout.close()
    assert found["camera"] in ("camera1", "camera2")
    code, said = run.wait(60), run.stderr.read()
    assert (code, [line for line in said.splitlines() if not line.startswith("viewer: ")]) == (141, [])
    run.stderr.close()


def test_a_configuration_that_is_none_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "cameras.toml"
    path.write_text("[cameras.a]\nsource = 1\n")
    command = [*_RUN, "--config", str(path)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr == f"error: {path}: [cameras.a] source is 1, expected a text\n"


def test_a_file_that_fails_in_a_way_nobody_has_foreseen_ends_no_camera(capsys: pytest.CaptureFixture[str]) -> None:
    def read() -> CamerasConfig:
        raise ValueError("surprise")

    before = CamerasConfig({"a": CameraConfig("0", "red")})
    _reload(cast("CameraService", None), before, read)
    assert capsys.readouterr().err == "note: the configuration is as before: ValueError: surprise\n"


def test_a_signal_that_is_sent_again_interrupts_nothing_but_ctrl_c_does() -> None:
    with pytest.raises(KeyboardInterrupt), _Signals(reloads=True) as signals:
        for _ in range(2):  # as `timeout` does
            signal.raise_signal(signal.SIGTERM)
        assert (signals.stop, signals.reload) == (True, False)
        signal.raise_signal(signal.SIGINT)


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="no SIGHUP on this system")
def test_a_signal_may_come_while_another_is_handled() -> None:
    signals = _Signals(reloads=True)

    def again(frame: object, event: str, argument: object) -> Any:
        if event == "line":
            signals._handle(signal.SIGHUP, None)
        return again

    def handle() -> None:
        sys.settrace(again)  # calls within every line of the handler, and of what it calls
        signals._handle(signal.SIGHUP, None)
        sys.settrace(None)

    thread = threading.Thread(target=handle, daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
    assert signals.reload
    signals.wait(10)
    signals.__exit__()
