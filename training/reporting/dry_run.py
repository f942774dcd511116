"""What a run would do, before it does it: data, parameters, memory."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from torch import Tensor

from ...data.datasets import SegmentationDataset
from ...data.folders import told
from ...data.validate import SetReport
from ...segmenter.config import SegmenterConfig
from ...segmenter.dense import DenseSegmenter
from ..choices import Precision
from ..distributed import Ranks
from ..losses.dense import DenseObjective
from ..losses.objective import Objective
from ..losses.objectives import TrainableModel, build_objective, trainable
from ..options import AUTOCAST
from ..recipes import Recipe


@dataclass(frozen=True)
class Memory:
    """Bytes in one process."""

    weights: int  # with the averaged copy
    gradients: int
    optimizer: int  # AdamW keeps two moments
    activations: int  # of its images of a step, kept for the backward pass

    @property
    def total(self) -> int:
        """Without the libraries, the data loader and what the allocator does not give back."""
        return self.weights + self.gradients + self.optimizer + self.activations


def estimate(objective: Objective | DenseObjective, crop: int, images: int) -> Memory:
    """Memory of one process that gets `images` crops of a step; activations are those of one crop, measured in FP32."""
    trained = 4 * sum(p.numel() for p in objective.parameters())
    kept = images * _kept_bytes(objective.model, crop)
    return Memory(
        weights=trained + 4 * sum(p.numel() for p in objective.model.parameters()),
        gradients=trained,
        optimizer=2 * trained,
        # Under autocast most of what is kept has half the width.
        activations=kept if objective.autocast is None else kept // 2,
    )


def _kept_bytes(model: TrainableModel, crop: int) -> int:
    """Bytes that the forward pass of one image keeps for the backward pass."""
    sizes: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    model.eval()  # one small image may have no statistics at stride 32
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        image = torch.zeros(1, 3, crop, crop)
        results = model.features(image) if isinstance(model, DenseSegmenter) else model.states(image)
    del results  # until here nothing that was kept may be freed, or its place would be counted for another
    return sum(size for place, size in sizes.items() if place not in weights)


def _read(dataset: SegmentationDataset, console: Console) -> SetReport:
    """The report of a data set; with a progress bar on a terminal."""
    if not console.is_terminal:
        return dataset.report()
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task(f"reading {dataset.name}", total=len(dataset))
        return dataset.report(partial(progress.advance, task))


def describe(
    config: SegmenterConfig,
    recipe: Recipe,
    train: list[tuple[SegmentationDataset, float]],
    ranks: Ranks,
    console: Console,
) -> None:
    """Print the data, the parameters and the memory of a run."""
    options = recipe.train
    data = Table("data", "read as", "photos", "left out", "unusable", "classes", "without a pixel", "drawn")
    weights = sum(weight for _, weight in train)
    for dataset, weight in train:
        report = _read(dataset, console)
        for problem in told(report.problems):
            console.print(f"{dataset.name}: unusable: {problem}", markup=False, soft_wrap=True)
        absent = [dataset.classes[index].names[0] for index in dataset.absent(report)]
        if absent:
            console.print(f"{dataset.name}: no pixel of {', '.join(absent)}", markup=False, soft_wrap=True)
        numbers = (report.readable, len(dataset.skipped), len(report.problems), len(dataset.classes), len(absent))
        data.add_row(dataset.name, dataset.layout, *map(str, numbers), f"{weight / weights:.0%}")
    objective = build_objective(trainable(config), recipe.losses, AUTOCAST[Precision(options.precision)])
    parts = Table("part", "parameters")
    extra = [(f"{name} (training only)", part) for name, part in objective.named_children() if name != "model"]
    for name, module in (*objective.model.named_children(), *extra):
        if count := sum(p.numel() for p in module.parameters()):
            parts.add_row(name, f"{count / 1e6:.2f} M")
    memory = estimate(objective, options.crop, options.batch // ranks.world)
    needs = Table("memory of each process", "MiB")
    for name in ("weights", "gradients", "optimizer", "activations", "total"):
        needs.add_row(name, f"{getattr(memory, name) / 2**20:.0f}")
    for table in (data, parts, needs):
        console.print(table)
    photos = sum(len(dataset) for dataset, _ in train)
    console.print(
        f"{recipe.preset}: {options.steps} steps of {options.batch} crops of {options.crop} pixels, each photo some "
        f"{options.steps * options.batch / photos:.0f} times; teacher {recipe.teacher or 'none'}; {ranks.world} "
        "process(es)",
        soft_wrap=True,
    )
