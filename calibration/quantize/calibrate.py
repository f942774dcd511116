"""Adds precisions to a bundle: quantises its graph, compares each with FP32, and writes the new bundle."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import importlib.metadata
import json
import shutil
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import version_converter

from ...bundle.bundle import MANIFEST, Bundle, sha256, written_whole
from ...bundle.errors import UsageError
from ...bundle.files import cache_folder, replacing
from ...bundle.manifest import LabelledVerdict, Manifest, Verdict
from ...bundle.processor import Processor
from ...runtime.engines.onnx_runtime import open_graph
from ...runtime.segmenter import Segmenter, SegmenterOptions
from ...runtime.vocabulary.text_encoder import TextEncoder
from ..graph.checks import check_graph
from ..graph.constant_folding import fold_constants
from ..graph.layers import QuantizableLayer, find_layers, group_names
from ..labelled import LabelledPhotos
from ..options import Precision
from .comparison import GraphSession, OutputMaps, compare, open_model, run_sample
from .cpu_rewrites import REWRITES_VERSION, rewrite_for_cpu
from .equalisation import equalised
from .fp16 import convert_to_fp16, emulate_fp16, fp16_tensors
from .kernel_times import kernel_milliseconds
from .layer_selection import LayerChoice, LayerGroup, SelectionInputs, aim, choose_layers
from .qdq import (
    CPU,
    TENSORRT,
    Int8,
    Scheme,
    convolution_inputs,
    layers_of_groups,
    observed_tensors,
    quantize_layers,
    rounded_weights,
)
from .ranges import Method, Statistics, all_finite, find_statistics, runs
from .samples import SampleSplit, read_samples
from .sensitivity_plot import PLOT, REPORT, plot
from .weight_rounding import IMAGES, input_moments

BARS: dict[Precision, float] = {"fp16": 0.99, "int8": 0.97, "int8-cpu": 0.97}

# Q/DQ nodes take FP16 from opset 19 on; at 20 GridSample's mode has another name (see the exporter).
_OPSET = 19
_SCANNED = 2  # images on which every FP16 tensor is checked for infinities

Tell = Callable[[str, int, int], None]  # step, done, of


@dataclass(frozen=True)
class CalibrationOptions:
    """Which precisions to write, from which images, and their acceptance thresholds."""

    images: str  # folder, glob or video
    precisions: tuple[Precision, ...]
    bars: dict[Precision, float]  # acceptance thresholds: least share of labels equal to FP32's
    method: Method = "mse"
    pictures: int = 96  # largest number of images
    labelled: tuple[Path, ...] = ()  # folders of photos with masks
    without: frozenset[str] = frozenset()  # groups that are not quantised
    processor: Processor = "x86"  # that int8-cpu is for
    threads: int = 0  # of ONNX Runtime; 0: one per core
    held_out: str | None = None  # images for the verdict; None: a third of `images`


@dataclass(frozen=True)
class PrecisionOutcome:
    """Result of one precision."""

    precision: Precision
    verdict: Verdict
    choice: LayerChoice | None  # of an INT8 precision
    milliseconds: tuple[float, float] | None  # kernel times of FP32 and of this precision; int8-cpu only


@dataclass(frozen=True)
class CalibrationResult:
    """Result of a calibration."""

    manifest: Manifest
    outcomes: tuple[PrecisionOutcome, ...]
    warnings: tuple[str, ...]


def calibrate(bundle: Bundle, target: Path, options: CalibrationOptions, tell: Tell) -> CalibrationResult:
    """Write `target`, the bundle with `options.precisions`; `target` may be the bundle itself.

    Nothing is written before everything is computed. Raises `UsageError`, `SourceError`, `DatasetError`,
    `BundleError`. A precision below its threshold does not raise: see `PrecisionOutcome.verdict`.
    """
    check_graph(bundle.graph("fp32"), bundle.manifest)
    labelled = [LabelledPhotos(folder) for folder in options.labelled]
    tell("reading images", 0, 0)
    samples = read_samples(options.images, options.pictures, bundle, options.threads, options.held_out)
    work = _Calibrator(bundle, samples, labelled, options, tell)
    made = {precision: work.make(precision) for precision in options.precisions}
    outcomes = tuple(outcome for _, outcome in made.values())
    manifest = _write(bundle, target, {name: model for name, (model, _) in made.items()}, outcomes, samples, options)
    return CalibrationResult(manifest, outcomes, samples.warnings)


class _Calibrator:
    """Makes and compares one precision after the other; keeps what they share."""

    def __init__(
        self,
        bundle: Bundle,
        samples: SampleSplit,
        labelled: list[LabelledPhotos],
        options: CalibrationOptions,
        tell: Tell,
    ) -> None:
        self._bundle, self._samples, self._labelled = bundle, samples, labelled
        self._options, self._tell = options, tell
        path = bundle.graph("fp32")
        self._base = fold_constants(path)
        known = group_names(find_layers(self._base))
        if unknown := sorted(options.without - set(known)):
            raise UsageError(f"there is no group {unknown[0]!r} to leave out; this model has: {', '.join(known)}")
        self._fp32 = open_graph(path, options.threads, "cpu")
        self._expected: dict[int, OutputMaps] = {}
        self._ious: list[float] = []
        # Measurements are cached by this key, so that the same images give the same files, bit by bit.
        self._origin = [
            sha256(path),
            samples.digest,
            options.method,
            importlib.metadata.version("ovs-edge"),
            importlib.metadata.version("onnxruntime"),
        ]

    def make(self, precision: Precision) -> tuple[onnx.ModelProto, PrecisionOutcome]:
        """The graph in `precision` and its comparison with FP32."""
        if precision == "fp16":
            model = convert_to_fp16(self._base)
            return model, self._outcome(precision, model, None)
        scheme = TENSORRT if precision == "int8" else CPU[self._options.processor]
        base = self._equalised(precision, rewrite_for_cpu(self._base) if scheme.whole else self._base)
        layers = find_layers(base)
        statistics = self._statistics(precision, base, layers)
        weights = self._weights(precision, scheme, base, layers)
        choice = self._choice(precision, scheme, base, layers, statistics, weights)
        layers = layers_of_groups(layers, choice.names)
        if scheme is TENSORRT:
            newer = version_converter.convert_version(base, _OPSET)
            model = convert_to_fp16(quantize_layers(newer, layers, statistics, scheme, weights))
        else:
            model = quantize_layers(base, layers, statistics, scheme, weights)
        return model, self._outcome(precision, model, choice)

    def _equalised(self, precision: Precision, base: onnx.ModelProto) -> onnx.ModelProto:
        feeds = self._few_feeds()
        return equalised(base, feeds, self._ticks(f"{precision}: equalising channels", len(feeds)))

    def _few_feeds(self) -> list[dict[str, npt.NDArray[np.generic]]]:
        """Some of the calibration samples, evenly spread: enough for moments and channel ranges."""
        samples = self._samples.learn
        return [sample.feeds for sample in samples[:: max(1, len(samples) // IMAGES)][:IMAGES]]

    def _statistics(self, precision: Precision, base: onnx.ModelProto, layers: list[QuantizableLayer]) -> Statistics:
        feeds = [sample.feeds for sample in self._samples.learn]
        total = runs(self._options.method, len(feeds))
        tick = self._ticks(f"{precision}: ranges", total)

        def measure() -> dict[str, Any]:
            names, pictures = observed_tensors(base, layers), convolution_inputs(base, layers)
            return asdict(find_statistics(base, names, pictures, feeds, self._options.method, tick))

        found = _cached([*self._origin, "statistics", _digest(base)], measure)
        return Statistics({name: (low, high) for name, (low, high) in found["ranges"].items()}, found["means"])

    def _weights(
        self, precision: Precision, scheme: Scheme, base: onnx.ModelProto, layers: list[QuantizableLayer]
    ) -> dict[str, Int8]:
        feeds = self._few_feeds()
        tick = self._ticks(f"{precision}: rounding weights", len(feeds))

        def measure() -> dict[str, Any]:
            made = rounded_weights(base, layers, scheme, input_moments(base, layers, feeds, tick))
            return {name: [list(value.shape), _packed(value)] for name, value in made.items()}

        found = _cached([*self._origin, "weights", _digest(base), scheme.weight_limit, scheme.half_scales], measure)
        return {name: _unpacked(text, shape) for name, (shape, text) in found.items()}

    def _choice(
        self,
        precision: Precision,
        scheme: Scheme,
        base: onnx.ModelProto,
        layers: list[QuantizableLayer],
        statistics: Statistics,
        weights: dict[str, Int8],
    ) -> LayerChoice:
        samples, bar = self._samples.choose, self._options.bars[precision]

        def measure() -> dict[str, Any]:
            bench = SelectionInputs(
                base, layers, statistics, scheme, weights,
                [self._truth(sample) for sample in samples], samples, self._options.threads,
            )  # fmt: skip
            step = self._ticks(f"{precision}: choosing layers", len(group_names(layers)) + 1)
            return asdict(choose_layers(bench, bar, self._options.without, step))

        state = [
            precision,
            _digest(base),
            REWRITES_VERSION,
            scheme.activation.__name__,
            scheme.weight_limit,
            aim(bar),
            sorted(self._options.without),
            self._options.threads,
        ]
        found = _cached([*self._origin, "choice", state], measure)
        return LayerChoice(tuple(LayerGroup(**group) for group in found["groups"]), found["agreement"])

    def _outcome(self, precision: Precision, model: onnx.ModelProto, choice: LayerChoice | None) -> PrecisionOutcome:
        on_gpu = precision != "int8-cpu"
        compared = emulate_fp16(model) if on_gpu else model
        session = open_model(compared, self._options.threads, exact=on_gpu)
        samples = self._samples.judge
        found = compare(
            [self._truth(sample) for sample in samples],
            session,
            samples,
            self._ticks(f"{precision}: comparing with fp32", len(samples)),
        )
        finite = found.finite
        if on_gpu:
            names = fp16_tensors(compared)
            finite = finite and all_finite(compared, names, [sample.feeds for sample in samples[:_SCANNED]])
        verdict = Verdict(
            photos=len(samples),
            agreement=round(found.agreement, 6),
            worst=round(found.worst, 6),
            bar=self._options.bars[precision],
            confidence_shift=round(found.confidence_shift, 6),
            finite=finite,
            classes={name: round(share, 4) for name, share in found.classes.items()},
            labelled=self._labelled_verdicts(precision, session),
            needs="vnni" if precision == "int8-cpu" and self._options.processor == "vnni" else "",
        )
        times = None
        if not on_gpu:
            state = [_digest(model), self._options.threads]
            graphs, feeds = (self._base, model), min(samples, key=lambda one: len(one.words.labels)).feeds
            before, after = _cached(
                [*self._origin, "kernel milliseconds", state],
                lambda: {"times": [kernel_milliseconds(graph, feeds, self._options.threads) for graph in graphs]},
            )["times"]
            times = before, after
        return PrecisionOutcome(precision, verdict, choice, times)

    def _labelled_verdicts(self, precision: Precision, session: Any) -> tuple[LabelledVerdict, ...]:
        encoder, manifest = TextEncoder(self._bundle, self._options.threads), self._bundle.manifest

        def mean_iou(photos: LabelledPhotos, of: Any, what: str) -> float:
            segmenter = Segmenter(manifest, GraphSession(of), encoder, SegmenterOptions("none", 0.0, "semantic"))
            return photos.mean_iou(segmenter, self._ticks(f"{what}: {photos.name}", len(photos)))

        if not self._ious:
            self._ious = [mean_iou(photos, self._fp32, "fp32") for photos in self._labelled]
        return tuple(
            LabelledVerdict(photos.name, len(photos), round(fp32, 6), round(mean_iou(photos, session, precision), 6))
            for photos, fp32 in zip(self._labelled, self._ious, strict=True)
        )

    def _truth(self, sample: Any) -> OutputMaps:
        if id(sample) not in self._expected:
            self._expected[id(sample)] = run_sample(self._fp32, sample)
        return self._expected[id(sample)]

    def _ticks(self, what: str, total: int) -> Callable[[], None]:
        """A callback that reports one more of `total` steps."""
        done = 0

        def tick() -> None:
            nonlocal done
            self._tell(what, done, total)
            done += 1

        return tick


def _packed(value: Int8) -> str:
    return base64.b64encode(zlib.compress(np.ascontiguousarray(value).tobytes())).decode()


def _unpacked(text: str, shape: list[int]) -> Int8:
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), np.int8).reshape(shape)


def _digest(model: onnx.ModelProto) -> str:
    return hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest()


def _cached(key: list[Any], measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The result of `measure` for this key, from the cache if it is there; an unreadable entry is measured again."""
    name = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:32]
    path = cache_folder("calibration") / f"{name}.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(found, dict):
            return found
    except (OSError, ValueError):
        pass
    # Through JSON in both cases, so that a cached value equals a measured one.
    text = json.dumps(measure())
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path, hashlib.sha256(text.encode()).hexdigest()[:8]) as work:
            work.write_text(text, encoding="utf-8")
    except OSError:
        pass  # without a cache only time is lost
    result: dict[str, Any] = json.loads(text)
    return result


def _write(
    bundle: Bundle,
    target: Path,
    models: dict[Precision, onnx.ModelProto],
    outcomes: tuple[PrecisionOutcome, ...],
    samples: SampleSplit,
    options: CalibrationOptions,
) -> Manifest:
    manifest = bundle.manifest
    report = _report(bundle, outcomes, samples, options)
    with written_whole(target) as work:
        for name in manifest.digests:
            shutil.copyfile(bundle.path / name, work / name)
        precisions, written = dict(manifest.precisions), []
        for precision, model in models.items():
            precisions[precision] = f"segmenter.{precision}.onnx"
            (work / precisions[precision]).write_bytes(model.SerializeToString(deterministic=True))
            written.append(precisions[precision])
        (work / REPORT).write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        written += [REPORT, *([PLOT] if plot(report, work / PLOT) else [])]
        manifest = dataclasses.replace(
            manifest,
            precisions=precisions,
            verdicts={**manifest.verdicts, **{outcome.precision: outcome.verdict for outcome in outcomes}},
            digests={**manifest.digests, **{name: sha256(work / name) for name in written}},
        )
        (work / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
        Bundle.open(work)
    return manifest


def _earlier(path: Path) -> dict[str, Any]:
    """Entries of an earlier report, by precision; none of a file that is no report."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["precisions"]
        return {name: entry for name, entry in found.items() if isinstance(entry["groups"], list)}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def _report(
    bundle: Bundle, outcomes: tuple[PrecisionOutcome, ...], samples: SampleSplit, options: CalibrationOptions
) -> dict[str, Any]:
    """`calibration.json`: how each precision was made. Entries of an earlier calibration stay."""
    earlier: dict[str, Any] = {}
    if REPORT in bundle.manifest.digests:
        earlier = _earlier(bundle.path / REPORT)
    made = {
        "pictures": {"learn": len(samples.learn), "choose": len(samples.choose), "judge": len(samples.judge)},
        "pictures_digest": samples.digest,
        "method": options.method,
        "warnings": list(samples.warnings),
        "onnxruntime": importlib.metadata.version("onnxruntime"),
    }
    entries = {
        outcome.precision: {
            **made,
            "verdict": {**asdict(outcome.verdict), "passed": outcome.verdict.passed},
            "groups": [] if outcome.choice is None else [asdict(group) for group in outcome.choice.groups],
            "milliseconds": None if outcome.milliseconds is None else list(outcome.milliseconds),
        }
        for outcome in outcomes
    }
    return {"precisions": {**earlier, **entries}}
