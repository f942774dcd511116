"""Labels units of work: pictures are read, decoded, inferred and written by several threads, many at a time.

    this thread ──► room for a few pictures ──► threads: read, decode, infer (as many at once as the engine takes), write

Reading the frames of a video is this thread's work, since they come one after another. Pictures of the next shard begin
while the last ones of a shard are under way, so the network never waits; a shard is written when all of it is there.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from ..bundle.errors import SourceError
from ..bundle.vocabulary import parse_class_entries
from ..runtime.capture.video_files.video_source import VideoSource
from ..runtime.inference.refinement import Refinement
from ..runtime.opencv import cv2
from ..runtime.segmenter import Segmenter
from .formats.label_writer import LabelWriter, WriterOptions
from .formats.registry import open_writer
from .formats.shape import Shape
from .inputs.loading import PictureLoader, source_of
from .inputs.pictures import InputPicture
from .inputs.places import is_remote, open_file
from .inputs.sampling import Sampling
from .inputs.units import Item, Unit, UnitKind
from .job import Shard, UnitState
from .records import PictureRecord, record_of
from .regions import regions_of
from .settings import LabelSettings, Photos
from .store import Store

_AHEAD = 2  # threads besides those that wait for the network: they read, decode and write meanwhile

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
        self._workers = segmenter.at_once + _AHEAD
        self._error: BaseException | None = None

    def run(
        self,
        units: Iterable[Unit],
        state: Callable[[Unit], UnitState],
        on_picture: OnPicture = lambda labelled: None,
    ) -> None:
        """Label what is left of the units. Raises the first error that is not a picture's own."""
        room = threading.Semaphore(2 * self._workers)
        open_shards: set[Shard] = set()
        pool = ThreadPoolExecutor(self._workers, "label")

        def work(shard: Shard, index: int, load: Callable[[], InputPicture], item: Item, source: str) -> None:
            try:
                if self._error is None:
                    record = self._label(load, item, source)
                    shard.add(index, record)
                    on_picture(record.error is None)
            except BaseException as error:  # noqa: BLE001 - raised in the caller's thread
                self._error = self._error or error
            finally:
                room.release()

        def new_shard(unit: Unit, number: int) -> Shard:
            shard = Shard(self._store, self._writer, unit.number, number, lambda: open_shards.discard(shard))
            open_shards.add(shard)
            return shard

        def submit(shard: Shard, index: int, load: Callable[[], InputPicture], item: Item, source: str) -> None:
            if not shard.begin(index):
                return
            room.acquire()
            if self._error is not None:
                raise self._error
            pool.submit(work, shard, index, load, item, source)

        try:
            for unit in units:
                if unit.kind is UnitKind.VIDEO:
                    self._video(unit, state(unit), new_shard, submit)
                else:
                    shard = new_shard(unit, 0)
                    for index, item in enumerate(unit.items):
                        source = source_of(unit, item)
                        submit(shard, index, lambda u=unit, i=item: self._loader.read(u, i), item, source)  # type: ignore[misc]
                    shard.close(last=True)
        except BaseException as error:
            self._error = self._error or error
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=self._error is not None)
            self._loader.close()
            for shard in list(open_shards):
                shard.abandon()
        if self._error is not None:
            raise self._error

    def _label(self, load: Callable[[], InputPicture], item: Item, source: str) -> PictureRecord:
        try:
            picture = load()
            prediction = self._segmenter.predict(picture.image)
        except SourceError as error:
            return PictureRecord(item.name, source, error=str(error))
        except (cv2.error, MemoryError) as error:
            return PictureRecord(item.name, source, error=f"{source} cannot be labelled ({str(error)[:200]})")
        regions = regions_of(prediction)
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
        submit: Callable[[Shard, int, Callable[[], InputPicture], Item, str], None],
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
                            chosen = replace(item, name=f"{item.name}_{index:06d}")
                            picture = InputPicture(chosen.name, source, frame.image, time=frame.time)
                            submit(shard, index - number * size, lambda found=picture: found, chosen, source)  # type: ignore[misc]
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
