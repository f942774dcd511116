"""The options of `ovs-run`: one frozen dataclass, from which the command line is made."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any

from typer import Argument, Option

from ..bundle.errors import UsageError
from .capture.options import Flip
from .engines.registry import providers
from .sinks.mask_form import MaskForm
from .vocabulary.sensitivity import Sensitivity

WEB_ADDRESS = "127.0.0.1:8080"  # of `--web` without a value
NO_OUTPUT = "no output is selected; add --web to see a page, --save out or --json out.jsonl to keep results"
_MOST_FRAMES = 10**9
_MOST_THREADS = 4096

TASKS = ("auto", "semantic", "panoptic")

# Options that other commands have, too.
Model = Annotated[Path | None, Option(help="Bundle folder NAME.ovs. Default: the embedded model.")]
ExactWords = Annotated[
    bool, Option("--exact-words", help="Do not move out-of-vocabulary names towards the nearest trained name.")
]
SensitivityLevel = Annotated[
    Sensitivity,
    Option(help="How readily classes are found: high finds more, and more that is not there; low less of both."),
]
TaskName = Annotated[
    str,
    Option(help="semantic (classes), panoptic (classes and instances) or auto (panoptic if the bundle supports it)."),
]
PrecisionName = Annotated[
    str,
    Option(
        help="Which of the bundle's precisions to run; auto: the fastest that passed its comparison with fp32 and fits "
        "this processor."
    ),
]
Force = Annotated[bool, Option("--force", help="Run a precision even if it failed its comparison with fp32.")]
PlanFolder = Annotated[Path | None, Option(help="Run this TensorRT plan, a folder written by ovs-build -o.")]
Threads = Annotated[int, Option(min=0, max=_MOST_THREADS, help="CPU threads of the network; 0: one per core.")]


@dataclass(frozen=True)
class RunOptions:
    """Options of `ovs-run`; each field is the option of its name. Raises `UsageError` for a value out of range."""

    classes: Annotated[
        str | None,
        Option(
            help='Classes to look for: "person,bike|bicycle,cup:0.2" (| separates synonyms; :0.2 is a class\'s own '
            "confidence threshold), or @FILE: classes separated by lines or commas, a JSON or YAML list, "
            "a table with a column called name, or saved classes (@mugs.npz, also in a list)."
        ),
    ] = None
    example: Annotated[
        tuple[str, ...],
        Option(
            metavar="NAME=PHOTO#REGION",
            help='Show a class instead of naming it: "my mug=photo.jpg#mask.png", "…#x,y,width,height" or "…#x,y" in '
            "pixels; may be repeated, also for one class.",
        ),
    ] = ()
    save_classes: Annotated[
        Path | None,
        Option(help="Save the classes that the run begins with, shown ones with their examples: NAME.npz."),
    ] = None
    sources: Annotated[
        tuple[str, ...],
        Argument(
            metavar="SOURCE",
            help="Input, instead of --source or --camera: a photo, folder, video or URL; or any number of photos and "
            "folders.",
        ),
    ] = ()
    source: Annotated[
        str | None,
        Option(
            help="Input: a photo, a folder, a quoted pattern such as 'shots/*.jpg', a video file, - for a video on "
            "standard input, or demo."
        ),
    ] = None
    camera: Annotated[
        tuple[str, ...],
        Option(
            help="Live input: 0, /dev/video2, csi://0, screen://, a URL (rtsp, http, tcp, udp, srt, rtmp), or a video file, "
            "played in a loop. May be repeated for several cameras, each with a name if you like: --camera door=rtsp://…"
        ),
    ] = ()
    config: Annotated[
        Path | None,
        Option(
            metavar="FILE",
            help="Several cameras, each with its own classes and outputs, from a TOML file; SIGHUP reads it again. "
            "Instead of all other options.",
        ),
    ] = None
    size: Annotated[str | None, Option(metavar="WxH", help="Camera resolution, width x height: 1280x720.")] = None
    rate: Annotated[float | None, Option(help="Camera frame rate, frames per second.")] = None
    mjpg: Annotated[bool, Option("--mjpg", help="Read Motion JPEG from the camera: higher frame rates over USB.")] = (
        False
    )
    flip: Annotated[Flip, Option(help="Mirror live frames.")] = Flip.NONE
    fps: Annotated[
        float | None, Option(help="Frame rate of a folder of photos, for the times in JSON and in a saved video.")
    ] = None
    recursive: Annotated[bool, Option("--recursive", help="Read photos in sub-folders too.")] = False
    skip_errors: Annotated[
        bool,
        Option("--skip-errors", help="Exit with 0 although photos or frames were skipped; without it, with 3."),
    ] = False
    reconnect: Annotated[
        bool, Option("--reconnect/--no-reconnect", help="Whether to reopen a live source that was lost.")
    ] = True
    model: Model = None
    save: Annotated[
        str | None,
        Option(help="Save annotated output: out.mp4 (video), out.png (one photo) or out (folder of pictures)."),
    ] = None
    overwrite: Annotated[
        bool, Option("--overwrite", help="Replace output files even if ovs-run did not write them; never the input.")
    ] = False
    json: Annotated[str | None, Option(help="Write one JSON line per frame to this file; - is standard output.")] = None
    save_masks: Annotated[
        str | None,
        Option(help="Save label maps to this folder: an index PNG per frame, and classes.json with the names."),
    ] = None
    rle: Annotated[bool, Option("--rle", help="With --json: each region's mask in COCO's run-length encoding.")] = False
    polygons: Annotated[bool, Option("--polygons", help="With --json: each region's outlines, in pixels.")] = False
    show: Annotated[
        bool | None,
        Option(
            "--show/--no-show", help="Show a window. Default: on if there is a display and no output option is given."
        ),
    ] = None
    web: Annotated[
        str | None,
        Option(
            metavar="[HOST:PORT]",
            help=f"Serve a web page with the live picture; without a value at {WEB_ADDRESS}. Default: on for a camera "
            "without a display, and for several cameras, if nothing is saved or goes to standard output. Files are played "
            "in a loop.",
        ),
    ] = None
    token: Annotated[
        str | None,
        Option(
            envvar="OVS_TOKEN",
            help="Access token of the web page; generated if other machines can connect and none is given.",
        ),
    ] = None
    recordings: Annotated[Path, Option(help="Folder for recordings made from the web page.")] = Path("recordings")
    track: Annotated[
        bool, Option("--track", help="Follow regions from frame to frame: each keeps an id. On where there are rules.")
    ] = False
    zones: Annotated[
        Path | None,
        Option(
            metavar="FILE",
            help="TOML file with zones, lines, rules, and where events go. The web page draws zones and saves them to it; "
            "with --web it may be new.",
        ),
    ] = None
    rule: Annotated[
        tuple[str, ...],
        Option(
            help="Rule that makes events, such as 'person in door for 2s'; may be repeated. See docs/guides/events.md."
        ),
    ] = ()
    events: Annotated[
        str | None, Option(metavar="FILE", help="Append events to this file as JSON lines; - is standard output.")
    ] = None
    mqtt: Annotated[
        str | None,
        Option(metavar="URL", help="Send events to this broker: mqtt://[user@]host[:port], mqtts:// for TLS."),
    ] = None
    webhook: Annotated[str | None, Option(metavar="URL", help="Send each event by HTTP POST to this address.")] = None
    on_event: Annotated[
        str | None, Option(metavar="COMMAND", help="Start this program for each event, which is on its standard input.")
    ] = None
    watch_classes: Annotated[
        Path | None, Option(help="Instead of --classes: a file with classes that is read again when it changes.")
    ] = None
    preset: Annotated[
        tuple[str, ...],
        Option(help="Class list for a key from 1 to 9; may be repeated. @FILE has one list per line."),
    ] = ()
    background: Annotated[
        str,
        Option(
            help="Background classes, which compete with yours but are not shown: auto (the names the model was "
            'trained with), none, or names such as "wall,floor".'
        ),
    ] = "auto"
    exact_words: ExactWords = False
    threshold: Annotated[
        float | None,
        Option(
            help="Confidence threshold, 0 to 1: pixels below it get no label. Panoptic segments are filtered by the "
            "published rule instead. Default: the bundle's own, else 0.3."
        ),
    ] = None
    sensitivity: SensitivityLevel = Sensitivity.NORMAL
    task: TaskName = "auto"
    stuff: Annotated[
        str | None,
        Option(
            help='Panoptic: further classes without instances, such as "sky,road", in addition to those listed in the '
            "bundle."
        ),
    ] = None
    smooth: Annotated[
        float | None,
        Option(help="Strength of temporal smoothing, 0 (off) to 1. Default: 0.9; 0 for photos and panoptic."),
    ] = None
    keyframes: Annotated[
        int,
        Option(help="Run the network on every Nth frame only; optical flow moves the labels in between."),
    ] = 1
    names: Annotated[
        bool, Option("--names/--no-names", help="Whether to write the names on the regions of annotated pictures.")
    ] = True
    legend: Annotated[
        bool | None, Option("--legend/--no-legend", help="Whether to draw the legend. Default: except on the web page.")
    ] = None
    badge: Annotated[
        bool | None,
        Option("--badge/--no-badge", help="Whether to draw frame rate and age. Default: except on the web page."),
    ] = None
    refine_edges: Annotated[
        bool,
        Option(
            "--refine-edges", help="Let labels follow the edges of the frame where the network is not sure of them."
        ),
    ] = False
    min_region: Annotated[
        float, Option(help="Remove connected regions, and fill holes, below this share of the frame, such as 0.0005.")
    ] = 0.0
    opacity: Annotated[float, Option(help="Overlay opacity, 0 to 1.")] = 0.5
    precision: PrecisionName = "auto"
    force: Force = False
    provider: Annotated[
        str,
        Option(
            help=f"Execution provider: {', '.join(providers())}; tensorrt uses the cached plan of ovs-build, or builds "
            "one now."
        ),
    ] = "auto"
    plan: PlanFolder = None
    threads: Threads = 0
    why: Annotated[
        str | None,
        Option(metavar="X,Y", help="Print what is at this pixel of a photo, and what else it might be: 320,200."),
    ] = None
    list_names: Annotated[
        bool, Option("--list-names", help="Print the names the model was trained with, one class per line, and exit.")
    ] = False
    max_frames: Annotated[int | None, Option(min=1, max=_MOST_FRAMES, help="Stop after this number of frames.")] = None

    def __post_init__(self) -> None:
        if self.config is not None:
            self._refuse_others()
            return
        _choice("provider", self.provider, providers())
        _choice("task", self.task, TASKS)
        if self.threshold is not None:
            _share("threshold", self.threshold, "a confidence")
        _share("opacity", self.opacity, "a number")
        _share("--min-region", self.min_region, "a share of the frame")
        if self.smooth is not None:
            _share("strength of smoothing", self.smooth, "a number")
            if self.smooth and self.task == "panoptic":
                raise UsageError("--smooth is for semantic segmentation; use --task semantic, or leave it out")
        self._refuse_one_name()
        if self.sources and self.camera:
            raise UsageError(f"{self.sources[0]!r} is given besides --camera; give one input")
        if self.source is not None and len(self.camera) > 1:
            raise UsageError(f"--source {self.source!r} is given besides --camera; give one or the other")
        if self.rle and self.polygons:
            raise UsageError("--rle and --polygons are two forms of the same masks; give one of them")
        if (self.rle or self.polygons) and self.json is None:
            raise UsageError("--rle and --polygons are for JSON lines; add --json out.jsonl, or use --save-masks masks")
        if "-" in (self.events, self.json) and self.events == self.json:
            raise UsageError("--events and --json are both standard output; give one of them a file")
        if self.why is not None:
            parse_point(self.why)
        if (self.example or self.save_classes) and len(self.camera) > 1:
            raise UsageError(
                "--example and --save-classes are for one input; save the classes first: --classes @mugs.npz"
            )
        given = sum(value is not None for value in (self.classes, self.watch_classes))
        if not self.list_names and given != 1 and not (self.example and not given):
            found = "both" if given else "neither"
            raise UsageError(f'{found} of --classes and --watch-classes given, expected one: --classes "person,bike"')

    def _refuse_one_name(self) -> None:
        """Raise `UsageError` where two outputs have one name."""
        taken: dict[str, str] = {}
        for name in ("save", "json", "save_masks", "save_classes", "events"):
            value = str(getattr(self, name) or "")
            if value in ("", "-"):
                continue
            option, place = f"--{name.replace('_', '-')}", value
            with suppress(OSError, ValueError):  # a name that cannot be is told by whoever opens it
                place = os.path.realpath(value)
            if place in taken:
                raise UsageError(f"{taken[place]} and {option} are both {value}; give them two names")
            taken[place] = option
        if self.save_classes is not None and self.save_classes.suffix != ".npz":
            raise UsageError(
                f"--save-classes is {self.save_classes}, expected NAME.npz, by which it is read as @NAME.npz"
            )

    def _refuse_others(self) -> None:
        """Raise `UsageError` where an option is given besides --config."""
        for field in fields(self):
            if field.name not in ("config", "token") and getattr(self, field.name) != field.default:
                option = f"--{field.name.replace('_', '-')}" if field.name != "sources" else repr(self.sources[0])
                raise UsageError(f"{option} is given besides --config, which holds all settings; put it into the file")

    @property
    def class_list(self) -> str | None:
        """What `Segmenter.set_classes` takes: the classes, or `@FILE`; None where they are only shown."""
        if self.classes is not None or self.watch_classes is None:
            return self.classes
        return f"@{self.watch_classes}"

    @property
    def inputs(self) -> str | tuple[str, ...] | None:
        """What is given as a source: one, or several; None for --camera."""
        # `--source shots/*.jpg` without quotes: the shell makes one value and further words of it.
        given = self.sources if self.source is None else (self.source, *self.sources)
        return given[0] if len(given) == 1 else given or None

    @property
    def writes_files(self) -> bool:
        """Whether results are saved."""
        return self.save is not None or self.json is not None or self.save_masks is not None

    @property
    def only_watched(self) -> bool:
        """Whether a live picture is shown though it was not asked for: nothing is saved or goes to standard output."""
        return self.show is None and not self.writes_files and self.events != "-"

    @property
    def watches(self) -> bool:
        """Whether regions are followed, and events made of them."""
        ways = (self.events, self.mqtt, self.webhook, self.on_event)
        return self.track or self.zones is not None or bool(self.rule) or any(way is not None for way in ways)

    @property
    def mask_form(self) -> MaskForm:
        """How JSON lines hold masks."""
        return MaskForm.RLE if self.rle else MaskForm.POLYGONS if self.polygons else MaskForm.NONE


def parse_point(text: str) -> tuple[int, int]:
    """Pixel x, y of "320,200"; raises `UsageError`."""
    found = re.fullmatch(r"\s*([0-9]{1,6})\s*,\s*([0-9]{1,6})\s*", text)
    if found is None:
        raise UsageError(f"--why is {text[:40]!r}, expected a pixel as X,Y such as 320,200")
    return int(found[1]), int(found[2])


def _choice(what: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise UsageError(f"the {what} is {value!r}, expected {', '.join(known[:-1])} or {known[-1]}")


def _share(what: str, value: Any, kind: str) -> None:
    if not 0 <= value <= 1:
        raise UsageError(f"the {what} is {value:g}, expected {kind} from 0 to 1")
