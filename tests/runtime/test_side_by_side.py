"""Several frames of a recording under way at once, and what puts them in order again."""

from __future__ import annotations

import functools
import json
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support.pipeline_parts import Notes, Recording, camera, pretend

from ovs_edge.bundle.processor import usable_cores
from ovs_edge.runtime.capture.live.live_source import LiveSource
from ovs_edge.runtime.draw.overlay import Style
from ovs_edge.runtime.inference.frame_processor import ActiveClasses, Inferred, Prepared
from ovs_edge.runtime.inference.prediction import Prediction
from ovs_edge.runtime.pipeline import run
from ovs_edge.runtime.segmenter import Segmenter
from ovs_edge.runtime.threads.channel import Channel, Ended


@pytest.fixture
def model(tiny_bundle: Path) -> Callable[..., Segmenter]:
    """See `pretend`."""
    return functools.partial(pretend, tiny_bundle)


def test_several_frames_at_once_stay_in_order(model: Callable[..., Segmenter]) -> None:
    """Whatever overtakes what: each network run takes another time."""
    rng, done = random.Random(7), []
    segmenter = model(at_once=3)
    infer = segmenter.infer

    def uneven(prepared: Prepared, active: ActiveClasses | None = None) -> Inferred:
        inferred = infer(prepared, active)
        time.sleep(rng.random() * 0.01)
        done.append(int(prepared.image[0, 0, 0]))
        return inferred

    segmenter.infer = uneven  # type: ignore[method-assign]
    source, sink = Recording(200), Notes(pictures=True)
    assert run(source, segmenter, [sink], Style()).frames == 200
    assert sink.indices == list(range(200)) and sorted(done) == list(range(200))
    assert done != sorted(done)  # so they did overtake each other
    assert not [thread for thread in threading.enumerate() if thread.name == "infer"]


def test_several_at_once_are_that_much_faster(model: Callable[..., Segmenter]) -> None:
    one, three = (run(Recording(60), model(0.02, at_once=count), [Notes()], Style()).seconds for count in (1, 3))
    assert three < one / 2


def test_of_a_camera_one_frame_at_a_time(model: Callable[..., Segmenter]) -> None:
    running, most = [0], [0]
    segmenter = model(0.01, at_once=3)
    infer = segmenter.infer

    def counted(prepared: Prepared, active: ActiveClasses | None = None) -> Inferred:
        running[0] += 1
        most[0] = max(most[0], running[0])
        try:
            return infer(prepared, active)
        finally:
            running[0] -= 1

    segmenter.infer = counted  # type: ignore[method-assign]
    run(LiveSource("camera", camera(0.002)), segmenter, [Notes()], Style(), max_frames=20)
    assert most == [1]


def test_classes_change_in_the_order_of_the_frames(model: Callable[..., Segmenter]) -> None:
    """Also where frames are inferred at the same time, none goes back to the names before."""
    segmenter, versions = model(0.003, at_once=3), []
    plain = segmenter.finish

    def finish(inferred: Inferred) -> Prediction:
        versions.append(inferred.active.version)
        return plain(inferred)

    segmenter.finish = finish  # type: ignore[method-assign]
    sink = Notes()
    sink.hook = lambda frame: frame.index % 5 or segmenter.set_classes(f"one,thing {frame.index}") or True  # type: ignore[func-returns-value]
    run(Recording(150), segmenter, [sink], Style())
    assert versions == sorted(versions) and len(set(versions)) > 20


def test_a_clip_is_the_same_however_many_frames_at_a_time(tmp_path: Path) -> None:
    """The embedded model on real pictures, labels smoothed."""
    found = {}
    for threads in (1, 2):
        output = tmp_path / f"{threads}.jsonl"
        options = ["--source", "demo", "--classes", "person,cat,cup,sky", "--max-frames", "30", "--smooth", "0.9"]
        command = [sys.executable, "-c", "from ovs_edge.runtime.cli import main; main()", *options]
        ran = subprocess.run(
            [*command, "--json", str(output), "--threads", str(threads)],
            capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
        assert ("2 frames at a time" in ran.stdout) == (threads == 2 and usable_cores() > 1), ran.stdout
        lines = [json.loads(line) for line in output.read_text().splitlines()]
        found[threads] = [(line["index"], line["classes"]) for line in lines]
    assert found[1] == found[2] and len(found[1]) == 30


def test_a_channel_keeps_order_and_bounds() -> None:
    queue: Channel[int] = Channel(2)
    written: list[int] = []

    def write() -> None:
        for item in range(100):
            queue.put(item)
            written.append(item)
        queue.finish()

    writer = threading.Thread(target=write)
    writer.start()
    received = []
    for item in queue:
        assert len(written) <= len(received) + 4
        received.append(item)
    writer.join()
    assert received == list(range(100)) and queue.replaced == 0
    with pytest.raises(Ended):
        queue.get()


def test_items_with_places_come_in_their_order() -> None:
    queue: Channel[int] = Channel(2)
    places = [queue.place() for _ in range(3)]
    early = threading.Thread(target=lambda: queue.put(1, places[1]))
    late = threading.Thread(target=lambda: queue.put(2, places[2]))
    late.start(), early.start()
    assert queue.get(0.05) is None  # what came early waits for the first
    queue.put(0, places[0])
    assert [queue.take() for _ in range(3)] == [0, 1, 2]
    waiting = threading.Thread(target=lambda: pytest.raises(Ended, queue.put, 9, queue.place() + 2))
    waiting.start()
    queue.cancel()
    waiting.join(5)
    assert not waiting.is_alive()


def test_a_slot_keeps_the_newest_and_a_cancelled_one_nothing() -> None:
    slot: Channel[int] = Channel(newest=True)
    for item in range(5):
        slot.put(item)
    assert (slot.get(), slot.get(0.001), slot.replaced) == (4, None, 4)
    slot.put(5)
    slot.cancel()
    for call in (slot.get, lambda: slot.put(6)):
        with pytest.raises(Ended):
            call()
    slot.wait_taken(10)  # returns at once
