"""`ovs-label --ray`: the same bytes as without, also where a worker is killed. Minutes on a busy machine: nightly."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pytest
from support.label_job import BAD, command, encoded, environment, photo, tree, write_photos, write_zip

pytest.importorskip("ray", reason="Ray is not installed (extra ray)")
pytestmark = pytest.mark.nightly


def plain_command() -> list[str]:
    """Without `-W error`: Ray warns of itself."""
    return [word for word in command() if word not in ("-W", "error")]


def workers_of(process: int) -> list[int]:
    """Ray's processes with a bundle in them, below a process."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):  # it has just ended
                name = (entry / "cmdline").read_bytes()
                if name.startswith(b"ray::") and b"LabelWorker" in name and _is_below(int(entry.name), process):
                    found.append(int(entry.name))
    return found


def _is_below(number: int, ancestor: int) -> bool:
    while number > 1:
        number = int(Path(f"/proc/{number}/stat").read_text().rsplit(")", 1)[1].split()[1])
        if number == ancestor:
            return True
    return False


def done(folder: Path) -> int:
    """Pictures in records and journals."""
    count = 0
    for path in folder.glob(".ovs-label/records/*"):
        with suppress(FileNotFoundError):  # a journal that has just become a shard
            count += path.read_bytes().count(b"\n")
    return count


def test_two_workers_of_which_one_is_killed_write_what_one_process_writes(tiny_bundle: Path, tmp_path: Path) -> None:
    source = write_photos(tmp_path / "in", 3000)
    (source / "bad.jpg").write_bytes(BAD)
    write_zip(source / "more.zip", {f"{index}.png": encoded(photo("red")) for index in range(50)})
    words = [*plain_command(), "in", "--classes", "red,green", "--model", str(tiny_bundle), "--format", "masks",
             "--shard-size", "40", "--skip-errors"]  # fmt: skip
    ray = ["--ray", "local", "--concurrency", "2", "--num-cpus", "1"]
    subprocess.run([*words, "-o", "local"], cwd=tmp_path, env=environment(), check=True, timeout=600)
    killed: list[int] = []
    with subprocess.Popen([*words, "-o", "ray", *ray], cwd=tmp_path, env=environment()) as process:
        while process.poll() is None:
            if not killed and done(tmp_path / "ray") > 300 and (found := workers_of(process.pid)):
                os.kill(found[0], signal.SIGKILL)
                killed = found[:1]
            time.sleep(0.02)
    assert process.returncode == 0 and killed, "no worker could be killed"
    assert tree(tmp_path / "ray") == tree(tmp_path / "local")


def test_a_cluster_that_is_not_there(tiny_bundle: Path, tmp_path: Path) -> None:
    source = write_photos(tmp_path / "in", 1)
    words = [
        *plain_command(),
        str(source),
        "--classes",
        "red",
        "--model",
        str(tiny_bundle),
        "-o",
        str(tmp_path / "out"),
    ]
    ran = subprocess.run([*words, "--ray", "127.0.0.1:1"], env=environment(), capture_output=True, text=True,
                         check=False, timeout=300)  # fmt: skip
    assert ran.returncode == 2 and "cannot use a Ray cluster at '127.0.0.1:1'" in ran.stderr.splitlines()[-1]
    assert "Traceback" not in ran.stderr
