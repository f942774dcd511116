"""Which module writes which output, by the suffix of its name.

To add a sink, write a module with `open_sink(request: SinkRequest) -> Sink` and give it a line in `SUFFIXES`. A program
that uses this package may put a function there instead: `registry.SUFFIXES[".npy"] = open_array_sink`.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from ...bundle.errors import UsageError
from ...bundle.files import refuse_address, refuse_pipe
from ...bundle.image_files import IMAGE_SUFFIXES
from .json_lines import JsonSink
from .mask_form import MaskForm
from .masks import MaskSink
from .output_files import refuse_foreign, refuse_inputs
from .sink import Opener, Sink, SinkRequest
from .staging import cannot_write

_VIDEO = ".video_files.video_sink"
SUFFIXES: dict[str, str | Opener] = {
    ".mp4": _VIDEO,
    ".m4v": _VIDEO,
    ".mov": _VIDEO,
    ".mkv": _VIDEO,
    ".avi": _VIDEO,
    ".jsonl": ".json_lines",
    **dict.fromkeys(IMAGE_SUFFIXES, ".picture"),
}
FOLDER: str | Opener = ".folder"

_UNWRITTEN = frozenset({".webm", ".wmv", ".flv", ".mpg", ".mpeg", ".ts", ".gif"})  # not to be taken for a folder's name


def open_sink(request: SinkRequest, inputs: Sequence[Path] = ()) -> Sink:
    """The sink of `--save`: a video or a picture where the name says so, else a folder of pictures.

    `inputs` are files besides the source's that no output may replace. Raises `UsageError` for a name that makes no
    sense or stands for an input, `SinkError` for a place that cannot be written.
    """
    target, path = request.target, Path(request.target)
    if not target:
        raise UsageError("--save is empty; give a name: out.mp4 (video), out.png (one photo) or out (folder)")
    try:
        folder = target.endswith("/") or path.is_dir()
    except (OSError, ValueError) as error:  # a name too long, or with a NUL
        raise cannot_write(path, error) from error
    suffix = "" if folder else path.suffix.lower()
    if suffix in _UNWRITTEN:
        known = " ".join(suffix for suffix, entry in SUFFIXES.items() if entry == _VIDEO)
        raise UsageError(f"{suffix} videos are not written; expected one of: {known}")
    entry = SUFFIXES.get(suffix, FOLDER)
    if entry != ".json_lines":  # lines may go through a pipe
        refuse_pipe(path, "--save")
    _guard(request, inputs, "--save")
    opener: Opener = entry if callable(entry) else import_module(entry, __package__).open_sink
    return opener(request)


def open_json_sink(
    request: SinkRequest, inputs: Sequence[Path] = (), masks: MaskForm = MaskForm.NONE, camera: str | None = None
) -> Sink:
    """The sink of `--json`, whatever its name is; `camera` is the name of one of several.

    `inputs` and errors as for `open_sink`.
    """
    if request.target not in ("", "-"):
        _guard(request, inputs, "--json")
    return JsonSink(request.target, masks, camera)


def open_mask_sink(request: SinkRequest, inputs: Sequence[Path] = ()) -> Sink:
    """The sink of `--save-masks`, a folder; `inputs` and errors as for `open_sink`."""
    if not request.target:
        raise UsageError("--save-masks is empty; give a folder, such as --save-masks masks")
    refuse_pipe(request.target, "--save-masks")
    _guard(request, inputs, "--save-masks")
    return MaskSink(Path(request.target), overwrite=request.overwrite)


def _guard(request: SinkRequest, inputs: Sequence[Path], option: str) -> None:
    refuse_address(request.target, option)
    path = Path(request.target)
    try:
        refuse_inputs(path, (*request.source.files, *inputs), option)
    except ValueError as error:  # a NUL in the name
        raise cannot_write(path, error) from error
    refuse_foreign(path, option, overwrite=request.overwrite)
