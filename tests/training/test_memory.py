"""A training process keeps the memory that a step frees."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

# Pages that the system clears for ten maps of 64 MiB, one after the other.
SCRIPT = """
import resource, sys
import torch
from ovs_edge.training.run import keep_memory
if sys.argv[1] == "keep":
    keep_memory()
for _ in range(10):  # until the heap is as large as it has to be
    torch.ones(2**24)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    torch.ones(2**24)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the allocator is not glibc's")
def test_freed_maps_are_used_again_without_being_cleared() -> None:
    cleared, kept = (
        int(subprocess.run([sys.executable, "-c", SCRIPT, mode], capture_output=True, check=True, timeout=120).stdout)
        for mode in ("plain", "keep")
    )
    assert kept < cleared / 10
