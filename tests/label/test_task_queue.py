"""The queue between the thread that lists pictures and those that label them."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from support.label_job import write_photos

from ovs_edge.bundle.errors import SinkError, SourceError
from ovs_edge.label.formats.label_writer import LabelWriter, WriterOptions
from ovs_edge.label.geometry.regions import LabelledRegion
from ovs_edge.label.inputs.pictures import InputPicture
from ovs_edge.label.inputs.units import Item, Unit, UnitKind
from ovs_edge.label.job import LabelJob, Shard
from ovs_edge.label.labeller import Machine, UnitLabeller, load_segmenter
from ovs_edge.label.options import LabelOptions
from ovs_edge.label.run import settings_of
from ovs_edge.label.store import LocalStore, Store
from ovs_edge.label.task_queue import PIXELS, PictureTask, TaskQueue

_PATIENCE = 60  # seconds for a thread on a busy machine


def _unread() -> InputPicture:
    raise SourceError("nobody reads it")


def _task(shard: Shard, index: int, pixels: int = 0) -> PictureTask:
    return PictureTask(shard, index, Item(f"{index}", f"{index}.jpg"), f"{index}.jpg", _unread, pixels)


@pytest.fixture
def shard(tmp_path: Path) -> Shard:
    return Shard(LocalStore(tmp_path), LabelWriter(WriterOptions(("cat",))), 0, 0, lambda: None)


def test_each_thread_takes_its_share(shard: Shard) -> None:
    queue = TaskQueue(4)
    for index in range(40):
        queue.put(_task(shard, index))
    queue.close()
    taken = [queue.take() for _ in range(20)]
    assert [task.index for tasks in taken for task in tasks] == list(range(40))
    assert [len(tasks) for tasks in taken] == [10, 8, 6, 4, 3, 3, 2, 1, 1, 1, 1] + 9 * [0]


def test_frames_wait_by_their_pixels(shard: Shard) -> None:
    queue = TaskQueue(1)
    for index in range(2):
        queue.put(_task(shard, index, PIXELS - 1))
    waiting = threading.Thread(target=queue.put, args=(_task(shard, 2, 1),), daemon=True)
    waiting.start()
    waiting.join(0.05)
    assert waiting.is_alive()
    assert [task.index for task in queue.take()] == [0, 1]
    waiting.join(_PATIENCE)
    assert not waiting.is_alive() and [task.index for task in queue.take()] == [2]


def test_a_failure_frees_who_waits_for_room(shard: Shard) -> None:
    queue = TaskQueue(1)
    found: list[BaseException] = []

    def fill() -> None:
        try:
            while True:
                queue.put(_task(shard, 0))
        except SinkError as error:
            found.append(error)

    waiting = threading.Thread(target=fill, daemon=True)
    waiting.start()
    first = SinkError("the disk is full")
    queue.fail(first)
    queue.fail(SinkError("again"))
    waiting.join(_PATIENCE)
    assert found == [first]
    queue.close()
    assert queue.take() == []


class _FullDisk(LabelWriter):
    """Writes two pictures, then no more."""

    written = 0

    def write_picture(
        self, store: Store, picture: InputPicture, regions: Sequence[LabelledRegion], file: str | None
    ) -> None:
        """Raises `SinkError`."""
        self.written += 1
        if self.written > 2:
            raise SinkError("the disk is full")


def test_what_cannot_be_written_ends_the_run(tiny_bundle: Path, tmp_path: Path) -> None:
    paths = sorted(write_photos(tmp_path / "in", 100).iterdir())
    store = LocalStore(tmp_path / "out")
    writer = _FullDisk(WriterOptions(("red",)))
    unit = Unit(0, UnitKind.PHOTOS, tuple(Item(path.stem, str(path)) for path in paths))
    with load_segmenter(Machine(str(tiny_bundle)), None, "fp32") as segmenter:
        segmenter.set_classes("red")
        settings = settings_of(LabelOptions((), "red", str(tmp_path / "out"), model=tiny_bundle), segmenter)
        job = LabelJob.begin(store, settings)
        with pytest.raises(SinkError, match="the disk is full"):
            UnitLabeller(segmenter, settings, store, writer).run([unit], job.state)
    assert writer.written < 10 and not list((tmp_path / "out/.ovs-label/records").glob("*.jsonl"))
