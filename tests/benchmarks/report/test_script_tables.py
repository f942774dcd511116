"""Tables of results that scripts write."""

from __future__ import annotations

from ovs_edge.benchmarks.report.report import section

ENVIRONMENT = {
    "packages": {"onnxruntime": "1.0"}, "date": "2026-01-01", "cores": 2, "processor": "a processor", "python": "3.11",
}  # fmt: skip


def test_exports_of_plain_clip() -> None:
    parity = [
        {"labels_equal": 1.0, "confidence_most": 1e-6},
        {"labels_equal": 0.99999, "confidence_most": 2.6e-6},
    ]
    measured = {
        "case": "B-32 whole 224x224", "onnx_ms": 40, "torch_ms": 84, "ratio": 2.1, "runtime_peak_gib": 0.5,
        "parity": parity, "fp16_labels_mean": 0.995, "fp16_labels_worst": 0.98, "plan_seconds": 2.4, "plan_mib": 170.3,
    }  # fmt: skip
    partly = {"case": "B-16 whole 224x224", "onnx_ms": 118, "torch_ms": 312, "ratio": 2.64, "runtime_peak_gib": 0.6}
    found = section({"command": "scripts/clip-table", "environment": ENVIRONMENT, "clip_exports": [measured, partly]})
    assert "| B-32 whole 224x224 | 40 ms | 84 ms | 2.10 | 0.50 GiB |" in found
    assert "| B-32 whole 224x224 | 100.00% | 3e-06 | 99.50% | 98.00% | 2 s, 170 MiB |" in found
    assert "| B-16 whole 224x224 |  |  |  |  |  |" in found


def test_limits_of_a_model() -> None:
    rows = [
        {"data": "msrc", "measured": "train", "photos": 60, "miou": 0.9275, "boundary_iou": 0.5758, "person": None},
        {"data": "voc", "measured": "val", "photos": 206, "miou": 0.5, "boundary_iou": 0.25, "person": 0.6},
    ]
    found = section({"command": "x", "environment": ENVIRONMENT, "bundle": "mini", "limits": rows})
    assert "**What limits mini**" in found
    assert (
        "| msrc | train | 60 | 0.927 | 0.576 |  |" in found and "| voc | val | 206 | 0.500 | 0.250 | 0.600 |" in found
    )
