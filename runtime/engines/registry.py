"""All engines, and how a bundle gets the session of one. To add an engine, write a module and add its line here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING

from ...bundle.errors import UsageError, note
from .engine import Engine, EngineOptions

if TYPE_CHECKING:
    from ...bundle.bundle import Bundle
    from .session import Session

# Value of --provider -> module:name of its `Engine`, or the `Engine` itself; `--provider auto` takes the first that can be
# used. A module is imported, and its packages are needed, only when its engine is asked about.
ENGINES: dict[str, str | Engine] = {
    "cuda": ".onnx_runtime:CUDA",
    "cuda-graphs": ".onnx_runtime:CUDA_GRAPHS",
    "cpu": ".onnx_runtime:CPU",
    "tensorrt": ".open_plan:TENSORRT",
}
AUTO = "auto"


def providers() -> tuple[str, ...]:
    """Values of `--provider`."""
    return (AUTO, *sorted(ENGINES))


def engines() -> Iterator[Engine]:
    """Every engine, in the order in which `auto` tries them. Their packages need not be installed."""
    yield from map(_load, ENGINES)


def _load(name: str) -> Engine:
    entry = ENGINES[name]
    if isinstance(entry, Engine):
        return entry
    module, _, attribute = entry.partition(":")
    engine: Engine = getattr(import_module(module, __package__), attribute)
    return engine


def open_session(bundle: Bundle, options: EngineOptions | None = None) -> Session:
    """Load the bundle's segmenter.

    Raises `UsageError` for a precision or provider that is not there, `BundleError` for a graph that does not load,
    `PlanError` for a plan, `MissingExtraError` where the engine is not installed.
    """
    return open_resolved(bundle, *resolve(bundle, EngineOptions() if options is None else options))


def open_resolved(bundle: Bundle, engine: Engine, options: EngineOptions) -> Session:
    """Load the bundle's segmenter with what `resolve` found; callers give single images, whatever the graph takes."""
    return of_single_images(engine.open(bundle, options), bundle)


def of_single_images(session: Session, bundle: Bundle) -> Session:
    """The `session` of the bundle's graph as one that takes single images, if it takes several at once."""
    if bundle.manifest.batch == 1:
        return session
    from .batched_session import BatchedSession  # not above: --help must not wait for NumPy

    return BatchedSession(session, bundle.manifest.batch)


def resolve(bundle: Bundle, options: EngineOptions) -> tuple[Engine, EngineOptions]:
    """The engine that `options` name or `auto` finds, and the options with its name and a precision of the bundle.

    Raises as `open_session`.
    """
    if options.plan is not None and options.provider not in (AUTO, "tensorrt"):
        raise UsageError(f"a plan runs on TensorRT, the provider is {options.provider!r}; leave one of the two out")
    if options.provider not in providers():
        raise UsageError(f"the provider is {options.provider!r}, expected one of: {', '.join(providers())}")
    name = "tensorrt" if options.plan is not None else options.provider
    engine = _first_usable(options) if name == AUTO else _load(name)
    precision = engine.fastest(bundle, options) if options.precision == AUTO else options.precision
    return engine, replace(options, provider=engine.name, precision=precision)


def _first_usable(options: EngineOptions) -> Engine:
    reasons: list[str] = []
    for engine in engines():
        obstacle = engine.obstacle(options)
        if obstacle is None:
            if reasons:
                note(f"{'; '.join(reasons)}; running on {engine.name}")
            return engine
        if obstacle.unexpected:
            reasons.append(obstacle.text)
    raise UsageError("no engine can be used here; run ovs-doctor")
