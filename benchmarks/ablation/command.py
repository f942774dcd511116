"""What `ovs-bench ablation` does: run what is missing, print, write the result and its plot."""

from __future__ import annotations

from pathlib import Path

from ...bundle.errors import UsageError, require
from ..options import words
from ..result_file import write_result
from .options import AblationCommand, Arm


def run(options: AblationCommand) -> int:
    """`ovs-bench ablation`; returns its exit code."""
    require("torch", "train")
    if options.output is not None:
        require("matplotlib", "report")  # checked now, not after an hour of training
    from ...training.request import weighted_folder
    from .ablation import AblationOptions, run_ablation

    recipe = AblationOptions(
        data=tuple((str(path), weight) for path, weight in map(weighted_folder, options.data)),
        split=str(options.split or Path(__file__).with_name("split.json")),
        folder=str(options.folder),
        steps=options.steps,
        crop=options.crop,
        view=options.view,
        drawn=options.drawn,
        region=options.region,
        pairs=options.pairs,
        trusted=options.trusted,
    )
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    result = run_ablation(recipe, _arms(options.arms), seeds, options.jobs, print)
    write_result(options.output, None, result)
    if options.output is not None:
        from .plot import plot

        plot(result, options.output.with_suffix(".png"))
        print(f"wrote {options.output.with_suffix('.png')}")
    return 0


def _arms(text: str) -> tuple[Arm, ...]:
    known = {arm.value: arm for arm in Arm}
    names = words(text, "--arms")
    if unknown := sorted(set(names) - set(known)):
        raise UsageError(f"no arm {', '.join(unknown)}; expected some of {', '.join(known)}")
    return tuple(known[name] for name in names)
