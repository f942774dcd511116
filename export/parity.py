"""Parity: the exported graph against the torch model on real photos, run by the runtime's own code.

The reference is a plain implementation of its own, apart from `graph.py`, so that a wrong optimisation there shows.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import count as counter
from pathlib import Path
from typing import Any, Protocol, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ..bundle.bundle import Bundle
from ..bundle.errors import ParityError
from ..bundle.vocabulary import stack_names
from ..runtime.engines.engine import EngineOptions
from ..runtime.engines.onnx_runtime import OnnxSession
from ..runtime.engines.session import RawOutputs
from ..runtime.vocabulary.text_encoder import TextEncoder as RuntimeText
from ..segmenter.deformable import DeformableAttention, Formulation
from ..segmenter.dense import DenseSegmenter
from ..segmenter.model import ImageModel, SegmenterOutput, semantic_scores
from ..segmenter.text.encoder import TorchTextEncoder
from .options import ExportOptions, Masks
from .text_encoder.parity import TextParity, compare_text

LABELS_EQUAL = 0.999  # least share of pixels with the same label, on the worst photo
# Largest absolute difference of the confidence on all pixels where labels agree; on 99 % of them it is
# `ImageModel.score_tolerance`. A value at the threshold of an attention mask may fall on either side in two correct
# computations, which shifts one query of hundreds: torch in float32 and in float64 differ by 5e-5 on 99.9 % of the
# pixels of a published model, and by only 1e-5 on 99 %.
SCORES_MOST = 1e-3
_NEARLY_ALL = 0.99
FORMULATIONS = 1e-5  # largest difference between the two samplings, relative to the largest feature

RANDOM, TRAINING, BACKGROUND = "random", "training", "background"  # kinds of vocabularies
CLASSES = (1, 2, 37, 500)
NAMES = (1, 4)
_MAX_SCORES = 2**27  # scores of one vocabulary, K * H * W * photos: beyond, fewer photos, then fewer classes
_PHOTOS = 2  # photos that a random vocabulary, and the two formulations, are compared on
_MAX_TRAINED = 64  # classes of the training vocabulary that are compared

Tell = Callable[[str], None]
Floats = npt.NDArray[np.float32]
Run = Callable[[npt.NDArray[np.uint8], Floats], tuple[npt.NDArray[np.integer], Floats]]
RunRaw = Callable[[npt.NDArray[np.uint8], Floats], RawOutputs]


@dataclass(frozen=True)
class SegmenterParity:
    """Graph against torch, for one vocabulary, over its photos."""

    vocabulary: str  # RANDOM, TRAINING or BACKGROUND
    classes: int  # K
    names: int  # S
    labels_equal: float  # share of pixels, worst photo
    score_difference: float  # max abs, where labels agree
    score_nearly_all: float  # abs difference that 99 % of the pixels stay below, where labels agree, worst photo


@dataclass(frozen=True)
class RawParity:
    """Further outputs of a panoptic graph against torch: max abs over all photos and vocabularies, reported only."""

    mask_logits: float
    class_logits: float


@dataclass(frozen=True)
class Parity:
    """All measurements of one export."""

    photos: int
    segmenter: tuple[SegmenterParity, ...]
    formulations: float | None  # gridsample against gather in torch, max abs over max; None: no deformable attention
    exact_fast: float | None  # share of pixels on which the two mask orders agree in torch, reported; None: no masks
    text: TextParity
    raw: RawParity | None = None  # of a panoptic graph
    scores_bar: float = ImageModel.score_tolerance  # for `score_nearly_all`

    def to_dict(self) -> dict[str, Any]:
        """For the manifest: the figures and their acceptance thresholds."""
        bars = {
            "labels_equal": LABELS_EQUAL,
            "score_nearly_all": self.scores_bar,
            "score_difference": SCORES_MOST,
            "formulations": FORMULATIONS,
        }
        return {**asdict(self), "bars": {**bars, **self.text.bars()}}

    def failures(self) -> list[str]:
        """Figures past their thresholds, in words."""
        found = []
        for row in self.segmenter:
            where = f"K={row.classes} S={row.names} {row.vocabulary}"
            # Negated, so that a NaN fails too.
            if not row.labels_equal >= LABELS_EQUAL:
                found.append(f"{where}: {row.labels_equal:.3%} of labels equal, expected {LABELS_EQUAL:.1%}")
            for value, bar, of in (
                (row.score_nearly_all, self.scores_bar, "99 % of the scores"),
                (row.score_difference, SCORES_MOST, "scores"),
            ):
                if not value <= bar:
                    found.append(f"{where}: {of} differ by up to {value:.1e}, expected at most {bar:g}")
        if self.formulations is not None and not self.formulations <= FORMULATIONS:
            found.append(f"gridsample and gather differ by {self.formulations:.1e}, expected at most {FORMULATIONS:g}")
        return [*found, *self.text.failures()]

    def check(self) -> None:
        """Raise `ParityError` if any figure is past its threshold."""
        if failures := self.failures():
            more = f" (and {len(failures) - 1} more)" if len(failures) > 1 else ""
            raise ParityError(f"the export differs from its checkpoint: {failures[0]}{more}; nothing was written")


def measure(
    model: ImageModel,
    encoder: TorchTextEncoder,
    bundle: Bundle,
    options: ExportOptions,
    photos: Sequence[npt.NDArray[np.uint8]],
    tell: Tell,
) -> Parity:
    """Run the bundle with the runtime's code and `model` in torch; photos are uint8 (1, H, W, 3) BGR."""
    with tempfile.TemporaryDirectory() as folder:
        runtime = RuntimeText(bundle, cache_folder=Path(folder))
        tell("text encoder")
        text = compare_text(encoder, runtime, bundle)
        trained = background_vectors(bundle, runtime, options.max_classes)
    vocabularies = [
        (RANDOM, vectors) for vectors in random_vocabularies(options.size, options.max_classes, model.config.text.dim)
    ]
    if trained is not None:
        vocabularies.append((TRAINING, trained))
    reference = Reference(model, options, photos)
    with OnnxSession(bundle, EngineOptions(provider="cpu")) as session:
        run = session.run if options.batch == 1 else _places_in_turn(session.run, options.batch, photos)
        rows = compare_segmenter(reference, run, vocabularies, tell)
        raw = None
        if options.task == "panoptic":
            tell("mask and class logits")
            raw = compare_raw(reference, session.run_raw, [vectors for _, vectors in vocabularies[-2:]])
    tell("formulations and mask orders")
    vectors = next((vectors for _, vectors in reversed(vocabularies) if len(vectors) > 1), vocabularies[-1][1])
    orders = [
        [reference(index, vectors, masks)[0] for masks in get_args(Masks)] for index in range(min(_PHOTOS, len(photos)))
    ]
    return Parity(
        photos=len(photos),
        segmenter=rows,
        formulations=max(formulation_difference(model, rgb(photo)) for photo in photos[:_PHOTOS]),
        exact_fast=float(np.mean([first == second for first, second in orders])),
        text=text,
        raw=raw,
        scores_bar=model.score_tolerance,
    )


def _places_in_turn(run: Run, batch: int, photos: Sequence[npt.NDArray[np.uint8]]) -> Run:
    """`run` of a batch as one of single images, each in the next place, beside other photos with their own classes."""
    turns = counter()

    def single(image: npt.NDArray[np.uint8], vectors: Floats) -> tuple[npt.NDArray[np.integer], Floats]:
        place = next(turns) % batch
        images = np.concatenate([photos[(place + other) % len(photos)] for other in range(batch)])
        words = np.stack([np.roll(vectors, other + 1, 0) for other in range(batch)])
        images[place], words[place] = image[0], vectors
        labels, confidence = run(images, words)
        return labels[place : place + 1], confidence[place : place + 1]

    return single


class LabelReference(Protocol):
    """A model in torch that a graph is compared with."""

    @property
    def photos(self) -> Sequence[npt.NDArray[np.uint8]]:
        """uint8 (1, H, W, 3) BGR each."""

    def __call__(self, photo: int, vectors: Floats) -> tuple[npt.NDArray[np.integer], Floats]:
        """Labels and confidence (1, H, W) of photo number `photo` under text vectors (K, S, D)."""


def compare_segmenter(
    reference: LabelReference,
    run: Run,
    vocabularies: Iterable[tuple[str, Floats]],
    tell: Tell,
    most_photos: int = _PHOTOS,
) -> tuple[SegmenterParity, ...]:
    """`run` (image, vectors) -> (labels, confidence) against the reference.

    The model's own names are compared on every photo, each random vocabulary on `most_photos` photos in turn: image and
    vocabulary meet only at the end of the network, so not every pair needs to be run.
    """
    rows = []
    for turn, (kind, vectors) in enumerate(vocabularies):
        classes, names = vectors.shape[:2]
        tell(f"segmenter, K={classes} S={names}")
        equal, difference, nearly_all = 1.0, 0.0, 0.0
        for index in (
            range(len(reference.photos))
            if kind != RANDOM
            else _photos_for(turn, vectors, reference.photos, most_photos)
        ):
            photo = reference.photos[index]
            labels, scores = run(photo, vectors)
            expected_labels, expected_scores = reference(index, vectors)
            same = labels == expected_labels
            equal = min(equal, float(same.mean()))
            # numpy's maximum, unlike Python's, keeps a NaN.
            apart = np.append(np.abs(scores - expected_scores)[same], np.float32(0))
            difference = float(np.maximum(apart.max(), difference))
            nearly_all = float(np.maximum(np.quantile(apart, _NEARLY_ALL), nearly_all))
        rows.append(SegmenterParity(kind, classes, names, equal, difference, nearly_all))
    return tuple(rows)


def _photos_for(turn: int, vectors: Floats, photos: Sequence[npt.NDArray[np.uint8]], most: int) -> list[int]:
    """Photos of the `turn`-th vocabulary: `most`, or one where the scores would not fit into memory."""
    affordable = _MAX_SCORES // (len(vectors) * photos[0].shape[1] * photos[0].shape[2])
    count = max(1, min(most, len(photos), affordable))
    return [(turn * count + step) % len(photos) for step in range(count)]


def compare_raw(reference: Reference, run: RunRaw, vocabularies: Iterable[Floats]) -> RawParity:
    """`run` (image, vectors) -> raw outputs against the reference, for every vocabulary on every photo."""
    masks = classes = 0.0
    for vectors in vocabularies:
        for index, photo in enumerate(reference.photos):
            found, expected = run(photo, vectors), reference.output(index, vectors)
            # numpy's maximum, unlike Python's, keeps a NaN.
            masks = float(np.max(np.abs(found.mask_logits - expected.mask_logits.numpy()), initial=masks))
            classes = float(np.max(np.abs(found.class_logits - expected.class_logits.numpy()), initial=classes))
    return RawParity(masks, classes)


class _Replay(nn.Module):
    """A part of the model that depends on the image only: computed once per photo."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part, self.photo = part, 0
        self._results: dict[int, Any] = {}

    def forward(self, *inputs: Any) -> Any:
        """Whatever `part` gave for this photo."""
        if self.photo not in self._results:
            self._results[self.photo] = self.part(*inputs)
        return self._results[self.photo]


class Reference:
    """The model in torch."""

    def __init__(self, model: ImageModel, options: ExportOptions, photos: Sequence[npt.NDArray[np.uint8]]) -> None:
        self.photos = photos
        self._model, self._options = copy.copy(model), options
        parts = ("backbone", "pixel_decoder", "query_decoder", "pool")  # text enters after them
        self._replays = {name: _Replay(part) for name, part in model.named_children() if name in parts}
        # A copy that shares the weights, with these parts replaced.
        self._model._modules = {**model._modules, **self._replays}
        model.use_formulation(options.msda)

    @torch.no_grad()
    def output(self, photo: int, vectors: Floats) -> SegmenterOutput:
        """Masks and classes of a photo's queries under text vectors (K, S, D)."""
        self._see(photo)
        output: SegmenterOutput = self._model(
            rgb(self.photos[photo]), torch.from_numpy(vectors), self._options.decoder_layers
        )
        return output

    @torch.no_grad()
    def __call__(self, photo: int, vectors: Floats, masks: Masks | None = None) -> tuple[npt.NDArray[np.int64], Floats]:
        """Labels and confidence (1, H, W) of a photo under text vectors (K, S, D); `masks` other than the options'."""
        if isinstance(self._model, DenseSegmenter):
            self._see(photo)
            exact = (masks or self._options.masks) == "exact"
            found, confidence = self._model.decide(rgb(self.photos[photo]), torch.from_numpy(vectors), exact=exact)
            return found.numpy(), confidence.numpy()
        output = self.output(photo, vectors)
        if (masks or self._options.masks) == "exact":
            scores = semantic_scores(output.class_logits, self._upsample(output.mask_logits))
        else:
            scores = self._upsample(semantic_scores(output.class_logits, output.mask_logits))
        total = scores.sum(1).clamp(min=1)
        scores[:, torch.from_numpy(~vectors.any((1, 2)))] = -1
        best, labels = scores.max(1)
        return labels.numpy(), (best / total).numpy()

    def _see(self, photo: int) -> None:
        for replay in self._replays.values():
            replay.photo = photo

    def _upsample(self, x: Tensor) -> Tensor:
        return nn.functional.interpolate(x, size=self._options.size, mode="bilinear", align_corners=False)


@torch.no_grad()
def formulation_difference(model: ImageModel, image: Tensor) -> float:
    """Largest difference between the samplings over all features of the pixel decoder, relative to the largest feature.

    `image` is RGB (1, 3, H, W), 0..255. A model that samples nothing has no difference: 0.
    """
    before = next((part.formulation for part in model.modules() if isinstance(part, DeformableAttention)), None)
    if before is None:
        return 0.0
    features = model.backbone(model.normalise(image))
    formulations: tuple[Formulation, ...] = ("gridsample", "gather")
    results = []
    for formulation in formulations:
        model.use_formulation(formulation)
        mask_features, levels = model.pixel_decoder(features)
        results.append([mask_features, *levels])
    model.use_formulation(before)
    return max(float((a - b).abs().max() / a.abs().max().clamp(min=1e-6)) for a, b in zip(*results, strict=True))


def rgb(photo: npt.NDArray[np.uint8]) -> Tensor:
    """uint8 (1, H, W, 3) BGR to the model's input: float (1, 3, H, W) RGB."""
    return torch.from_numpy(np.ascontiguousarray(photo[..., ::-1])).permute(0, 3, 1, 2).float()


def random_vocabularies(size: tuple[int, int], max_classes: int, dim: int) -> list[Floats]:
    """Vectors (K, S, D) of any length, as the graph allows, some names missing (zero rows); `size` is height, width."""
    rng = np.random.default_rng(0)
    most = max(1, min(max_classes, _MAX_SCORES // (size[0] * size[1])))
    result = []
    for classes in sorted({min(count, most) for count in CLASSES}):
        for names in NAMES:
            vectors = rng.standard_normal((classes, names, dim)).astype(np.float32)
            vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
            vectors *= rng.uniform(0.5, 2, (classes, names, 1)).astype(np.float32)
            vectors[:, 1:][rng.random((classes, names - 1)) < 0.3] = 0
            result.append(vectors)
    return result


def background_vectors(bundle: Bundle, encoder: RuntimeText, most: int) -> Floats | None:
    """Vectors (K, S, D) of the training vocabulary, or of the background names, encoded as a device would."""
    vocabulary = bundle.manifest.background_classes[: min(most, _MAX_TRAINED)]
    if not vocabulary:
        return None
    return stack_names([encoder.encode(names[: NAMES[-1]]) for names in vocabulary], bundle.manifest.text.dim)
