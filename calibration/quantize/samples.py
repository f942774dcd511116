"""Images and vocabularies of a calibration: for ranges, for choosing layers, and held-out ones for the verdict."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ...bundle.bundle import Bundle
from ...bundle.errors import SourceError, UsageError
from ...bundle.image_files import is_image_file, is_image_name
from ...bundle.letterbox import Letterbox
from ...bundle.vocabulary import stack_names
from ...runtime.capture.photos import read_photo
from ...runtime.capture.registry import open_source
from ...runtime.inference.preprocess import to_input
from ...runtime.vocabulary.text_encoder import TextEncoder

FEW = 16  # images; with fewer, a single image decides the verdict
_PLAIN = 2.0  # standard deviation of an image's bytes below which it shows nothing
_NAMES = 4  # largest number of names of a class
_CLASSES = 128  # largest number of classes of a vocabulary
_COMMON = ("person", "car", "road", "building", "tree", "grass", "sky", "water", "dog", "chair")

Image = tuple[npt.NDArray[np.uint8], Letterbox]  # (1, H, W, 3) BGR, and where in it the image lies


@dataclass(frozen=True)
class EncodedVocabulary:
    """A vocabulary as the graph takes it."""

    labels: tuple[str, ...]  # K
    vectors: npt.NDArray[np.float32]  # (K, S, D)


@dataclass(frozen=True)
class CalibrationSample:
    """An image with a vocabulary."""

    image: npt.NDArray[np.uint8]  # (1, H, W, 3) BGR
    letterbox: Letterbox  # where in it the picture lies
    words: EncodedVocabulary

    @property
    def feeds(self) -> dict[str, npt.NDArray[np.generic]]:
        """Inputs of the graph by name."""
        return {"image": self.image, "text_embeddings": self.words.vectors}


@dataclass(frozen=True)
class SampleSplit:
    """Samples in three parts, so that the verdict is given on images that decided nothing."""

    learn: tuple[CalibrationSample, ...]  # for value ranges
    choose: tuple[CalibrationSample, ...]  # for choosing layers
    judge: tuple[CalibrationSample, ...]  # held out, for the verdict
    warnings: tuple[str, ...]

    @property
    def digest(self) -> str:
        """Identity of every image and vocabulary, in order."""
        state = hashlib.sha256()
        for part in (self.learn, self.choose, self.judge):
            for sample in part:
                state.update(sample.image.tobytes())
                state.update(json.dumps([sample.words.labels, sample.words.vectors.shape]).encode())
                state.update(sample.words.vectors.tobytes())
            state.update(b"|")
        return state.hexdigest()


def read_samples(source: str, count: int, bundle: Bundle, threads: int, held_out: str | None = None) -> SampleSplit:
    """Up to `count` images of `source`, evenly spread over a folder, a glob or a video, in three parts.

    The verdict is given on as many images of `held_out`, where that is given, and otherwise on a third of `source`:
    every third photo, or the last third of a video, whose neighbouring frames are nearly the same. Images that cannot
    be read or show a single colour are left out and counted in the warnings. Raises `SourceError` where fewer than two
    remain, `UsageError` for a live source.
    """
    vocabularies = make_vocabularies(bundle, TextEncoder(bundle, threads))
    found = _read(source, count, bundle)
    warnings = found.warnings()
    if len(found.images) < 2:
        raise _too_few(source, found)
    if held_out is not None:
        others = _read(held_out, count, bundle)
        warnings += others.warnings()
        if not others.images:
            raise _too_few(held_out, others)
        judge, rest = others.images, found.images
    elif found.in_order:
        third = max(1, len(found.images) // 3)
        judge, rest = found.images[-third:], found.images[:-third]
    else:
        judge = found.images[2::3]
        rest = [image for index, image in enumerate(found.images) if index % 3 != 2]
    if len(found.images) < FEW:
        warnings.append(f"only {len(found.images)} images: the verdict is a rough one; {FEW} or more are better")
    learn, choose = rest[::2], rest[1::2] or rest[::2]
    return SampleSplit(
        _with_vocabularies(learn, vocabularies),
        _with_vocabularies(choose, vocabularies),
        _with_vocabularies(judge or choose, vocabularies),
        tuple(warnings),
    )


def make_vocabularies(bundle: Bundle, encoder: TextEncoder) -> list[EncodedVocabulary]:
    """Vocabularies of several K and S: all training names with synonyms, half of them, and eight classes."""
    trained = bundle.manifest.background_classes or tuple((name,) for name in _COMMON)
    most = min(_CLASSES, bundle.manifest.graph.max_classes)
    few = trained[:: max(1, len(trained) // 8)]
    result = []
    for classes, names in ((trained, _NAMES), (trained[::2], 1), (few, 2)):
        taken = classes[:most]
        vectors = [encoder.encode(entry[:names]) for entry in taken]
        result.append(
            EncodedVocabulary(tuple(entry[0] for entry in taken), stack_names(vectors, bundle.manifest.text.dim))
        )
    return result


def _with_vocabularies(images: list[Image], vocabularies: list[EncodedVocabulary]) -> tuple[CalibrationSample, ...]:
    """The images with the vocabularies in turn."""
    return tuple(
        CalibrationSample(image, letterbox, vocabularies[index % len(vocabularies)])
        for index, (image, letterbox) in enumerate(images)
    )


@dataclass
class _Found:
    """Images as they are read."""

    size: tuple[int, int]  # of the network's input
    in_order: bool  # frames of a video: neighbours are nearly the same
    images: list[Image] = field(default_factory=list)  # usable ones, as the network takes them
    broken: list[str] = field(default_factory=list)  # why an image could not be read
    plain: int = 0  # images of a single colour

    def add(self, picture: npt.NDArray[np.uint8]) -> None:
        if float(picture.std()) < _PLAIN:
            self.plain += 1
        else:
            self.images.append(to_input(picture, self.size))

    def warnings(self) -> list[str]:
        found = []
        if self.broken:
            found.append(f"{len(self.broken)} images cannot be read and are left out; the first: {self.broken[0]}")
        if self.plain:
            found.append(f"{self.plain} images show a single colour and are left out")
        return found


def _too_few(source: str, found: _Found) -> SourceError:
    why = f" ({'; '.join(found.warnings())})" if found.warnings() else ""
    return SourceError(
        f"{source} gives {len(found.images)} usable images{why}; expected at least 2, better {FEW} or more: "
        "name a folder of photos, or a video, of what the device will see"
    )


def _read(source: str, count: int, bundle: Bundle) -> _Found:
    folder = Path(source)
    return _read_folder(folder, count, bundle) if folder.is_dir() else _read_frames(source, count, bundle)


def _read_folder(folder: Path, count: int, bundle: Bundle) -> _Found:
    try:
        paths = sorted(path for path in folder.iterdir() if is_image_file(path) and path.is_file())
    except OSError as error:
        raise SourceError(f"cannot list {folder} ({error.strerror}); check its permissions") from error
    if not paths:
        raise SourceError(f"the folder {folder} holds no photos; expected files such as .jpg or .png")
    found = _Found(bundle.manifest.input_size, in_order=False)
    taken = min(count, len(paths))
    for path in (paths[index * len(paths) // taken] for index in range(taken)):
        _add_photo(path, found)
    return found


def _add_photo(path: Path, found: _Found) -> None:
    try:
        found.add(read_photo(path))
    except SourceError as error:
        found.broken.append(str(error))


def _read_frames(source: str, count: int, bundle: Bundle) -> _Found:
    """Frames of a video. Its length may be unknown: when there are too many, every other frame is dropped."""
    frames = open_source(source, None)
    if frames.live:
        frames.close()
        raise UsageError(
            f"{source} is a live source, which never gives the same images twice; record a clip of it first"
        )
    photos = is_image_name(source)  # a glob such as shots/*.jpg
    found = _Found(bundle.manifest.input_size, in_order=not photos)
    step = max(1, (frames.total or 1) // count)
    try:
        for frame in frames:
            if frame.index % step == 0:
                found.add(frame.image)
            if len(found.images) == 2 * count:
                found.images[:] = found.images[::2]
                step *= 2
    finally:
        frames.close()
    kept = min(count, len(found.images))
    found.images[:] = [found.images[index * len(found.images) // kept] for index in range(kept)]
    return found
