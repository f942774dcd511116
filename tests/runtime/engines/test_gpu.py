"""The engines on an NVIDIA GPU, against the CPU; skipped where there is none."""

from __future__ import annotations

import numpy as np
import pytest

from ovs_edge.runtime.engines.onnx_runtime import cuda_obstacle
from ovs_edge.runtime.segmenter import Segmenter

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("provider", ["cuda", "cuda-graphs"])
def test_labels_are_those_of_the_cpu(provider: str) -> None:
    if (obstacle := cuda_obstacle()) is not None:
        pytest.skip(obstacle.text)
    image = np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8).repeat(30, 0).repeat(30, 1)
    found = []
    for name in ("cpu", provider):
        with Segmenter.load(provider=name, threshold=0.0) as segmenter:
            segmenter.set_classes("sky,road,cat|kitten")
            found.append(segmenter.predict(image))
    assert (found[0].labels == found[1].labels).mean() >= 0.999
    assert np.abs(found[0].confidence - found[1].confidence).mean() < 1e-3
