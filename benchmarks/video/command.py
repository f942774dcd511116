"""What `ovs-bench video` does: measure, print, write the result."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from ...bundle.errors import UsageError, require
from ..result_file import write_result
from .options import VideoOptions

if TYPE_CHECKING:
    from .sequences import SequenceRow
    from .video import Mode, VideoRow


def run_video(options: VideoOptions) -> int:
    """`ovs-bench video`; returns its exit code."""
    from ...models import default_bundle
    from .video import Mode

    modes = [Mode(0.0, 1), *(Mode(options.smooth, interval) for interval in options.intervals)]
    path = options.model or default_bundle()
    measured = {"precision": options.precision, "threads": options.threads}
    if options.data:
        rows = [asdict(row) for row in _sequences(options, path, modes)]
        write_result(options.output, path, {**measured, "sequences": rows})
    else:
        rows = [asdict(row) for row in _clips(options, path, modes)]
        write_result(options.output, path, {**measured, "video": rows})
    return 0


def _clips(options: VideoOptions, path: Path, modes: Sequence[Mode]) -> list[VideoRow]:
    from ...data.clips import Clip, davis_clips
    from ...runtime.segmenter import Segmenter
    from .comparison_image import ComparisonImage
    from .video import measure_clip

    chosen = [clip for folder in options.clips for clip in davis_clips(folder)]
    chosen += [Clip(file.stem, file) for file in options.video]
    names = [clip.name for clip in chosen]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UsageError(f"{names.count(twice[0])} clips are called {twice[0]!r}, expected a name for each; rename one")
    image = ComparisonImage(modes[0], modes[1])
    rows: list[VideoRow] = []
    # Semantic even for a panoptic bundle: labels are compared, and panoptic frames are not smoothed.
    with Segmenter.load(path, options.precision, options.threads, "cpu", task="semantic", force=True) as segmenter:
        for clip in chosen:
            image.new_clip()
            on_frame = image.see if options.picture else None
            rows += measure_clip(segmenter, clip, modes, options.scene.split(","), options.max_frames, on_frame)
            for row in rows[-len(modes) :]:
                _print_clip(row)
    if options.picture is not None:
        image.write(options.picture)
    return rows


def _sequences(options: VideoOptions, path: Path, modes: Sequence[Mode]) -> list[SequenceRow]:
    require("PIL", "masks")
    from ...data.video_sets import open_videos
    from ..accuracy.class_list import stuff_words
    from ..accuracy.progress import progress
    from ..accuracy.stages import Stage, open_stage
    from .sequences import measure_sequences, without_smoothing

    sets, most = [open_videos(folder) for folder in options.data], options.max_frames
    rows: list[SequenceRow] = []
    told = False
    for videos in sets:
        for line in videos.skipped:
            print(f"{videos.name}: left out: {line}", file=sys.stderr)
        stuff = stuff_words(videos.classes, videos.stuff)
        frames = sum(len(clip.frames[:most]) for clip in videos.clips)
        with (
            open_stage(path, Stage(options.precision), options.threads, stuff) as segmenter,
            progress(videos.name, frames) as advance,
        ):
            chosen = modes
            if segmenter.task == "panoptic":
                chosen = without_smoothing(modes)
                if not told:
                    print(f"{path.name} is panoptic and not smoothed: only rows without smoothing", file=sys.stderr)
                told = True
            found = measure_sequences(
                segmenter,
                videos,
                chosen,
                synonyms=options.synonyms,
                most=most,
                on_frame=lambda: advance(1),
            )
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
        f"{row.dataset} smooth {row.smooth:g}, key frames {row.keyframes}: mIoU {row.miou:.3f} over {row.classes} "
        f"names, {steady}; {row.frames} frames of {row.clips} clips"
    )
    if row.novel is not None:
        print(f"  base {row.novel.base:.3f}, novel {row.novel.novel:.3f}, harmonic mean {row.novel.harmonic:.3f}")
    if (quality := row.panoptic) is not None:
        windows = ", ".join(f"{length}: {value:.3f}" for length, value in quality.by_window.items())
        print(
            f"  VPQ {quality.vpq:.3f} (by window {windows}), things {_figure(quality.things)}, "
            f"stuff {_figure(quality.stuff)}"
        )


def _figure(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}"
