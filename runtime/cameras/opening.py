"""From the configuration of a camera to its source and its outputs."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from ...bundle.addresses import scheme_of
from ...bundle.errors import UsageError
from ..capture.live.clip import open_clip
from ..capture.registry import open_source
from ..capture.source import Source
from ..sinks.registry import open_json_sink, open_mask_sink, open_sink
from ..sinks.sink import Sink, SinkRequest
from .config import CameraConfig


def open_camera(config: CameraConfig) -> Source:
    """The source of a camera, live: a video file is played in a loop. Raises `SourceError`, `UsageError`."""
    options = replace(config.capture, most_fps=config.max_fps)
    path = Path(config.source)
    if scheme_of(config.source) is None and path.is_file():
        return open_clip(path, options)
    return open_source(camera=config.source, options=options)


def open_outputs(name: str, config: CameraConfig, source: Source) -> list[Sink]:
    """The files of a camera. None is left open if one cannot be opened. Raises `UsageError`, `SinkError`."""
    sinks: list[Sink] = []
    with ExitStack() as undo:

        def add(sink: Sink) -> None:
            sinks.append(sink)
            undo.callback(sink.close)

        def request(target: str) -> SinkRequest:
            return SinkRequest(dated(target), source, config.overwrite)

        if config.save is not None:
            add(open_sink(request(config.save)))
        if config.json is not None:
            add(open_json_sink(request(config.json), masks=config.masks, camera=name))
        if config.save_masks is not None:
            add(open_mask_sink(request(config.save_masks)))
        undo.pop_all()
    return sinks


def dated(target: str) -> str:
    """`target` with the present time for `%Y`, `%m`, `%d`, `%H`, `%M` and `%S`.

    So that a service that is started again leaves the outputs of before. Raises `UsageError`.
    """
    try:
        return time.strftime(target) if "%" in target else target
    except ValueError as error:
        raise UsageError(f"the output {target!r} has a % that is no part of a date ({error})") from error
