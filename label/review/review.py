"""The review of a finished job: its pictures are ranked, and the first of them are written as a page and as a project."""

from __future__ import annotations

from collections import Counter
from contextlib import closing

import numpy as np

from ...bundle.errors import SourceError, note
from ...runtime.segmenter import Segmenter
from ..inputs.loading import PictureLoader
from ..inputs.pictures import decode
from ..job import LabelJob
from ..options import ReviewProject
from ..records import PictureRecord
from .page import page
from .projects import Pictures, cvat_archive, label_studio_config, label_studio_tasks
from .ranking import ReviewCandidate, count_pictures, disagreement, rank

FOLDER = "review"


def write_review(job: LabelJob, segmenter: Segmenter, count: int, project: ReviewProject) -> str:
    """Write `review/` of the output: `index.html`, and the project; where the page is. Raises `SinkError`."""
    classes = segmenter.active.labels
    pictures = count_pictures(job.labelled())
    with closing(PictureLoader(job.store)) as loader:
        shown = _first(job, segmenter, count, loader, pictures)
    with job.store.writing(f"{FOLDER}/index.html") as stream:
        entries = ((candidate, decode("", f"x{suffix}", data).image) for candidate, data, suffix in shown)
        for text in page(entries, classes, pictures, job.manifest.labelled):
            stream.write(text)
    _write_project(job, [(candidate.record, data, suffix) for candidate, data, suffix in shown], classes, project)
    return f"{job.store.place}/{FOLDER}/index.html"


def _first(
    job: LabelJob, segmenter: Segmenter, count: int, loader: PictureLoader, pictures: Counter[int]
) -> list[tuple[ReviewCandidate, bytes, str]]:
    """The pictures to look at first, as far as they can still be read, each with its file and the file's suffix."""

    def flipped(record: PictureRecord) -> float | None:
        try:
            image = loader.load(record, job.units).image
        except SourceError:
            return None
        labels = segmenter.predict(image).labels
        mirrored = segmenter.predict(np.ascontiguousarray(image[:, ::-1])).labels[:, ::-1]
        return disagreement(labels, mirrored)

    chosen = rank(job.labelled(), pictures, segmenter.active.labels, count, flipped)
    files = ((candidate, _file(loader, job, candidate.record)) for candidate in chosen)
    return [(candidate, *file) for candidate, file in files if file is not None]


def _file(loader: PictureLoader, job: LabelJob, record: PictureRecord) -> tuple[bytes, str] | None:
    try:
        picture = loader.load(record, job.units)
    except SourceError as error:
        note(f"not in the review: {error}")
        return None
    return picture.encoded(), picture.stored_as


def _write_project(job: LabelJob, pictures: Pictures, classes: tuple[str, ...], project: ReviewProject) -> None:
    if project is ReviewProject.CVAT:
        job.store.write(f"{FOLDER}/cvat.zip", cvat_archive(pictures, classes))
    elif project is ReviewProject.LABEL_STUDIO:
        with job.store.writing(f"{FOLDER}/label_studio.json") as stream:
            for text in label_studio_tasks(pictures, classes):
                stream.write(text)
        job.store.write(f"{FOLDER}/label_studio.xml", label_studio_config(classes).encode())
