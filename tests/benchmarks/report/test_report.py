"""Views of results: plots, and one page that needs nothing else."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from ovs_edge.benchmarks.cli import main
from ovs_edge.benchmarks.report.report import END, START, section

pytest.importorskip("matplotlib", reason="matplotlib is not installed, and draws the plots")

ENVIRONMENT = {
    "packages": {"onnxruntime": "1.0"},
    "date": "2026-01-01",
    "cores": 2,
    "processor": "a <b>",
    "python": "3.11",
}


def _row(precision: str, classes: int | None, ms: float, *, stages: bool = True) -> dict[str, Any]:
    spread = {"p50": ms, "p90": 1.1 * ms, "p99": 1.2 * ms}
    network = {"p50": 0.8 * ms, "p90": ms, "p99": ms}
    subject = {
        "model": "mini" if classes else "<script>alert(1)</script>", "backend": "cpu" if classes else "peer",
        "precision": precision, "input_size": [384, 384], "decoder_layers": 3, "classes": classes, "threads": 2,
    }  # fmt: skip
    rng = np.random.default_rng(0)
    return {
        "subject": subject, "title": f"mini {precision} {classes}", "fps": 9.0,
        "bundle_digest": "d1" if classes else None,
        "total": spread, "stages": {"infer": network, "overlay": {"p50": 0.2 * ms}} if stages else {}, "doubts": [],
        "rounds": {"total": rng.normal(ms, 1, (12, 4)).tolist()},
    }  # fmt: skip


@pytest.fixture
def results(tmp_path: Path) -> Path:
    rows = [_row("fp32", 2, 50), _row("fp32", 20, 60), _row("int8-cpu", 20, 40), _row("", None, 99, stages=False)]
    speed = {"rows": rows, "starts": [], "conditions": {"warnings": ["busy machine"]}}
    scores = [
        {"dataset": "msrc", "stage": stage, "classes": 3, "photos": 2, "miou": miou, "pixel_accuracy": 0.9}
        for stage, miou in (("fp32", 0.8), ("int8-cpu", 0.79))
    ]
    documents = {
        "speed": {"speed": speed},
        "accuracy": {"accuracy": scores, "bundle": "mini", "bundle_digest": "d1", "precision": "fp32"},
    }
    folder = tmp_path / "results"
    folder.mkdir()
    for name, document in documents.items():
        whole = {"command": f"ovs-bench {name}", "environment": ENVIRONMENT, **document}
        (folder / f"{name}.json").write_text(json.dumps(whole))
    return folder


def _report(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["ovs-bench", "report", *map(str, arguments)])
    with pytest.raises(SystemExit) as exit:
        main()
    return int(exit.value.code or 0)


def test_the_page_needs_nothing_else(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = results.parent / "page.html"
    assert _report(monkeypatch, "--results", results, "--html", page) == 0
    text = page.read_text()
    assert text.count("data:image/png;base64,") == 3
    assert text.count("<table>") == 3
    assert not re.search(r"""(src|href)=["'](?!data:)""", text)
    assert "<script>" not in text
    assert "&lt;script&gt;" in text
    assert "a <b>" not in text
    assert "Warnings during the measurement: busy machine" in text


def test_columns_of_what_was_measured(results: Path) -> None:
    """Age, energy and GPU memory are shown where a row has them, and take no place where none has."""
    path = results / "speed.json"
    document = json.loads(path.read_text())
    start = {
        "model": "mini", "precision": "fp32", "backend": "cuda", "input_size": [384, 384], "first_labels_ms": 900.0,
        "first_names_ms": 200.0, "new_names_ms": 15.0, "known_names_ms": 1.0, "peak_mib": 300.0, "gpu_mib": None,
    }  # fmt: skip
    document["speed"]["starts"] = [start]
    text = section(document)
    assert "| FPS |\n" in text
    assert "| memory |\n" in text
    assert "live" not in text
    document["speed"]["rows"][0] |= {"live": {"fps": 15.0, "age_ms": 66.4}, "joules": None}
    document["speed"]["rows"][1] |= {"live": {"fps": 14.0, "age_ms": 71.6}, "joules": 0.5123}
    start["gpu_mib"] = 812.3
    text = section(document)
    assert "milliseconds; live:" in text
    assert "| FPS | age, live | J a frame |" in text
    assert "| 9.0 | 66 |  |" in text
    assert "| 9.0 | 72 | 0.512 |" in text
    assert "| memory | GPU memory |" in text
    assert "| 300 MiB | 812 MiB |" in text


def test_refined_labels_are_told_apart(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the title; and in the plot of speed and accuracy they have no place, since refinement takes time."""
    path = results / "accuracy.json"
    document = json.loads(path.read_text())
    assert "`--refine-edges`" not in section(document)
    document["refinement"] = {"edges": True, "least_region": 0.001}
    path.write_text(json.dumps(document))
    assert "fp32, `--refine-edges`, `--min-region 0.001`, validation photos" in section(document)
    folder = results.parent / "plots"
    assert _report(monkeypatch, "--results", results, "--plots", folder) == 0
    assert sorted(path.name for path in folder.iterdir()) == ["speed_over_time.png", "speed_stages.png"]


def test_plots_are_pictures(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = results.parent / "plots"
    assert _report(monkeypatch, "--results", results, "--plots", folder) == 0
    assert sorted(path.name for path in folder.iterdir()) == ["front.png", "speed_over_time.png", "speed_stages.png"]
    for path in folder.iterdir():
        image = cv2.imread(str(path))
        assert image is not None
        assert image.shape[1] > 600
        assert len(np.unique(image)) > 20


def test_sections_of_markdown_files(
    results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A marker without names takes all results, one with names takes those; other text stays."""
    named = START.replace("figures:", "figures of accuracy:")
    page, other = results.parent / "page.md", results.parent / "README.md"
    page.write_text(f"# A\n\n{named}\nold\n{END}\n\nbetween\n\n{START}\n{END}\nend\n")
    other.write_text("no marker")
    assert _report(monkeypatch, "--results", results, "--readme", page) == 0
    text = page.read_text()
    first, second = text.split("between")
    assert "old" not in text
    assert text.startswith(f"# A\n\n{named}\n\n**Accuracy of `mini`")
    assert text.endswith("end\n")
    assert "Latency of a frame" not in first
    assert "Latency of a frame" in second
    assert "Accuracy of" in second
    capsys.readouterr()
    assert _report(monkeypatch, "--results", results, "--update", page) == 0
    assert "is up to date" in capsys.readouterr().out
    assert _report(monkeypatch, "--results", results, "--readme", other) == 2
    assert "no section for the tables" in capsys.readouterr().err
    page.write_text(f"{named.replace('accuracy', 'acuracy')} {END}")
    assert _report(monkeypatch, "--results", results, "--readme", page) == 2
    assert "names the result 'acuracy', and" in capsys.readouterr().err


def test_no_page_without_results(
    results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (results / "odd.json").write_text('{"speed": 1}')
    page = results.parent / "page.html"
    assert _report(monkeypatch, "--results", results, "--html", page) == 2
    assert "odd.json is not a result" in capsys.readouterr().err
    assert not page.exists()
