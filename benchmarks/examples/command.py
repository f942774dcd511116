"""What `ovs-bench examples` does: measure, print, write the result and its plot."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial

from ...bundle.errors import require
from ..accuracy.progress import progress
from ..options import positive
from ..result_file import write_result
from .options import ExamplesOptions


def run(options: ExamplesOptions) -> int:
    """`ovs-bench examples`; returns its exit code."""
    require("PIL", "masks")
    if options.output is not None:
        require("matplotlib", "report")  # checked now, not after the measurement
    from ...data.photo_sets import open_photos
    from ...models import default_bundle
    from ...runtime.segmenter import Segmenter
    from .measure import measure_examples, subset
    from .tables import example_table

    shots = positive(options.shots, "--shots", "1,5,20")
    path = options.model or default_bundle()
    sets = [
        (subset(open_photos(given, "train"), options.train_photos), subset(open_photos(given), options.photos))
        for given in options.data
    ]
    results = []
    with Segmenter.load(path, options.precision, options.threads, background="none", threshold=0.0) as segmenter:
        segmenter.regions.open()
        for train, val in sets:
            with progress(val.name, len(train) + 2 * len(val)) as advance:
                results.append(
                    measure_examples(segmenter, train, val, shots, options.draws, options.weak, partial(advance, 1))
                )
        name = segmenter.manifest.name
    document = {
        "precision": options.precision,
        "draws": options.draws,
        "weak_below": options.weak,
        "examples": [asdict(result) for result in results],
    }
    print(example_table({"bundle": name, **document}))
    write_result(options.output, path, document)
    if options.output is not None:
        from .plot import plot

        plot(document, options.output.with_suffix(".png"))
        print(f"wrote {options.output.with_suffix('.png')}")
    return 0
