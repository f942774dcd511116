"""Counting over many photos: in several processes, and resumable.

Photos are counted in portions of neighbouring photos. The counts of a portion are integers and sums in a fixed order,
and portions are added in order: the figures do not depend on the number of processes or on interruptions.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from ...bundle.bundle import Bundle
from ...bundle.errors import SinkError
from ...bundle.files import replacing
from ...data.labelled import PhotoSet
from ...runtime.engines.plan import Plan
from ...runtime.inference.refinement import UNREFINED, Refinement
from ...runtime.segmenter import Segmenter
from ...training.splits import Split
from .accuracy import AccuracyResult, Counts, count_photos, summarise
from .class_list import entries, stuff_words
from .panoptic_quality import SegmentCounts
from .stages import Stage, open_stage

PORTION = 8  # photos
_FORMAT = 2  # version of the stored counts


@dataclass(frozen=True)
class Job:
    """One evaluation: a stage of a bundle on a data set. Sent to worker processes."""

    bundle: Path
    stage: Stage
    photos: PhotoSet
    threads: int = 0  # CPU threads of each process; 0: the engine's default
    synonyms: bool = False  # ask for classes by all their names
    refinement: Refinement = UNREFINED  # of the labels

    @property
    def portions(self) -> list[range]:
        """Photos of each portion."""
        starts = range(0, len(self.photos), PORTION)
        return [range(start, min(start + PORTION, len(self.photos))) for start in starts]

    @property
    def digest(self) -> str:
        """Changes with anything that the counts depend on. Raises `PlanError`."""
        asked = entries(self.photos.classes, synonyms=self.synonyms)
        # A plan may have been replaced by another in the same folder. The checkpoint is fixed by the bundle.
        plan = None if self.stage.plan is None else Plan.open(self.stage.plan).sidecar.to_json()
        depends = (
            _FORMAT, PORTION, Bundle.open(self.bundle, verify=False).digest, self.stage, plan, asked, self.refinement
        )  # fmt: skip
        return hashlib.sha256(repr((*depends, self.photos.digest)).encode()).hexdigest()[:24]


@dataclass(frozen=True)
class _Portion:
    """Counts of one portion."""

    counts: Counts
    labels: tuple[str, ...]  # of the classes asked for
    stuff: tuple[bool, ...] | None  # which of them have no instances, of panoptic data


def measure(
    job: Job,
    jobs: int = 1,
    kept: Path | None = None,
    split: Split | None = None,
    on_portion: Callable[[int], None] = lambda photos: None,
) -> AccuracyResult:
    """Evaluate in `jobs` processes. `on_portion` gets the number of photos counted since its last call.

    With a folder `kept`, the counts of every portion are stored there, and stored portions are not counted again.
    Raises `UsageError`, `BundleError`, `DatasetError`, `SourceError`, `SinkError`.
    """
    store = None if kept is None else _Store(kept / job.digest)
    found: dict[int, _Portion] = {}
    for number, photos in enumerate(job.portions):
        if store is not None and (portion := store.read(number)) is not None:
            found[number] = portion
            on_portion(len(photos))
    missing = [number for number in range(len(job.portions)) if number not in found]
    for number, portion in _count(job, missing, jobs):
        found[number] = portion
        if store is not None:
            store.write(number, portion)
        on_portion(len(job.portions[number]))
    first = found[0]
    total = sum((found[number].counts for number in range(1, len(found))), first.counts)
    stuff = None if first.stuff is None else np.array(first.stuff)
    return summarise(
        total,
        first.labels,
        job.photos,
        split=split,
        stage=job.stage.name,
        synonyms=job.synonyms,
        stuff=stuff,
    )


def forget(kept: Path) -> None:
    """Remove the counts that `measure` stored, once the result is written."""
    shutil.rmtree(kept, ignore_errors=True)


def _count(job: Job, missing: list[int], jobs: int) -> Iterator[tuple[int, _Portion]]:
    if not missing:
        return
    if jobs == 1:
        with _open(job) as segmenter:
            for number in missing:
                yield number, _portion(segmenter, job, number)
        return
    context = multiprocessing.get_context("spawn")  # a fork would share the engine's threads
    pool = ProcessPoolExecutor(min(jobs, len(missing)), context, _start, (job,))
    try:
        futures: dict[Future[_Portion], int] = {pool.submit(_work, number): number for number in missing}
        for future in as_completed(futures):
            yield futures[future], future.result()
    finally:
        pool.shutdown(cancel_futures=True)


_job: Job | None = None  # of a worker process
_segmenter: Segmenter | None = None


def _start(job: Job) -> None:
    global _job
    _job = job


def _work(number: int) -> _Portion:
    global _segmenter
    assert _job is not None
    # Opened here and not when the process starts: an error there would not reach the user.
    _segmenter = _segmenter or _open(_job).__enter__()
    return _portion(_segmenter, _job, number)


def _open(job: Job) -> Segmenter:
    segmenter = open_stage(job.bundle, job.stage, job.threads, stuff_words(job.photos.classes, job.photos.stuff))
    segmenter.refinement = job.refinement
    return segmenter


def _portion(segmenter: Segmenter, job: Job, number: int) -> _Portion:
    counts, asked = count_photos(segmenter, job.photos, job.portions[number], synonyms=job.synonyms)
    stuff = None if job.photos.stuff is None else tuple(map(bool, asked.of_labels(job.photos.stuff)))
    return _Portion(counts, asked.labels, stuff)


class _Store:
    """A folder with a file for each portion."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, number: int) -> _Portion | None:
        """The stored counts; None where there are none, or where they cannot be read."""
        try:
            path = self._folder / f"{number:06d}.npz"
            # Opened here, since numpy leaves a file open that is not an archive.
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
                segments = None
                if "iou" in arrays:
                    segments = SegmentCounts(*(arrays[name] for name in _SEGMENTS))
                stuff = tuple(map(bool, arrays["stuff"])) if "stuff" in arrays else None
                counts = Counts(arrays["pixels"], arrays["boundary"], segments)
                return _Portion(counts, tuple(map(str, arrays["labels"])), stuff)
        except (OSError, ValueError, KeyError, EOFError, BadZipFile):
            return None

    def write(self, number: int, portion: _Portion) -> None:
        """Store the counts of a portion; raises `SinkError`."""
        counts = portion.counts
        arrays: dict[str, Any] = {
            "pixels": counts.pixels,
            "boundary": counts.boundary,
            "labels": np.array(portion.labels),
        }
        if counts.segments is not None:
            arrays |= asdict(counts.segments)
        if portion.stuff is not None:
            arrays["stuff"] = np.array(portion.stuff)
        path = self._folder / f"{number:06d}.npz"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with replacing(path) as work, work.open("wb") as stream:
                np.savez_compressed(stream, **arrays)
        except OSError as error:
            raise SinkError(f"cannot write {path} ({error}); free some space or choose another place") from error


_SEGMENTS = ("iou", "matched", "invented", "missed")
