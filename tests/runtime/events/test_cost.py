"""What tracking, zones and rules cost beside the rest of a frame, in processor time, in turn in one run."""

from __future__ import annotations

import statistics
import time

import numpy as np
import pytest
from skimage import data
from support.moving import prediction

from ovs_edge.runtime.events.config import parse_watch
from ovs_edge.runtime.events.engine import EventEngine
from ovs_edge.runtime.segmenter import Segmenter


@pytest.mark.nightly
def test_twenty_regions_in_five_zones_cost_a_tenth_of_a_frame_at_most() -> None:
    image = np.ascontiguousarray(data.astronaut()[:480, :, ::-1])
    image = np.ascontiguousarray(np.concatenate([image, image[:, :128]], axis=1))  # 640x480
    zones = {f"z{i}": {"points": [[i / 5, 0], [i / 5 + 0.2, 0], [i / 5 + 0.2, 1], [i / 5, 1]]} for i in range(5)}
    rules = [*(f"person in z{i}" for i in range(5)), "person crosses middle", "coverage(car in z1) > 5%"]
    lines = {"middle": {"points": [[0.5, 0], [0.5, 1]]}}
    engine = EventEngine(parse_watch({"zones": zones, "lines": lines, "rules": rules}, "test"))
    frames, events, seen = [], [], 0
    with Segmenter.load(precision="auto") as segmenter:
        segmenter.set_classes("person,car")
        for frame in range(60):
            at = 2 * frame % 40
            places = [(i, row) for i in range(5) for row in range(2)]
            people = [(20 + 60 * i + at, 20 + 120 * row, 50 + 60 * i + at, 100 + 120 * row) for i, row in places]
            cars = [(330 + 60 * i - at, 20 + 120 * row, 370 + 60 * i - at, 60 + 120 * row) for i, row in places]
            known = prediction({"person": people, "car": cars}, size=(480, 640))
            start = time.process_time()
            segmenter.predict(image)
            between = time.process_time()
            alone = time.thread_time()  # the network's threads spin for a while after a frame: that is not ours
            seen = len(engine.update(frame / 25, known, image=image).prediction.tracks)
            frames.append(between - start)
            events.append(time.thread_time() - alone)
    assert seen == 20
    assert statistics.median(events) <= 0.1 * statistics.median(frames)
