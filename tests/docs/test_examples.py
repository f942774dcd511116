"""Every example runs, is short, and says how it is run."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from skimage import data

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
MAKES = {"photo.py": "masks/dining table.png", "cut_out.py": "cup.png", "detections.py": "out.png"}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_example_runs_as_its_docstring_says(example: Path, tmp_path: Path) -> None:
    text = example.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 40
    command = re.search(r"^Usage: python examples/(.*)$", text, re.MULTILINE)
    assert command is not None
    photo = np.ascontiguousarray(data.coffee()[:, :, ::-1])
    cv2.imwrite(str(tmp_path / "photo.jpg"), photo)
    writer = cv2.VideoWriter(str(tmp_path / "clip.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 10, (160, 120))
    for shift in range(4):
        writer.write(np.ascontiguousarray(np.roll(cv2.resize(photo, (160, 120)), 8 * shift, 1)))
    writer.release()
    words = [sys.executable, "-W", "error", str(ROOT / "examples" / example.name), *shlex.split(command[1])[1:]]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    made = MAKES.get(example.name)
    assert made is None or (tmp_path / made).stat().st_size > 0
