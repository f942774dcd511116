"""What is read back from a bundle's own report may be anything."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ovs_edge.calibration.quantize.calibrate import _earlier


@pytest.mark.parametrize(
    "content", ["", "{}", "[]", "null", '{"precisions": 3}', '{"precisions": {"fp16": 1}}', "[" * 100_000]
)
def test_a_report_that_is_none_is_left_out(tmp_path: Path, content: str) -> None:
    (tmp_path / "calibration.json").write_text(content)
    assert _earlier(tmp_path / "calibration.json") == {}


def test_entries_of_an_earlier_report_stay(tmp_path: Path) -> None:
    entries: dict[str, Any] = {"fp16": {"groups": []}, "int8": {"groups": [{"name": "heads"}]}}
    (tmp_path / "calibration.json").write_text(json.dumps({"precisions": entries}))
    assert _earlier(tmp_path / "calibration.json") == entries
    assert _earlier(tmp_path / "absent.json") == {}
