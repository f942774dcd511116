"""What a graph is calibrated and judged on: real pictures through the runtime's preprocessing, and real vocabularies."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ...bundle.bundle import Bundle
from ...bundle.errors import SourceError, UsageError
from ...bundle.image_files import is_image_name
from ...bundle.letterbox import Letterbox
from ...bundle.vocabulary import stack_names
from ...runtime.capture.photos import read_photo
from ...runtime.capture.registry import open_source
from ...runtime.inference.preprocess import to_input
from ...runtime.vocabulary.text_encoder import TextEncoder

FEW = 16  # pictures; with fewer, one odd picture decides
_PLAIN = 2.0  # standard deviation of a picture's bytes below which it shows nothing
_NAMES = 4  # most names of a class
_CLASSES = 128  # most classes of a vocabulary
_COMMON = ("person", "car", "road", "building", "tree", "grass", "sky", "water", "dog", "chair")


@dataclass(frozen=True)
class EncodedVocabulary:
    """A vocabulary as the graph takes it."""

    labels: tuple[str, ...]  # K
    vectors: npt.NDArray[np.float32]  # (K, S, D)


@dataclass(frozen=True)
class CalibrationSample:
    """A picture with a vocabulary."""

    image: npt.NDArray[np.uint8]  # (1, H, W, 3) BGR
    letterbox: Letterbox  # where in it the picture lies
    words: EncodedVocabulary

    @property
    def feeds(self) -> dict[str, npt.NDArray[np.generic]]:
        """Inputs of the graph by name."""
        return {"image": self.image, "text_embeddings": self.words.vectors}


@dataclass(frozen=True)
class SampleSplit:
    """Pictures in three parts, so that what judges has not been seen before."""

    learn: tuple[CalibrationSample, ...]  # show the ranges
    choose: tuple[CalibrationSample, ...]  # decide which layers are quantised
    judge: tuple[CalibrationSample, ...]  # give the verdict
    warnings: tuple[str, ...]

    @property
    def digest(self) -> str:
        """Identity of every picture and vocabulary, in order."""
        state = hashlib.sha256()
        for part in (self.learn, self.choose, self.judge):
            for sample in part:
                state.update(sample.image.tobytes())
                state.update(json.dumps([sample.words.labels, sample.words.vectors.shape]).encode())
                state.update(sample.words.vectors.tobytes())
            state.update(b"|")
        return state.hexdigest()


def read_samples(source: str, count: int, bundle: Bundle, threads: int) -> SampleSplit:
    """Up to `count` pictures, evenly spread over a folder, a glob or a video.

    They take turns in learning, choosing and judging. Pictures that cannot be read, or show
    nothing, are left out and counted in the warnings. Raises `SourceError` where fewer than two remain.
    """
    vocabularies = make_vocabularies(bundle, TextEncoder(bundle, threads))
    seen = _Seen(bundle.manifest.input_size, [], [])
    folder = Path(source)
    _read_folder(folder, count, seen) if folder.is_dir() else _read_frames(source, count, seen)
    pictures, warnings = seen.pictures, seen.warnings()
    if len(pictures) < 2:
        why = f" ({'; '.join(warnings)})" if warnings else ""
        raise SourceError(
            f"{source} gives {len(pictures)} usable pictures{why}; expected at least 2, better {FEW} or more: "
            "name a folder of photos, or a video, of what the device will see"
        )
    if len(pictures) < FEW:
        warnings.append(f"only {len(pictures)} pictures: the verdict is a rough one; {FEW} or more are better")
    samples = [
        CalibrationSample(image, letterbox, vocabularies[index // 3 % len(vocabularies)])
        for index, (image, letterbox) in enumerate(pictures)
    ]
    parts = [tuple(samples[start::3]) for start in range(3)]
    return SampleSplit(parts[0], parts[1], parts[2] or parts[1], tuple(warnings))


def make_vocabularies(bundle: Bundle, encoder: TextEncoder) -> list[EncodedVocabulary]:
    """Vocabularies of several K and S: all training names with synonyms, half of them, and a handful."""
    trained = bundle.manifest.training_vocabulary or tuple((name,) for name in _COMMON)
    most = min(_CLASSES, bundle.manifest.graph.max_classes)
    handful = trained[:: max(1, len(trained) // 8)]
    result = []
    for classes, names in ((trained, _NAMES), (trained[::2], 1), (handful, 2)):
        taken = classes[:most]
        vectors = [encoder.encode(entry[:names]) for entry in taken]
        result.append(
            EncodedVocabulary(tuple(entry[0] for entry in taken), stack_names(vectors, bundle.manifest.text.dim))
        )
    return result


@dataclass
class _Seen:
    """Pictures as they come in."""

    size: tuple[int, int]  # of the network's input
    pictures: list[tuple[npt.NDArray[np.uint8], Letterbox]]  # usable ones, as the network takes them
    broken: list[str]  # why a picture could not be read
    plain: int = 0  # pictures of a single colour

    def add(self, picture: npt.NDArray[np.uint8]) -> None:
        if float(picture.std()) < _PLAIN:
            self.plain += 1
        else:
            self.pictures.append(to_input(picture, self.size))

    def warnings(self) -> list[str]:
        found = []
        if self.broken:
            found.append(f"{len(self.broken)} pictures cannot be read and are left out; the first: {self.broken[0]}")
        if self.plain:
            found.append(f"{self.plain} pictures show a single colour and are left out")
        return found


def _read_folder(folder: Path, count: int, seen: _Seen) -> None:
    try:
        paths = sorted(path for path in folder.iterdir() if is_image_name(path) and path.is_file())
    except OSError as error:
        raise SourceError(f"cannot list {folder} ({error.strerror}); check its permissions") from error
    if not paths:
        raise SourceError(f"the folder {folder} holds no photos; expected files such as .jpg or .png")
    for index in range(min(count, len(paths))):
        try:
            seen.add(read_photo(paths[index * len(paths) // min(count, len(paths))]))
        except SourceError as error:
            seen.broken.append(str(error))


def _read_frames(source: str, count: int, seen: _Seen) -> None:
    """Frames of a video, of which nobody may know how many there are: every other one goes when there are too many."""
    frames = open_source(source, None)
    if frames.live:
        frames.close()
        raise UsageError(
            f"{source} is a live source, which never gives the same pictures twice; record a clip of it first"
        )
    step = max(1, (frames.total or 1) // count)
    try:
        for frame in frames:
            if frame.index % step == 0:
                seen.add(frame.image)
            if len(seen.pictures) == 2 * count:
                seen.pictures[:] = seen.pictures[::2]
                step *= 2
    finally:
        frames.close()
    kept = min(count, len(seen.pictures))
    seen.pictures[:] = [seen.pictures[index * len(seen.pictures) // kept] for index in range(kept)]
