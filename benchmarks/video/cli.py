"""`ovs-bench video`: how well, and how steadily, videos are segmented, without and with smoothing."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ...bundle.errors import UsageError, require
from ..options import Model, Output, Precision, Threads, positive, write_result

if TYPE_CHECKING:
    from .sequences import SequenceRow
    from .video import Mode, VideoRow


def video(
    clips: Annotated[
        list[Path] | None,
        typer.Option(help="Folder of clips with frames/ and masks/, or DAVIS's own, and foreground.json. Or several."),
    ] = None,
    video: Annotated[
        list[Path] | None, typer.Option(help="Video file or folder of frames without truth: flicker only. Or several.")
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(help="Labelled sequences as published, VSPW or VIPSeg: FOLDER, vspw:FOLDER or vipseg:FOLDER."),
    ] = None,
    scene: Annotated[
        str, typer.Option(help="Classes asked for besides a clip's foreground.")
    ] = "tree,grass,road,water,building,sky,person",
    synonyms: Annotated[
        bool, typer.Option("--synonyms", help="Of --data: ask for each class by all its names, not by the plain one.")
    ] = False,
    smooth: Annotated[float, typer.Option(help="Strength of smoothing that is compared with none.")] = 0.9,
    keyframes: Annotated[
        str | None, typer.Option(help="Distances of key frames, comma-separated. Default: 1,2,3,4; of --data, 1.")
    ] = None,
    model: Model = None,
    precision: Precision = "fp32",
    threads: Threads = 2,
    max_frames: Annotated[int | None, typer.Option(min=2, help="Of each clip.")] = None,
    picture: Annotated[Path | None, typer.Option(help="Write a strip of frames without and with smoothing.")] = None,
    output: Output = None,
) -> None:
    """Foreground IoU and flicker of clips; IoU, consistency and panoptic quality of labelled sequences.

    Each without and with smoothing, and by distance of key frames.
    """
    from ...models import default_bundle
    from .video import Mode

    if bool(data) == bool(clips or video):
        raise UsageError("expected --clips or --video, or else --data")
    every = positive(keyframes or ("1" if data else "1,2,3,4"), "--keyframes", "1,2,4")
    if smooth == 0 or every[0] != 1:
        raise UsageError("expected a --smooth above 0 and --keyframes that begin with 1")
    modes = [Mode(0.0, 1), *(Mode(smooth, distance) for distance in every)]
    path = model or default_bundle()
    if data:
        rows = [asdict(row) for row in _sequences(data, path, modes, precision, threads, synonyms, max_frames)]
        write_result(output, path, {"precision": precision, "threads": threads, "sequences": rows})
    else:
        found = _clips(clips or [], video or [], path, modes, precision, threads, scene.split(","), max_frames, picture)
        rows = [asdict(row) for row in found]
        write_result(output, path, {"precision": precision, "threads": threads, "video": rows})


def _clips(
    folders: Sequence[Path],
    files: Sequence[Path],
    path: Path,
    modes: Sequence[Mode],
    precision: str,
    threads: int,
    scene: Sequence[str],
    most: int | None,
    picture: Path | None,
) -> list[VideoRow]:
    from ...data.clips import Clip, davis_clips
    from ...runtime.segmenter import Segmenter
    from .comparison_image import ComparisonImage
    from .video import measure_clip

    chosen = [clip for folder in folders for clip in davis_clips(folder)] + [Clip(file.stem, file) for file in files]
    names = [clip.name for clip in chosen]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UsageError(f"{names.count(twice[0])} clips are called {twice[0]!r}, expected a name for each; rename one")
    strip = ComparisonImage(modes[0], modes[1])
    rows: list[VideoRow] = []
    # As semantic, whatever the bundle can: labels are what is compared, and panoptic frames are not smoothed.
    with Segmenter.load(path, precision, threads, "cpu", task="semantic", force=True) as segmenter:
        for clip in chosen:
            strip.new_clip()
            rows += measure_clip(segmenter, clip, modes, scene, most, strip.see if picture else None)
            for row in rows[-len(modes) :]:
                _print_clip(row)
    if picture is not None:
        strip.write(picture)
    return rows


def _sequences(
    data: Sequence[str],
    path: Path,
    modes: Sequence[Mode],
    precision: str,
    threads: int,
    synonyms: bool,
    most: int | None,
) -> list[SequenceRow]:
    require("PIL", "masks")
    from rich.console import Console
    from rich.progress import Progress

    from ...data.video_sets import open_videos
    from ..accuracy.class_list import stuff_words
    from ..accuracy.stages import Stage, open_stage
    from .sequences import measure_sequences, without_smoothing

    sets, console = [open_videos(folder) for folder in data], Console(stderr=True)
    rows: list[SequenceRow] = []
    told = False
    for videos in sets:
        for line in videos.skipped:
            print(f"{videos.name}: left out: {line}", file=sys.stderr)
        stuff = stuff_words(videos.classes, videos.stuff)
        with (
            open_stage(path, Stage(precision), threads, stuff) as segmenter,
            Progress(console=console, transient=True, disable=not console.is_terminal) as bar,
        ):
            chosen = modes
            if segmenter.task == "panoptic":
                chosen = without_smoothing(modes)
                if not told:
                    print(f"{path.name} is panoptic, where nothing is smoothed: only rows without it", file=sys.stderr)
                told = True
            frames = sum(len(clip.frames[:most]) for clip in videos.clips)
            task = bar.add_task(videos.name, total=frames)
            found = measure_sequences(segmenter, videos, chosen, synonyms, most, lambda: bar.advance(task))  # noqa: B023
        for row in found:
            _print_sequences(row)
        rows += found
    return rows


def _print_clip(row: VideoRow) -> None:
    iou = "" if row.iou is None else f"IoU {row.iou:.3f}, "
    if row.iou_step is not None:
        iou = f"{iou[:-2]} (steps of {row.iou_step:.3f}), "
    print(
        f"{row.clip} smooth {row.smooth:g}, key frames {row.keyframes}: {iou}labels change on "
        f"{row.flicker_unmoving:.2%} of unmoving pixels, {row.flicker:.2%} of all; smoothing {row.smooth_ms:.2f} ms "
        f"of {row.frame_ms:.1f} ms a frame"
    )


def _print_sequences(row: SequenceRow) -> None:
    steady = ", ".join(
        f"VC{length} {_figure(value)} (strict {_figure(row.strict_consistency[length])})"
        for length, value in row.consistency.items()
    )
    print(
        f"{row.dataset} smooth {row.smooth:g}, key frames {row.keyframes}: mIoU {row.miou:.3f} over {row.classes} names, "
        f"{steady}; {row.frames} frames of {row.clips} clips"
    )
    if row.novel is not None:
        print(f"  base {row.novel.base:.3f}, novel {row.novel.novel:.3f}, harmonic mean {row.novel.harmonic:.3f}")
    if (quality := row.panoptic) is not None:
        windows = ", ".join(f"{length}: {value:.3f}" for length, value in quality.by_window.items())
        print(
            f"  VPQ {quality.vpq:.3f} (by window {windows}), things {_figure(quality.things)}, stuff {_figure(quality.stuff)}"
        )


def _figure(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}"
