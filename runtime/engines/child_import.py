"""Imports in a child process, for what might crash or hang when imported."""

from __future__ import annotations

import subprocess
import sys

PATIENCE = 20.0  # seconds for a child process; the first import after an installation is slow


def import_in_child(module: str, code: str = "") -> tuple[bool, str]:
    """Import `module` in a child process and run `code`: whether that worked, and its output or the reason."""
    try:
        ran = subprocess.run(
            [sys.executable, "-c", f"import {module}\n{code}"],
            capture_output=True, text=True, timeout=PATIENCE, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return False, f"importing {module} takes longer than {PATIENCE:g} s"
    except OSError as error:
        return False, str(error)
    if ran.returncode == 0:
        return True, ran.stdout.strip()
    if ran.returncode < 0:
        return False, f"importing {module} crashes (signal {-ran.returncode})"
    last = ran.stderr.strip().splitlines()[-1:] or [f"exit code {ran.returncode}"]
    return False, last[0][:300]
