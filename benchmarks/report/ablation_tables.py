"""Table of `ovs-bench ablation`."""

from __future__ import annotations

from typing import Any

from .table import table


def ablation_table(document: dict[str, Any]) -> str:
    """Markdown of a result with the key "ablation"."""
    recipe, arms = document["recipe"], document["ablation"]
    seeds = len({run["seed"] for run in document["runs"]})
    trained, tested = (sum(document[key].values()) for key in ("train_photos", "test_photos"))
    title = (
        f"Ablation of training, {recipe['steps']} steps on {trained} photos, mIoU in % on {tested} other photos, all "
        f"names competing, mean ± standard deviation of {seeds} seeds; held-out categories: "
        + ", ".join(document["unseen"])
    )
    columns = ["seen", "unseen", "harmonic", "renamed_seen", "drop"]
    rows = [
        [arm, words, *(_percent(figures[prefix + name]) for name in columns)]
        for words, prefix in (("as they are", ""), ("moved towards trained names", "read_"))
        for arm, figures in arms.items()
    ]
    header = ["training", "out-of-vocabulary names", "seen", "unseen", "harmonic", "seen, by synonyms", "difference"]
    return table(title, header, rows)


def _percent(figure: dict[str, float | None]) -> str:
    spread = figure["sd"]
    return f"{100 * (figure['mean'] or 0):.1f}" + (f" ± {100 * spread:.1f}" if spread is not None else "")
