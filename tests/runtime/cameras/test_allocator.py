"""Threads and cameras that come and go leave no memory behind."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

_CHURN = """
import re, sys, threading
from pathlib import Path
from ovs_edge.runtime.cameras.allocator import limit_heaps

if sys.argv[1] == "limited":
    assert limit_heaps()
barrier = threading.Barrier(24)

def work():
    barrier.wait()
    kept = [bytearray(100_000) for _ in range(40)]
    barrier.wait()

threads = [threading.Thread(target=work) for _ in range(24)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(len(re.findall(r"rw-p 00000000 00:00 0 *\\n[^\\n]*---p 00000000 00:00 0 *\\n", Path("/proc/self/maps").read_text())))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc, which has these heaps")
def test_threads_share_a_few_heaps() -> None:
    def heaps(how: str) -> int:
        command = [sys.executable, "-c", _CHURN, how]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
        ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True, env=environment)
        return int(ran.stdout)

    assert heaps("limited") < heaps("free")


_HOLES = """
import re
from pathlib import Path
from ovs_edge.runtime.cameras.allocator import give_back

def resident():
    return int(re.search(r"VmRSS:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])

blocks = [bytearray(b"x" * 100_000) for _ in range(600)]
del blocks[::2]  # 30 MB between what is kept
before = resident()
assert give_back()
print(before - resident())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc, which keeps what is free")
def test_what_is_free_goes_back_to_the_system() -> None:
    ran = subprocess.run([sys.executable, "-c", _HOLES], capture_output=True, text=True, timeout=120, check=True)
    assert int(ran.stdout) > 20_000  # kilobytes
