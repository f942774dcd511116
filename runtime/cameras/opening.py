"""From the configuration of a camera to its source and its outputs."""

from __future__ import annotations

import hashlib
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from ...bundle.addresses import scheme_of
from ...bundle.errors import UsageError
from ...bundle.files import read_bounded
from ..capture.live.clip import open_clip
from ..capture.registry import open_source
from ..capture.source import Source
from ..sinks.output_files import refuse_foreign
from ..sinks.registry import open_json_sink, open_mask_sink, open_sink
from ..sinks.sink import Sink, SinkRequest
from .config import CameraConfig

_MOST_BYTES = 64 * 2**20  # of a file of classes; larger ones are refused where they are read


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


def refuse_foreign_outputs(config: CameraConfig, allow: str) -> None:
    """Raise `UsageError` where a file of others stands in the place of an output; `allow` is how it may be replaced."""
    for output in config.outputs:
        refuse_foreign(Path(dated(output)), "the output", overwrite=config.overwrite, allow=allow)


def class_digest(config: CameraConfig) -> str:
    """What changes with the contents of the camera's class files. A pipe is not read: that would take its contents."""
    digest = hashlib.sha256()
    for path in config.class_files:
        try:
            contents = read_bounded(path, _MOST_BYTES) if path.is_file() else b""
        except OSError:
            contents = b""
        digest.update(b"%d:" % len(contents) + contents)
    return digest.hexdigest()


def dated(target: str) -> str:
    """`target` with the present time for `%Y`, `%m`, `%d`, `%H`, `%M` and `%S`.

    So that a service that is started again leaves the outputs of before. Raises `UsageError`.
    """
    try:
        return time.strftime(target) if "%" in target else target
    except ValueError as error:
        raise UsageError(f"the output {target!r} has a % that is no part of a date ({error})") from error
