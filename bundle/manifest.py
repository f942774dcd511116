"""`manifest.json`: what a bundle says of itself. Parsed strictly, since it may come from anywhere."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any, Literal

from .errors import BundleError
from .strict import parse

SCHEMA = 1

SEGMENTER = "segmenter.onnx"
TEXT_ENCODER = "text_encoder.onnx"
TOKENIZER = "tokenizer.json"
VECTORS = "names.npz"

# More than any real bundle has, and no more than a device can bear.
MOST_BATCH = 32  # images that a graph takes at once
_MOST_SIDE = 16384  # pixels
_MOST_PIXELS = 64 * 2**20
_MOST_DIM = 16384
_MOST_TOKENS = 4096
_MOST_TEMPLATES = 512
_MOST_CHARACTERS = 1000
_MOST_CLASSES = 1_000_000
_MOST_NAMES = 200_000

Task = Literal["semantic", "panoptic"]


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of a graph."""

    name: str
    dtype: str  # numpy's name: uint8, int32, int64, float32
    shape: tuple[int | str, ...]  # a number where fixed, a symbol ("K", "S", "N") where free


@dataclass(frozen=True)
class TextSpec:
    """How words become vectors."""

    encoder: str  # "clip" or "minilm": the architecture, for the reader's information
    dim: int  # D, length of a text vector
    context_length: int  # most tokens of one name, marks included; longer names are cut
    cleaning: Literal["none", "clip"]  # "clip": repair, unescape and collapse white space before tokenising
    templates: tuple[str, ...]  # prompts with one {} each; vectors are unit, averaged, unit again
    inputs: tuple[TensorSpec, ...]  # of text_encoder.onnx
    output: str  # name of its (N, D) output


@dataclass(frozen=True)
class ClipDenseSpec:
    """How a graph of a plain CLIP compares an image with names, see `segmenter.clip_dense`."""

    recipe: str  # of the last block: naclip, sc-clip
    windows: bool  # sliding windows; False: one pass over the whole image
    refinement: str  # of the scores by the image: none, pamr, guided
    temperature: float  # factor of the cosine before the softmax over all names


@dataclass(frozen=True)
class GraphSpec:
    """How frames become labels."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    max_classes: int  # largest K that `labels` can hold and that was compared
    masks: Literal["exact", "fast"]  # order of upsampling and contraction
    msda: Literal["gridsample", "gather"]  # formulation of deformable attention, where there is any
    decoder_layers: int  # depth that was exported; 0 of a model without a query decoder
    stride: int  # of `labels` to the input
    task: Task = "semantic"  # "panoptic": mask_logits and class_logits are outputs too
    clip_dense: ClipDenseSpec | None = None  # of a plain CLIP: no masks, no queries


@dataclass(frozen=True)
class LabelledVerdict:
    """What a precision does to the accuracy on photos whose true labels are known."""

    dataset: str
    photos: int
    fp32: float  # mean IoU
    found: float  # mean IoU of the precision


@dataclass(frozen=True)
class Verdict:
    """How far a precision's labels are from FP32's, on photos that did not help to make it."""

    photos: int
    agreement: float  # share of pixels with the same label, mean over photos
    worst: float  # the same, of the worst photo
    bar: float  # least agreement that passes
    confidence_shift: float  # mean absolute difference of the confidence
    finite: bool  # no NaN and no infinity anywhere
    classes: dict[str, float]  # name -> share of the pixels FP32 gives it that keep it
    labelled: tuple[LabelledVerdict, ...] = ()
    needs: Literal["", "vnni"] = ""  # of the processor, without which the labels are others

    @property
    def passed(self) -> bool:
        """Whether the precision may be used without being forced."""
        return self.finite and self.agreement >= self.bar


@dataclass(frozen=True)
class Manifest:
    """Everything a device needs to know of a bundle besides its tensors."""

    name: str
    created_by: str  # distribution and version
    graph: GraphSpec
    text: TextSpec
    training_vocabulary: tuple[tuple[str, ...], ...]  # each class with its names; they are background classes
    opset: int
    precisions: dict[str, str]  # precision -> file name
    digests: dict[str, str]  # file name -> sha256, every file but the manifest
    related: dict[str, tuple[str, ...]] = field(default_factory=dict)  # first name of a trained class -> words for
    # things that overlap it: who asks for one of them must not have the class compete as background
    stuff: tuple[str, ...] = ()  # first names of the trained classes that are regions without instances: sky, road
    parity: dict[str, Any] = field(default_factory=dict)  # measured differences to the source model
    verdicts: dict[str, Verdict] = field(default_factory=dict)  # of the precisions that ovs-calibrate added
    provenance: dict[str, Any] = field(default_factory=dict)  # preset, checkpoint digest, data, terms
    schema: int = SCHEMA
    background: tuple[tuple[str, ...], ...] = ()  # each with its names: compete as background where nothing was trained
    threshold: float | None = (
        None  # least confidence of a labelled pixel that suits this model; None: the runtime's own
    )

    @property
    def background_classes(self) -> tuple[tuple[str, ...], ...]:
        """Classes whose names compete as background, unless the user says otherwise."""
        return self.background or self.training_vocabulary

    @property
    def batch(self) -> int:
        """Images that the graph takes at once, each with its own text vectors: (batch, K, S, D) where it is not 1."""
        return int(next(spec.shape for spec in self.graph.inputs if spec.name == "image")[0])

    @property
    def input_size(self) -> tuple[int, int]:
        """Height, width of the network's input in pixels."""
        shape = next(spec.shape for spec in self.graph.inputs if spec.name == "image")
        return int(shape[1]), int(shape[2])

    def to_json(self) -> str:
        """Readable JSON, keys in the order of the fields; unset fields that earlier versions do not know are left out."""
        raw = dataclasses.asdict(self)
        if not self.background:
            del raw["background"]
        if self.threshold is None:
            del raw["threshold"]
        if self.graph.clip_dense is None:
            del raw["graph"]["clip_dense"]
        return json.dumps(raw, indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str, origin: str = "manifest.json") -> Manifest:
        """Parse; raises `BundleError` for anything that is not a manifest this version understands."""
        try:
            raw = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise BundleError(f"{origin} is not JSON ({error}); export the bundle again") from error
        if not isinstance(raw, dict):
            raise BundleError(f"{origin} holds a {type(raw).__name__}, expected an object; export the bundle again")
        schema = raw.get("schema")
        if type(schema) is int and schema > SCHEMA:
            raise BundleError(
                f"{origin} has schema {schema}, this version reads up to {SCHEMA}; update ovs-edge or export again"
            )
        if schema != SCHEMA:
            raise BundleError(f"{origin} has schema {schema!r}, expected {SCHEMA}; export the bundle again")
        manifest = parse(cls, raw, origin, "export the bundle again")
        manifest._check(origin)
        manifest._check_bounds(origin)
        return manifest

    def _check(self, origin: str) -> None:
        names = {spec.name for spec in self.graph.inputs}
        if not {"image", "text_embeddings"} <= names:
            raise BundleError(f"{origin}: graph inputs are {sorted(names)}, expected image and text_embeddings")
        outputs = {spec.name for spec in self.graph.outputs}
        if self.graph.task == "panoptic" and not {"mask_logits", "class_logits"} <= outputs:
            raise BundleError(
                f"{origin}: outputs of a panoptic graph are {sorted(outputs)}, expected mask_logits and class_logits "
                "among them; export the bundle again"
            )
        image = next(spec for spec in self.graph.inputs if spec.name == "image")
        if image.dtype != "uint8" or len(image.shape) != 4 or not all(isinstance(n, int) for n in image.shape):
            raise BundleError(f"{origin}: image is {image.dtype} {list(image.shape)}, expected uint8 [1, H, W, 3]")
        if not 1 <= self.batch <= MOST_BATCH or image.shape[3] != 3:
            raise BundleError(
                f"{origin}: image has shape {list(image.shape)}, expected [N, H, W, 3] with N from 1 to {MOST_BATCH}"
            )
        text = next(spec for spec in self.graph.inputs if spec.name == "text_embeddings")
        if self.batch > 1 and (len(text.shape) != 4 or text.shape[0] != self.batch or self.graph.task != "semantic"):
            raise BundleError(
                f"{origin}: text_embeddings of a graph that takes {self.batch} images has shape {list(text.shape)}, "
                f"expected [{self.batch}, K, S, D] and the task semantic; export the bundle again"
            )
        if min(self.input_size) < 1 or self.text.dim < 1 or self.graph.max_classes < 1 or self.graph.stride < 1:
            raise BundleError(f"{origin}: sizes must be positive; export the bundle again")
        if self.threshold is not None and not 0 <= self.threshold <= 1:
            raise BundleError(f"{origin}: threshold is {self.threshold}, expected 0 to 1; export the bundle again")
        for template in self.text.templates:
            if template.count("{}") != 1:
                raise BundleError(f"{origin}: prompt template {template!r} needs exactly one {{}}")
        for file in (*self.precisions.values(), *self.digests):
            if "/" in file or "\\" in file or file in ("", ".", "..", "manifest.json") or "\0" in file:
                raise BundleError(f"{origin}: file name {file!r} is not a plain name inside the bundle")

    def _check_bounds(self, origin: str) -> None:
        """No size or count may cost more memory or time than a real bundle's."""
        height, width = self.input_size
        words = [name for entry in (*self.training_vocabulary, *self.background) for name in entry]
        words += [word for first, related in self.related.items() for word in (first, *related)]
        words += [*self.stuff, self.name]
        for what, found, most in (
            ("the input's longer side", max(height, width), _MOST_SIDE),
            ("the input's pixels", height * width, _MOST_PIXELS),
            ("the text vectors' length", self.text.dim, _MOST_DIM),
            ("the text encoder's context", self.text.context_length, _MOST_TOKENS),
            ("the number of prompt templates", len(self.text.templates), _MOST_TEMPLATES),
            ("the longest prompt template", max(map(len, self.text.templates), default=0), _MOST_CHARACTERS),
            ("the number of classes", self.graph.max_classes, _MOST_CLASSES),
            ("the number of names", len(words), _MOST_NAMES),
            ("the longest name", max(map(len, words), default=0), _MOST_CHARACTERS),
        ):
            if found > most:
                raise BundleError(f"{origin}: {what} is {found}, expected at most {most}; export the bundle again")
        # Control characters would reach the terminal, and half a surrogate pair cannot be written anywhere.
        if odd := [word for word in (*words, *self.text.templates) if not word.isprintable()]:
            raise BundleError(
                f"{origin}: {ascii(odd[0])[:60]} holds characters that cannot be printed; export it again"
            )
