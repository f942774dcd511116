"""Makes a plan from a bundle: builds the candidates, compares each with ONNX Runtime, keeps the best that passes."""

from __future__ import annotations

import importlib.metadata
import json
import re
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import onnx

from ...bundle.bundle import Bundle, written_whole
from ...bundle.errors import ParityError, PlanError, UsageError
from ...bundle.files import cache_folder, refuse_occupied
from ...runtime.engines.engine import EngineOptions
from ...runtime.engines.onnx_runtime import OnnxSession
from ...runtime.engines.plan import (
    ENGINE,
    LAYERS,
    SIDECAR,
    Formulation,
    Plan,
    Profile,
    Sidecar,
    Target,
    cached,
    cached_path,
)
from ...runtime.engines.session import Session
from ...runtime.engines.tensorrt import TensorRTSession
from ...runtime.engines.tensorrt_api import MSDA_PLUGIN
from ..graph.checks import check_graph
from ..graph.gather_sampling import replace_grid_samples
from .builder import BuildRequest, BuiltEngine
from .child_process import Progress, available_bytes, build_in_child, check_memory
from .parity import PlanParity, compare_plan, make_vocabularies
from .photos import GENERATED, Pictures
from .plugin import replace_with_plugin

# Padded sizes of the text vectors. Background classes have up to 48 names each, fewer with more than 128 classes; a
# class of the user has 64 names at most.
_CLASSES = (8, 32, 128, 512)
_NAMES = 64
_ROWS = 16384  # most names in all
AUTO = "auto"
LEVEL = 3  # of optimisation, where none was asked for
_FOR_CPU = "int8-cpu"

Tell = Callable[[str], None]
Open = Callable[[Plan], Session]


@dataclass(frozen=True)
class PlanOptions:
    """What to build."""

    precision: str  # of the bundle, or "auto": the fastest that passes
    msda: str  # "gridsample", "gather", "plugin", or "auto": the bundle's own, then the others if that fails
    profiles: tuple[Profile, ...]
    level: int | None  # of the builder's optimisation, 0..5; None: LEVEL
    workspace: int | None  # bytes; None: half of the GPU's free memory
    images: str | None  # images to compare on; None: the demo's, or generated ones
    memory_check: bool  # whether too little memory is refused before the build
    plugin: str | None = None  # version of TensorRT's plugin here; None: there is none


@dataclass(frozen=True)
class Candidate:
    """One engine that may be built."""

    precision: str
    formulation: Formulation

    def __str__(self) -> str:
        return f"{self.precision} {self.formulation}"


@dataclass(frozen=True)
class PlanOutcome:
    """One engine that was built."""

    candidate: Candidate
    folder: Path  # where its files are
    built: BuiltEngine
    parity: PlanParity | None  # None: there is no GPU to run it on


def default_profiles(most: int) -> tuple[Profile, ...]:
    """Sizes up to `most` classes, the largest K of a bundle."""
    return tuple(Profile(count, min(_NAMES, _ROWS // count)) for count in (*(c for c in _CLASSES if c < most), most))


def parse_profiles(text: str, most: int) -> tuple[Profile, ...]:
    """`"8x64,128x32"`, classes x names; raises `UsageError`."""
    found = [re.fullmatch(r"([0-9]{1,6})x([0-9]{1,6})", part.strip()) for part in text.split(",")]
    profiles = [Profile(int(match[1]), int(match[2])) for match in found if match is not None]
    if len(profiles) != len(found) or any(not 1 <= one.classes <= most or one.names < 1 for one in profiles):
        raise UsageError(
            f"--profiles is {text[:60]!r}, expected CLASSESxNAMES such as 8x64,32x64 with at most {most} classes, the "
            "largest number of the bundle"
        )
    return tuple(dict.fromkeys(profiles))


def candidates(bundle: Bundle, options: PlanOptions, *, gpu: bool) -> list[Candidate]:
    """Engines to build, in order. Raises `UsageError` for a request that this bundle or machine cannot meet."""
    own = bundle.manifest.graph.msda
    if options.msda in ("gridsample", "plugin") and own == "gather":
        raise UsageError(f"{bundle.path} was exported with gather; export it again with --msda gridsample")
    if options.msda == "plugin" and options.plugin is None:
        raise UsageError(f"this TensorRT has no {MSDA_PLUGIN}; use --msda gridsample or gather")
    if options.precision == _FOR_CPU:
        raise UsageError(f"{_FOR_CPU} is for processors; the INT8 that TensorRT takes is called int8")
    precisions = [options.precision]
    if options.precision == AUTO:
        if not gpu:
            raise UsageError(
                "--precision auto keeps the fastest plan, and no GPU is here to run them; name a precision"
            )
        verdicts = {} if bundle.force else bundle.manifest.verdicts
        passed = {name for name in bundle.manifest.precisions if name not in verdicts or verdicts[name].passed}
        precisions = [name for name in bundle.manifest.precisions if name in passed and name != _FOR_CPU]
    for precision in precisions:
        bundle.graph(precision)
    formulations: list[Formulation] = [own]
    if options.msda == "gather":
        formulations = ["gather"]
    elif options.msda == "plugin":
        formulations = ["plugin"]
    elif options.msda == AUTO and gpu and own == "gridsample":
        formulations = [own, "gather"] if options.plugin is None else [own, "gather", "plugin"]
    return [Candidate(precision, formulation) for precision in precisions for formulation in formulations]


def choose_plan(
    wanted: Sequence[Candidate], build: Callable[[Candidate], PlanOutcome], tell: Tell, *, fastest: bool
) -> PlanOutcome:
    """The fastest plan that passes, or the first that does; raises the first failure if none does."""
    passed: list[PlanOutcome] = []
    failure: Exception | None = None
    for candidate in wanted:
        try:
            outcome = build(candidate)
            if outcome.parity is not None:
                outcome.parity.check()
        except (ParityError, PlanError) as error:
            failure = failure or error
            tell(f"{candidate.precision}, {candidate.formulation}: {error}")
            continue
        passed.append(outcome)
        if not fastest:
            break
        if outcome.parity is not None:
            tell(f"{candidate.precision}, {candidate.formulation}: passes, {outcome.parity.speed}")
    if not passed:
        assert failure is not None
        raise failure
    return min(passed, key=lambda outcome: outcome.parity.milliseconds if outcome.parity else 0.0)


def make_plan(
    bundle: Bundle,
    options: PlanOptions,
    target: Target,
    output: Path | None,
    pictures: Pictures | None,
    tell: Tell,
    progress: Progress,
    open_session: Open = TensorRTSession,
) -> tuple[PlanOutcome, Path | None]:
    """Build, compare and keep a plan. Returns the plan chosen and its folder, None if it was not kept.

    `open_session` runs plans on the GPU, on `pictures`; those are None without a GPU. Then nothing can be compared, so
    nothing goes to the cache, and only a named `output` is written.
    """
    wanted = candidates(bundle, options, gpu=pictures is not None)
    for precision in dict.fromkeys(candidate.precision for candidate in wanted):
        check_graph(bundle.graph(precision), bundle.manifest)
    if output is not None:
        refuse_occupied(output, SIDECAR, "plan")  # now, not after minutes of building
    if pictures is not None and pictures.source == GENERATED:
        tell(
            "comparing on generated images, since no --images were given and the demo's photos are not installed; give "
            "--images of what the device will see"
        )
    # Steps that may fail for a missing package or file come before the build.
    vocabularies = [] if pictures is None else make_vocabularies(bundle, options.profiles)
    with tempfile.TemporaryDirectory(prefix="ovs-build-") as folder:

        def build(candidate: Candidate) -> PlanOutcome:
            tell(f"building {candidate.precision}, {candidate.formulation}")
            work = Path(folder) / f"{candidate.precision}-{candidate.formulation}"
            work.mkdir()
            graph = _graph(bundle, candidate, options.plugin, work)
            if options.memory_check:
                check_memory(graph, available_bytes())
            request = _request(bundle, options, target, graph, work)
            built = build_in_child(replace(request, plugins=candidate.formulation == "plugin"), progress)
            for warning in built.warnings:
                tell(warning)
            (work / LAYERS).write_text(json.dumps([asdict(layer) for layer in built.layers]), encoding="utf-8")
            sidecar = _sidecar(bundle, candidate, options, target, built)
            if options.precision == AUTO:
                sidecar = replace(sidecar, chosen_from=tuple(map(str, wanted)))
            (work / SIDECAR).write_text(sidecar.to_json(), encoding="utf-8")
            if pictures is None:
                return PlanOutcome(candidate, work, built, None)
            with (
                open_session(Plan.open(work)) as session,
                OnnxSession(bundle, EngineOptions(candidate.precision, provider="cpu")) as other,
            ):
                panoptic = bundle.manifest.graph.task == "panoptic"
                parity = compare_plan(
                    session, other, pictures, vocabularies, candidate.precision, tell, panoptic=panoptic
                )
            sidecar = replace(sidecar, parity=parity.to_dict())
            (work / SIDECAR).write_text(sidecar.to_json(), encoding="utf-8")
            return PlanOutcome(candidate, work, built, parity)

        chosen = choose_plan(wanted, build, tell, fastest=options.precision == AUTO)
        place = output
        if place is None and pictures is not None:
            place = cached_path(bundle.digest, chosen.candidate.precision, target, options.profiles)
        if place is not None:
            with written_whole(place, SIDECAR, "plan") as work:
                for name in (ENGINE, SIDECAR, LAYERS):
                    shutil.copyfile(chosen.folder / name, work / name)
        if output is None and place is not None:
            _forget_stale(bundle, chosen.candidate.precision, target)
        return chosen, place


def _graph(bundle: Bundle, candidate: Candidate, plugin: str | None, work: Path) -> Path:
    path = bundle.graph(candidate.precision)
    if candidate.formulation == bundle.manifest.graph.msda:
        return path
    rewritten, model = work / path.name, onnx.load(str(path))
    if candidate.formulation == "plugin":
        assert plugin is not None  # otherwise it is no candidate
        onnx.save(replace_with_plugin(model, plugin), str(rewritten))
    else:
        onnx.save(replace_grid_samples(model), str(rewritten))
    return rewritten


def _request(bundle: Bundle, options: PlanOptions, target: Target, graph: Path, work: Path) -> BuildRequest:
    name = f"{target.module}-{target.version}-{target.gpu or 'no GPU'}.timing"
    return BuildRequest(
        graph=graph,
        engine=work / ENGINE,
        module=target.module,
        profiles=options.profiles,
        dim=bundle.manifest.text.dim,
        level=LEVEL if options.level is None else options.level,
        workspace=options.workspace,
        timing_cache=cache_folder("timing") / name.replace("/", " ") if target.module == "tensorrt" else None,
    )


def _sidecar(bundle: Bundle, candidate: Candidate, options: PlanOptions, target: Target, built: BuiltEngine) -> Sidecar:
    return Sidecar(
        bundle=bundle.manifest.name,
        bundle_digest=bundle.digest,
        precision=candidate.precision,
        formulation=candidate.formulation,
        target=target,
        profiles=options.profiles,
        level=LEVEL if options.level is None else options.level,
        engine_sha256=built.sha256,
        engine_bytes=built.size,
        created_by=f"ovs-edge {importlib.metadata.version('ovs-edge')}",
        manifest=bundle.manifest,
        workspace=options.workspace,
    )


def _forget_stale(bundle: Bundle, precision: str, target: Target) -> None:
    """Remove cached plans of this GPU and module in another version: they cannot be loaded any more."""
    for plan in cached(bundle, precision):
        found = plan.sidecar.target
        if (found.module, found.gpu) == (target.module, target.gpu) and found.version != target.version:
            shutil.rmtree(plan.path, ignore_errors=True)
