"""`ovs-train`: from what was asked for to a recipe and a run. An interrupted run is continued with its own options."""

from __future__ import annotations

import dataclasses
import json
import os
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar, cast, get_args, get_type_hints

from ..bundle.errors import CheckpointError, UsageError
from ..models import default_weights
from .options import RUN_FILE, TrainingRunOptions
from .recipes import Recipe
from .recipes import recipe as recipe_of
from .request import TrainRequest, weighted_folder
from .run import run_training

EMBEDDED = Path("default")  # --start: the weights of the embedded model
_Options = TypeVar("_Options")
_OF_THIS_CALL = (
    "output",
    "resume",
    "until",
    "dry_run",
)  # what a continued run does not take from the one that began it


def run(request: TrainRequest) -> int:
    """Train as asked; raises `UsageError` for options that contradict each other. Returns the exit code."""
    if request.resume:
        request = remembered(request)
    if not request.data:
        raise UsageError("no data; name a folder with --data, or continue an earlier run with -o FOLDER --resume")
    run_training(*resolve(request))
    return 0


def resolve(request: TrainRequest) -> tuple[Recipe, TrainingRunOptions]:
    """The recipe with the request's changes, and where and on what it runs."""
    embedded = request.start == EMBEDDED
    chosen = recipe_of(request.recipe or ("dense" if embedded else "plain"))
    scale = None if request.largest_scale is None else (chosen.train.scale[0], request.largest_scale)
    train = _given(
        chosen.train, steps=request.steps, batch=request.batch, crop=request.crop, view=request.view, scale=scale,
        balance=request.balance, paste=request.paste, mosaic=request.mosaic, lr=request.lr,
        backbone_lr=request.backbone_lr, frozen_stages=request.frozen_stages, schedule=request.schedule,
        precision=request.precision, names=request.names, validate_every=request.validate_every,
        workers=request.workers, seed=request.seed,
    )  # fmt: skip
    train = dataclasses.replace(train, warmup=min(train.warmup, max(1, train.steps // 10)))
    losses = _given(
        chosen.losses, drawn=request.drawn, absent=request.absent, region=request.distill_region,
        pairs=request.distill_pairs, centred=request.centred, trusted=request.trusted,
    )  # fmt: skip
    teacher = chosen.teacher if request.teacher is None else "" if request.teacher == "none" else request.teacher
    recipe = dataclasses.replace(
        chosen, preset=request.preset or chosen.preset, train=train, losses=losses, teacher=teacher
    )
    options = TrainingRunOptions(
        data=[weighted_folder(entry) for entry in request.data],
        photos=[weighted_folder(entry) for entry in request.photos],
        folder=request.output, resume=request.resume, until=request.until, dry_run=request.dry_run,
        request=to_json(request),
    )  # fmt: skip
    return recipe, _given(
        options, threads=request.threads, device=request.device, pretrained=request.pretrained,
        start=default_weights() if embedded else request.start,
        clip_text=request.clip_text, split=request.split, pseudo=request.pseudo, pseudo_share=request.pseudo_share,
        region_cache=request.region_cache, photo_cache=request.photo_cache, cache_gb=request.cache_gb,
        tensorboard=request.tensorboard,
    )  # fmt: skip


def _given(options: _Options, **values: Any) -> _Options:
    """`options` with the values that are not None."""
    given = {name: value for name, value in values.items() if value is not None}
    changed: _Options = dataclasses.replace(cast(Any, options), **given)
    return changed


def to_json(request: TrainRequest) -> str:
    """The options given, as JSON; folders as absolute paths, so that the run can be continued from anywhere."""
    entries: dict[str, Any] = {}
    for field in dataclasses.fields(request):
        value = getattr(request, field.name)
        if field.name in _OF_THIS_CALL or value is None or value == ():
            continue
        if field.name in ("data", "photos"):
            value = [_absolute(entry) for entry in value]
        elif isinstance(value, Path) and value != EMBEDDED:
            value = os.path.abspath(value)
        entries[field.name] = (
            value.value if isinstance(value, Enum) else str(value) if isinstance(value, Path) else value
        )
    return json.dumps(entries, indent=1) + "\n"


def _absolute(entry: str) -> str:
    folder, weight = weighted_folder(entry)
    return f"{os.path.abspath(folder) if folder.exists() else folder}:{weight:g}"


def remembered(request: TrainRequest) -> TrainRequest:
    """The request with the options of the run in its output folder where it gives none itself.

    A run that wrote none down, or into another folder, is left to the request alone. Raises `CheckpointError` for a
    file that is damaged.
    """
    path = request.output / RUN_FILE
    if not path.is_file():
        return request
    try:
        earlier = _from_json(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, AttributeError, UsageError) as error:
        raise CheckpointError(
            f"cannot read the options of the run in {path} ({error}); give the same options as at its start"
        ) from error
    given = {field.name: getattr(request, field.name) for field in dataclasses.fields(request)}
    changed = {name: value for name, value in given.items() if name in _OF_THIS_CALL or value not in (None, ())}
    return dataclasses.replace(earlier, **changed)


def _from_json(entries: dict[str, Any]) -> TrainRequest:
    hints = get_type_hints(TrainRequest)
    values: dict[str, Any] = {}
    for name, value in entries.items():
        if name not in hints:
            raise ValueError(f"unknown option {name!r}")
        kinds = get_args(hints[name]) or (hints[name],)
        values[name] = tuple(map(str, value)) if Ellipsis in kinds else _converted(value, kinds[0])
    return TrainRequest(**values)


def _converted(value: Any, kind: Any) -> Any:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind in (int, float, bool, str):
        if type(value) is not kind:
            raise ValueError(f"{value!r} is not of type {kind.__name__}")
        return value
    return kind(value)  # a path or one of the choices
