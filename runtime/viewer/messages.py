"""The JSON messages of the web viewer as plain values; colours are "#rrggbb"."""

from __future__ import annotations

import re
from typing import Any

from ...bundle.errors import UsageError
from ...bundle.strict import finite
from ..controls import Bgr
from ..draw.colour_map import class_colours
from ..inference.inspector import RegionInfo
from ..interaction import Interaction
from ..sinks.video_files.recorder import Recorder
from ..status import PLAYING
from ..vocabulary.reading import Reading

_COLOUR = re.compile(r"#[0-9a-fA-F]{6}")


def run_state(interaction: Interaction, recorder: Recorder, title: str, source: str) -> dict[str, Any]:
    """The state of the run: classes, settings, presets, recordings and the source; `source` is `Status.source`."""
    vocabulary, settings = interaction.vocabulary.state, interaction.controls.settings
    style = settings.style
    labels = tuple(entry.label for entry in vocabulary.classes)
    palette = class_colours(labels, style.colours).tolist()
    readings = {reading.name: reading for reading in vocabulary.readings}
    return {
        "title": title,
        "model": interaction.segmenter.manifest.name,
        "version": vocabulary.version,
        "pending": vocabulary.pending,
        "error": vocabulary.error,
        "classes": [
            {
                "label": entry.label,
                "names": list(entry.names),
                "colour": "#{2:02x}{1:02x}{0:02x}".format(*colour),
                "hidden": entry.label in style.hidden,
                "reading": reading_message(readings.get(entry.label)),
                "examples": 0
                if (shown := interaction.segmenter.shown.get(entry.label)) is None
                else len(shown.examples),
            }
            for entry, colour in zip(vocabulary.classes, palette, strict=True)
        ],
        "shows": interaction.segmenter.reads_examples,
        "undoable": interaction.segmenter.shown.undoable,
        "presets": list(interaction.vocabulary.presets),
        "settings": {
            "sensitivity": vocabulary.sensitivity,
            "threshold": settings.threshold,
            "opacity": style.opacity,
            "outlines": style.outlines,
            "names": style.names,
            "legend": style.legend,
            "hidden": sorted(style.hidden),
        },
        "lost": None if source == PLAYING else source,
        "recording": recorder.seconds,
        "recordings": list(recorder.made),
        "recording_error": recorder.error,
        "watch": None if interaction.watch is None else interaction.watch.message(),
    }


def reading_message(reading: Reading | None) -> dict[str, Any] | None:
    """What the model makes of a class that it was not trained with; None of a trained one."""
    if reading is None:
        return None
    return {
        "text": str(reading),
        "doubtful": reading.doubtful,
        "readable": reading.readable,
        "nearest": reading.nearest,
        "similarity": round(reading.similarity, 4),
        "suggestion": reading.suggestion,
    }


def region_message(info: RegionInfo, width: int, height: int) -> dict[str, Any]:
    """A region of a frame of `width` x `height`; its box as shares of them."""
    x0, y0, x1, y1 = info.box
    return {
        "label": info.label,
        "share": info.share,
        "box": [x0 / width, y0 / height, x1 / width, y1 / height],
        "guesses": [{"label": guess.label, "score": round(guess.score, 4)} for guess in info.guesses],
    }


def parse_colour(text: object) -> Bgr | None:
    """BGR of "#rrggbb"; None, a class's own colour, of None. Raises `UsageError`."""
    if text is None:
        return None
    if not isinstance(text, str) or not _COLOUR.fullmatch(text):
        raise UsageError('a colour is not "#rrggbb", such as "#ff8800"')
    value = int(text[1:], 16)
    return value & 0xFF, value >> 8 & 0xFF, value >> 16


def parse_number(value: object, name: str) -> float:
    """A finite number. Raises `UsageError`, which names it `name`."""
    number = finite(value)
    if number is None:
        raise UsageError(f"expected a number as {name!r}")
    return number


def parse_flag(value: object, name: str) -> bool:
    """True or false. Raises `UsageError`, which names it `name`."""
    if not isinstance(value, bool):
        raise UsageError(f"expected true or false as {name!r}")
    return value
