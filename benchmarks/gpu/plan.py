"""What the GPU kit runs: its parts, and how much of each."""

from __future__ import annotations

from dataclasses import dataclass

# In this order: what the later ones are judged by comes first.
PARTS = ("roofline", "parity", "frames", "speed", "presets", "pipeline", "live")

# Published sizes of model; `presets` says which they are.
DEFAULT_PRESETS = ("gkc_r50", "fcclip_r50", "clip_b16", "clip_b16_whole")


@dataclass(frozen=True)
class Scale:
    """Sizes and limits of the parts."""

    classes: tuple[int, ...] = (2, 20, 150, 512)  # K
    names: tuple[int, ...] = (1, 8)  # S of the parity corners
    pictures: int = 4  # of the parity part
    # Height and width of frames whose labels are compared: one pixel, portrait, VGA, full HD, 4K.
    frame_sizes: tuple[tuple[int, int], ...] = ((1, 1), (1280, 720), (480, 640), (1080, 1920), (2160, 3840))
    presets: tuple[str, ...] = ()  # exported with random weights
    sides: tuple[int, ...] = (384,)  # of the presets' square inputs, pixels
    seconds: float = 480.0  # time limit of each part
    measured: float | None = None  # seconds over which the speed part times frames; None: two fifths of its limit
    frames: int = 200  # of the pipeline part
    changes: int = 20  # of classes in the live part
    runs: int = 30  # timed runs of a graph
    product: int = 8192  # side of the matrices whose product is timed
    copied: int = 2**28  # bytes that are copied
    cpu_only: bool = False

    @classmethod
    def dry_run(cls) -> Scale:
        """Every part, briefly, on CPU providers: tests the kit and measures nothing worth reading."""
        return cls(
            classes=(2, 20),
            names=(1, 4),
            pictures=1,
            frame_sizes=((1, 1), (640, 360), (480, 640)),
            # A limit that only a machine under heavy load would reach: what is left out cannot be tested.
            seconds=600.0,
            measured=2.0,
            frames=12,
            changes=1,
            runs=4,
            product=256,
            copied=2**22,
            presets=("mini",),
            sides=(64,),
            cpu_only=True,
        )
