"""The options of `ovs-bench examples`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from typer import Option

from ..options import Model, Output, Precision, Threads


@dataclass(frozen=True)
class ExamplesOptions:
    """Options of `ovs-bench examples`; each field is the option of its name."""

    data: Annotated[
        tuple[str, ...],
        Option(
            help="Data set with a training and a validation split, FOLDER or SET:FOLDER; may be repeated. Examples come "
            "from the first, scores from the second."
        ),
    ]
    model: Model = None
    shots: Annotated[str, Option(help="Examples of each class, comma-separated.")] = "1,5,20"
    draws: Annotated[int, Option(min=1, help="How often the examples are drawn.")] = 5
    photos: Annotated[
        int, Option(min=0, help="Validation photos of each set, evenly spread; 0: all. The table states the number.")
    ] = 0
    train_photos: Annotated[int, Option(min=0, help="Training photos of each set that examples come from; 0: all.")] = 0
    weak: Annotated[float, Option(min=0, max=1, help="IoU below which a class is one that its name does not find.")] = (
        0.1
    )
    precision: Precision = "fp32"
    threads: Threads = 0
    output: Output = None
