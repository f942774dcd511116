"""Labels units of work: pictures are read, decoded, inferred and written by several threads, many at a time.

    this thread ──► a queue ──► threads: read, decode, infer (as many at once as the engine takes), write

Reading the frames of a video is this thread's work, since they come one after another. Pictures of the next shard begin
while the last ones of a shard are under way, so the network never waits; a shard is written when all of it is there.
"""

from __future__ import annotations

import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from ..bundle.errors import SourceError
from ..bundle.vocabulary import parse_class_entries
from ..runtime.capture.video_files.video_source import VideoSource
from ..runtime.frame import Frame
from ..runtime.inference.refinement import Refinement
from ..runtime.opencv import cv2
from ..runtime.segmenter import Segmenter
from .formats.label_writer import LabelWriter, WriterOptions
from .formats.registry import open_writer
from .formats.shape import Shape
from .geometry.regions import LabelledRegion, regions_of
from .inputs.loading import PictureLoader, source_of
from .inputs.pictures import InputPicture
from .inputs.places import is_remote, open_file
from .inputs.sampling import Sampling
from .inputs.units import Item, Unit, UnitKind
from .job import Shard, UnitState
from .records import PictureRecord, record_of
from .settings import LabelSettings, Photos
from .store import Store
from .task_queue import PIXELS, PictureTask, TaskQueue

_AHEAD = 2  # threads besides those that wait for the network: they read, decode and write meanwhile

_Result = TypeVar("_Result")

OnPicture = Callable[[bool], None]  # hears of each picture whether it was labelled


@dataclass(frozen=True)
class Machine:
    """What a labeller may use."""

    model: str | None = None  # bundle folder; None: the embedded one
    threads: int = 0  # of the CPU; 0: one per core
    provider: str = "auto"
    plan: str | None = None  # folder of a TensorRT plan
    force: bool = False  # run a precision even if it failed its comparison


def load_segmenter(machine: Machine, settings: LabelSettings | None, precision: str, **changes: object) -> Segmenter:
    """The bundle's segmenter with frames side by side; with `settings`, those."""
    options: dict[str, object] = {}
    if settings is not None:
        options = {
            "background": settings.background,
            "threshold": settings.threshold,
            "task": settings.task,
            "stuff": settings.stuff,
            "exact_words": settings.exact_words,
            "sensitivity": settings.sensitivity,
            "refinement": Refinement(edges=settings.refine_edges, least_region=settings.min_region),
        }
    return Segmenter.load(
        machine.model,
        precision,
        machine.threads,
        machine.provider,
        plan=machine.plan,
        force=machine.force,
        side_by_side=True,
        **{**options, **changes},  # type: ignore[arg-type]
    )


def writer_of(settings: LabelSettings) -> LabelWriter:
    """The writer of a job's format. Raises `UsageError`, `MissingExtraError`."""
    labels = tuple(entry.label for entry in parse_class_entries(settings.classes, len(settings.classes)))
    return open_writer(
        settings.format, WriterOptions(labels, Shape(settings.shape), settings.simplify, settings.digest)
    )


class UnitLabeller:
    """A loaded bundle that labels units."""

    def __init__(self, segmenter: Segmenter, settings: LabelSettings, store: Store, writer: LabelWriter) -> None:
        self._segmenter = segmenter
        self._settings = settings
        self._store = store
        self._writer = writer
        self._sampling = Sampling.parse(settings.every)
        self._loader = PictureLoader(store)
        photos = Photos(settings.photos)
        if photos is Photos.AUTO:
            photos = Photos.LINK if writer.with_pictures else Photos.NONE
        self._photos = photos
        self._threads = segmenter.at_once + _AHEAD

    def run(
        self,
        units: Iterable[Unit],
        state: Callable[[Unit], UnitState],
        on_picture: OnPicture = lambda labelled: None,
    ) -> None:
        """Label what is left of the units. Raises the first error that is not a picture's own."""
        queue = TaskQueue(self._threads)
        shards: set[Shard] = set()  # that are not written yet
        pool = ThreadPoolExecutor(self._threads, "label")

        def new_shard(unit: Unit, number: int) -> Shard:
            shard = Shard(self._store, self._writer, unit.number, number, lambda: shards.discard(shard))
            shards.add(shard)
            return shard

        try:
            for _ in range(self._threads):
                pool.submit(self._work, queue, on_picture)
            for unit in units:
                if unit.kind is UnitKind.VIDEO:
                    self._video(unit, state(unit), new_shard, queue.put)
                    continue
                shard = new_shard(unit, 0)
                for index, item in enumerate(unit.items):
                    if shard.begin(index):
                        load = partial(self._loader.read, unit, item)
                        queue.put(PictureTask(shard, index, item, source_of(unit, item), load))
                shard.close(last=True)
        except BaseException as error:
            queue.fail(error)
            raise
        finally:
            queue.close()
            pool.shutdown()
            self._loader.close()
            for shard in list(shards):
                shard.abandon()
        if queue.error is not None:
            raise queue.error

    def _work(self, queue: TaskQueue, on_picture: OnPicture) -> None:
        """What a thread does until there is nothing more to do."""
        try:
            while tasks := deque(queue.take()):
                while tasks and queue.error is None:
                    for task, record in self._label_some(tasks):
                        task.shard.add(task.index, record)
                        on_picture(record.error is None)
        except BaseException as error:  # noqa: BLE001 - raised in the caller's thread
            queue.fail(error)

    def _label_some(self, tasks: deque[PictureTask]) -> list[tuple[PictureTask, PictureRecord]]:
        """Take the first of the tasks, each step for all of them in turn; large pictures are taken by themselves."""
        records: list[tuple[PictureTask, PictureRecord]] = []
        pixels = 0

        def tried(task: PictureTask, step: Callable[[], _Result]) -> _Result | None:
            try:
                return step()
            except SourceError as error:
                problem = str(error)
            except (cv2.error, MemoryError) as error:
                problem = f"{task.source} cannot be labelled ({str(error)[:200]})"
            records.append((task, PictureRecord(task.item.name, task.source, error=problem)))
            return None

        prepared = []
        while tasks and pixels < PIXELS:
            task = tasks.popleft()
            picture = tried(task, task.load)
            if picture is None:
                continue
            pixels += picture.image.size // 3
            ready = tried(task, partial(self._segmenter.prepare, picture.image))
            if ready is not None:
                prepared.append((task, picture, ready))
        inferred = [
            (task, picture, answer)
            for task, picture, ready in prepared
            if (answer := tried(task, partial(self._segmenter.infer, ready))) is not None
        ]
        for task, picture, answer in inferred:
            prediction = tried(task, partial(self._segmenter.finish, answer))
            if prediction is not None:
                records.append((task, self._write(picture, regions_of(prediction))))
        return records

    def _write(self, picture: InputPicture, regions: tuple[LabelledRegion, ...]) -> PictureRecord:
        file = self._keep(picture)
        self._writer.write_picture(self._store, picture, regions, file)
        return record_of(picture, regions, file, polygons=self._writer.polygons, tolerance=self._settings.simplify)

    def _keep(self, picture: InputPicture) -> str | None:
        """Write the picture beside its labels; its name in the store."""
        if self._photos is Photos.NONE:
            return None
        name = f"{picture.name}{picture.stored_as}"
        file = f"{self._writer.folder}/{name}" if self._writer.folder else name
        own = picture.path if self._photos is Photos.LINK and not picture.turned else None
        self._store.put(file, own, picture.encoded())
        return file

    def _video(
        self,
        unit: Unit,
        state: UnitState,
        new_shard: Callable[[Unit, int], Shard],
        put: Callable[[PictureTask], None],
    ) -> None:
        """Shards of the chosen frames; those that are done are decoded again, but not inferred."""
        [item] = unit.items
        source, size = source_of(unit, item), self._settings.shard_size
        chooser = self._sampling.chooser()
        notes: list[str] = []
        shard, number, index = None, state.shards, 0
        try:
            with _local_copy(item.place) as place:
                frames = VideoSource(place, notes.append)
                try:
                    for frame in frames:
                        if not chooser.takes(frame.image, frame.time):
                            continue
                        if index >= state.shards * size:
                            if index == (number + 1) * size:
                                assert shard is not None
                                shard.close(last=False)
                                shard, number = None, number + 1
                            shard = shard or new_shard(unit, number)
                            place_in_shard = index - number * size
                            if shard.begin(place_in_shard):
                                put(_frame_task(shard, place_in_shard, f"{item.name}_{index:06d}", source, frame))
                        index += 1
                finally:
                    frames.close()
        except SourceError as error:
            notes.append(str(error))
        shard = shard or new_shard(unit, number)
        for place_in_list, text in enumerate(notes):
            problem = text if source in text else f"{source}: {text}"
            if shard.begin(size + place_in_list):
                shard.add(size + place_in_list, PictureRecord(item.name, source, error=problem))
        shard.close(last=True)


def _frame_task(shard: Shard, index: int, name: str, source: str, frame: Frame) -> PictureTask:
    picture = InputPicture(name, source, frame.image, time=frame.time)
    return PictureTask(shard, index, Item(name, source), source, lambda: picture, frame.image.size // 3)


@contextmanager
def _local_copy(place: str) -> Iterator[Path]:
    """A video as a file of this machine: decoders seek, which object stores answer slowly."""
    if not is_remote(place):
        yield Path(place)
        return
    suffix = Path(place.partition("?")[0]).suffix
    with tempfile.NamedTemporaryFile(prefix="ovs-label-", suffix=suffix) as copy:
        with open_file(place) as stream:
            while block := stream.read(1 << 22):
                copy.write(block)
        copy.flush()
        yield Path(copy.name)


def single_threaded_opencv() -> None:
    """Let OpenCV use no threads of its own: the labeller's threads and the network's have the cores already."""
    cv2.setNumThreads(1)
