"""Editors resolve every import of ours in a bare clone: nothing of it is installed for them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


# Every import of the package is followed by path in test_packaging.py; here, that an editor does the same: in the public
# API, in rooms of one and two levels, lazily and for types, in tests with their own helpers, and in examples.
READ = ("api", "runtime/capture", "runtime/segmenter.py", "data", "examples", "tests/docs", "tests/runtime/capture")


@pytest.mark.slow
def test_imports_resolve_without_an_installation(tmp_path: Path) -> None:
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("needs git and a checkout, to copy what is tracked and nothing else")
    clone = tmp_path / "clone"
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True).stdout
    for name in filter(None, listed.split("\0")):
        if name.endswith((".py", ".toml", "py.typed")) or name.startswith("typings/"):
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, clone / name, follow_symlinks=False)
    bare = tmp_path / "bare"  # an environment without packages: those of others are then missing, ours must not be
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(bare)], check=True)
    command = [str(Path(sys.executable).parent / "basedpyright"), "--pythonpath", str(bare / "bin" / "python")]
    done = subprocess.run([*command, "--outputjson", *READ], cwd=clone, capture_output=True, text=True, check=False)
    found = json.loads(done.stdout)["generalDiagnostics"]
    assert found, "packages of others should be missing here"
    ours = [item for item in found if item["message"].startswith(('Import "ovs_edge', 'Import ".', 'Import "support'))]
    assert ours == []
