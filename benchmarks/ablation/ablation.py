"""Ablation of training: without, with text diversification, with distillation, with both, on held-out categories.

Every arm gets the same photos, crops, initial weights, number of steps and inference; only the loss differs. Training
never sees the unseen categories of the split or its reserved names. The photos for evaluation are the first data set's
validation photos, its training photos that show an unseen category, and every `EVERY`-th of the others; all remaining
photos of all data sets are for training. A finished run is not repeated, an interrupted one is resumed.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import torch

from ...bundle.errors import CheckpointError, DatasetError, UsageError
from ...bundle.files import replacing
from ...data.datasets import SegmentationDataset, open_dataset
from ...runtime.vocabulary.background import names
from ...runtime.vocabulary.out_of_vocabulary import read_words
from ...segmenter.config import preset
from ...segmenter.model import SegmenterModel
from ...segmenter.text.encoder import TorchTextEncoder, load_text_encoder
from ...training.choices import NamesMode
from ...training.distillation.clip_dense import ClipDenseTeacher
from ...training.distillation.region_cache import RegionVectors, teach_regions
from ...training.distillation.teachers import Teacher, load_teacher
from ...training.losses.losses import LossOptions
from ...training.losses.objectives import TrainableModel
from ...training.options import TrainOptions
from ...training.pretrained import load_pretrained
from ...training.splits import Split, check_known, hide, read_split, score
from ...training.text.vocabulary import training_vocabulary
from ...training.trainer import STATE, Trainer, TrainerContext
from ...training.validate import count_confusions
from .options import Arm

_log = logging.getLogger("ovs_edge.benchmarks")

EVERY = 4  # one in N of the photos without unseen categories is kept for evaluation
RESULT = "result.json"
_WORTH = 0.01  # share of a photo covered by an unseen category from which on it is not trained on


@dataclass(frozen=True)
class AblationOptions:
    """Options common to all runs, and the weights of the loss terms that arms add."""

    data: tuple[tuple[str, float], ...]  # dataset folders and how often each is drawn; the first is evaluated
    split: str  # split file
    folder: str  # of the runs
    steps: int = 500
    batch: int = 8  # photos a step
    crop: int = 128  # pixels, both sides
    view: int = 160  # input side at evaluation
    lr: float = 1e-3
    points: int = 256  # sampled per mask; the masks of such crops have a thousand pixels
    drawn: float = 2.0  # loss weight of the classification over sampled names
    absent: bool = True  # one name of each category absent from the image competes with the sampled names
    region: float = 8.0  # loss weight of the distance between student and teacher
    pairs: float = 8.0  # loss weight of the relations between the regions of an image
    centred: bool = True  # subtract the means of student and teacher vectors before comparing them
    trusted: int = 0  # distil only regions whose class is among the teacher's N nearest names; 0: all
    teacher: str = "imagenet"


@dataclass(frozen=True)
class RunResult:
    """One arm with one seed."""

    arm: str
    seed: int
    seen: float  # mean IoU of seen categories, all names competing
    unseen: float
    harmonic: float
    renamed_seen: float  # mean IoU of seen categories when every category goes by its reserved name
    renamed_unseen: float
    per_class: dict[str, float]  # IoU by the plain names
    renamed_per_class: dict[str, float]
    # The same with out-of-vocabulary names moved towards the nearest trained name, as the runtime does it.
    read_seen: float
    read_unseen: float
    read_harmonic: float
    read_renamed_seen: float
    read_renamed_unseen: float


@dataclass(frozen=True)
class AblationData:
    """The photos of an ablation, divided."""

    train: list[tuple[SegmentationDataset, float]]  # without unseen categories and reserved names
    test: SegmentationDataset  # with all its categories
    split: Split


def prepare(options: AblationOptions) -> AblationData:
    """Divide the photos; deterministic, depends only on the data and the split."""
    split = read_split(Path(options.split))
    datasets = [open_dataset(Path(folder), "train") for folder, _ in options.data]
    check_known(datasets, split)
    first, val = datasets[0], open_dataset(Path(options.data[0][0]), "val")
    hidden = [index for index, category in enumerate(first.classes) if split.hides(category)]
    showing = set()
    for index in range(len(first)):
        try:
            labels = first.load(index).labels
        except DatasetError as error:
            _log.warning("skipped: %s", error)  # training skips it as well
            continue
        if np.isin(labels, hidden).mean() > _WORTH:
            showing.add(index)
    others = [index for index in range(len(first)) if index not in showing]
    kept = showing | set(others[::EVERY])
    test = dataclasses.replace(val, entries=(*val.entries, *(first.entries[index] for index in sorted(kept))))
    rest = tuple(entry for index, entry in enumerate(first.entries) if index not in kept)
    datasets[0] = dataclasses.replace(first, entries=rest)
    train = [(hide(dataset, split), weight) for dataset, (_, weight) in zip(datasets, options.data, strict=True)]
    return AblationData(train, test, split)


def losses_of(arm: Arm, options: AblationOptions) -> LossOptions:
    """The loss of an arm."""
    diverse, distilled = arm.diversified, arm.distilled
    return LossOptions(
        points=options.points,
        drawn=options.drawn * diverse,
        absent=options.absent and diverse,
        region=options.region * distilled,
        pairs=options.pairs * distilled,
        centred=options.centred and distilled,
        trusted=options.trusted * distilled,
    )


def run_ablation(
    options: AblationOptions, arms: Sequence[Arm], seeds: Sequence[int], jobs: int, on_run: Callable[[str], None]
) -> dict[str, Any]:
    """Run what is missing, `jobs` runs at a time with one thread each; returns the summary."""
    folder = Path(options.folder)
    _check_options(folder, options)
    material = prepare(options)
    photos = {dataset.name: len(dataset) for dataset, _ in material.train}
    on_run(f"{sum(photos.values())} photos to train on, {len(material.test)} to evaluate")
    # Seed by seed: an interrupted ablation has all arms of the finished seeds.
    wanted = [(arm, seed) for seed in seeds for arm in arms]
    missing = [(arm, seed) for arm, seed in wanted if not (_place(options, arm, seed) / RESULT).is_file()]
    if any(arm is not Arm.PLAIN for arm, _ in missing):
        _region_vectors(options, material)  # before the runs, so that they do not all encode the regions at once
    for result in _spread(options, missing, jobs):
        on_run(_line(result))
    runs = [_result(_place(options, arm, seed) / RESULT) for arm, seed in wanted]
    counts = {"train_photos": photos, "test_photos": {material.test.name: len(material.test)}}
    return summarise(runs, options, material.split) | counts


def _spread(options: AblationOptions, runs: list[tuple[Arm, int]], jobs: int) -> Iterator[RunResult]:
    """Results in the order in which runs finish; a single job runs in this process."""
    if jobs == 1:
        yield from (run_one(options, arm, seed) for arm, seed in runs)
        return
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        waiting = [pool.submit(run_one, options, arm, seed) for arm, seed in runs]
        yield from (done.result() for done in as_completed(waiting))


def run_one(options: AblationOptions, arm: Arm, seed: int) -> RunResult:
    """Train and evaluate one arm with one seed, on one thread."""
    torch.set_num_threads(1)
    logging.basicConfig(format="%(message)s")
    place = _place(options, arm, seed)
    material = prepare(options)
    torch.manual_seed(seed)
    config = preset("mini")
    model = SegmenterModel(config)
    load_pretrained(model)
    model.backbone.requires_grad_(requires_grad=False)  # so few steps change it too little to be worth the time
    encoder = load_text_encoder(config.text)
    recipe = TrainOptions(
        steps=options.steps, batch=options.batch, crop=options.crop, view=options.view, lr=options.lr, seed=seed,
        warmup=max(1, options.steps // 10), validate_every=max(1, options.steps // 4), workers=0,
        names=NamesMode.DRAW if arm.diversified else NamesMode.PLAIN, average=0.99,
    )  # fmt: skip
    regions = None if arm is Arm.PLAIN else _region_vectors(options, material)
    trainer = Trainer(
        model, encoder, material.train, [], place, recipe, losses_of(arm, options), TrainerContext(regions=regions)
    )
    if (place / STATE).is_file():
        trainer.resume()
    trainer.run(lambda step: None, lambda step, scores: None)
    result = evaluate(trainer.averaged, material, encoder, options.view, arm, seed)
    _write(place / RESULT, asdict(result))
    return result


def evaluate(
    model: TrainableModel, material: AblationData, encoder: TorchTextEncoder, view: int, arm: Arm, seed: int
) -> RunResult:
    """Evaluate with the plain names and with the reserved names, each as they are and moved towards trained names."""
    plain = [category.names[0] for category in material.test.classes]
    renamed = [material.split.reserved.get(name, name) for name in plain]
    trained_names = encoder.encode(names(training_vocabulary([dataset for dataset, _ in material.train]))).numpy()
    exact = [encoder.encode(words) for words in (plain, renamed)]
    read = [torch.from_numpy(read_words(vectors.numpy(), trained_names)) for vectors in exact]
    by_name, by_synonym, read_by_name, read_by_synonym = (
        score(counts, material.test.classes, material.split)
        for counts in count_confusions(model, material.test, [*exact, *read], view)
    )
    return RunResult(
        arm.value, seed, by_name.seen, by_name.unseen, by_name.harmonic, by_synonym.seen, by_synonym.unseen,
        by_name.per_class, by_synonym.per_class,
        read_by_name.seen, read_by_name.unseen, read_by_name.harmonic, read_by_synonym.seen, read_by_synonym.unseen,
    )  # fmt: skip


def summarise(runs: list[RunResult], options: AblationOptions, split: Split) -> dict[str, Any]:
    """Mean and standard deviation of every arm, all runs, and the options they were run with."""
    arms = {}
    for arm in dict.fromkeys(run.arm for run in runs):
        of_arm = [run for run in runs if run.arm == arm]
        figures = {name: [getattr(run, name) for run in of_arm] for name in _FIGURES}
        figures["drop"] = [run.seen - run.renamed_seen for run in of_arm]
        figures["read_drop"] = [run.read_seen - run.read_renamed_seen for run in of_arm]
        arms[arm] = {
            name: {"mean": round(mean(values), 4), "sd": round(stdev(values), 4) if len(values) > 1 else None}
            for name, values in figures.items()
        }
    recipe = {key: value for key, value in asdict(options).items() if key not in ("folder", "data", "split")}
    recipe["data"] = {Path(folder).name: weight for folder, weight in options.data}
    return {
        "ablation": arms,
        "unseen": list(split.unseen),
        "reserved": split.reserved,
        "recipe": recipe,
        "runs": [asdict(run) for run in runs],
    }


_FIGURES = (
    "seen", "unseen", "harmonic", "renamed_seen", "renamed_unseen",
    "read_seen", "read_unseen", "read_harmonic", "read_renamed_seen", "read_renamed_unseen",
)  # fmt: skip


def _region_vectors(options: AblationOptions, material: AblationData) -> RegionVectors:
    datasets = [dataset for dataset, _ in material.train]
    return teach_regions(_teacher(options.teacher), datasets, Path(options.folder) / "regions")


@functools.lru_cache(maxsize=1)  # it encodes a thousand names
def _teacher(name: str) -> Teacher | ClipDenseTeacher:
    return load_teacher(name, load_text_encoder(preset("mini").text))


def _place(options: AblationOptions, arm: Arm, seed: int) -> Path:
    return Path(options.folder) / f"{arm.value}_{seed}"


def _check_options(folder: Path, options: AblationOptions) -> None:
    """Check that the folder's runs have the same options and split; raises `UsageError` otherwise."""
    split = asdict(read_split(Path(options.split)))
    wanted = asdict(options) | {"content of the split": split, "model": asdict(preset("mini"))}
    path, own = folder / "options.json", json.loads(json.dumps(wanted))
    if not path.is_file():
        return _write(path, own)
    found = _read(path)
    changed = sorted(key for key in own | found if own.get(key) != found.get(key) and key != "folder")
    if changed:
        raise UsageError(f"{folder} holds runs with other options ({', '.join(changed)}); choose another folder")


def _result(path: Path) -> RunResult:
    try:
        return RunResult(**_read(path))
    except TypeError as error:
        raise CheckpointError(f"{path} is not the result of a run ({error}); remove it to run again") from error


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(f"cannot read {path} ({error}); remove it to run again") from error


def _write(path: Path, document: dict[str, Any]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as work:
            work.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise CheckpointError(f"cannot write {path} ({error}); free some space") from error


def _line(run: RunResult) -> str:
    return (
        f"{run.arm} {run.seed}: seen {run.seen:.3f}, unseen {run.unseen:.3f}, harmonic {run.harmonic:.3f}, "
        f"by reserved names {run.renamed_seen:.3f} and {run.renamed_unseen:.3f}"
    )
