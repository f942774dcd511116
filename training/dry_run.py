"""What a run would do, before it does it: data, parameters, memory."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from ovs_edge.segmenter.segmenter import Segmenter
from ovs_edge.training.trainer import Trainer

_MIB = 2**20


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


def kept_bytes(model: Segmenter, crop: int) -> int:
    """Bytes that the forward pass of one image of side `crop` keeps for the backward pass; measured, in FP32."""
    sizes: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    held = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    image = torch.zeros(1, 3, crop, crop, device=model.no_object.device)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model.eval()  # one image has no statistics at stride 32 of a small crop
        states = model.states(image)
    del states
    return sum(size for pointer, size in sizes.items() if pointer not in held)


def estimate(trainer: Trainer) -> Memory:
    """Memory of one process of a run."""
    trained = 4 * sum(p.numel() for p in trainer.objective.parameters())
    model = 4 * sum(p.numel() for p in trainer.model.parameters())
    images = trainer.options.batch // trainer.ranks.world
    kept = images * kept_bytes(trainer.model, trainer.options.crop)
    return Memory(
        weights=trained + model,
        gradients=trained,
        optimizer=2 * trained,
        # Under autocast most of what is kept has half the width.
        activations=kept if trainer.options.precision == "fp32" else kept // 2,
    )


def describe(trainer: Trainer, console: Console) -> None:
    """Print the data, the parameters and the memory of a run."""
    data = Table("data", "photos", "left out", "classes", "drawn")
    for dataset, weight in zip(trainer.datasets, trainer.crops.weights, strict=True):
        data.add_row(
            dataset.name, str(len(dataset)), str(len(dataset.skipped)), str(len(dataset.classes)), f"{weight:.0%}"
        )
    parts = Table("part", "parameters")
    for name, module in (*trainer.model.named_children(), *trainer.objective.named_children()):
        if module is not trainer.model and (count := sum(p.numel() for p in module.parameters())):
            where = "" if name in dict(trainer.model.named_children()) else " (training only)"
            parts.add_row(name + where, f"{count / 1e6:.2f} M")
    memory = estimate(trainer)
    needs = Table("memory of each process", "MiB")
    for name in ("weights", "gradients", "optimizer", "activations", "total"):
        needs.add_row(name, f"{getattr(memory, name) / _MIB:.0f}")
    for table in (data, parts, needs):
        console.print(table)
    options = trainer.options
    photos = sum(len(dataset) for dataset in trainer.datasets)
    console.print(
        f"{options.steps} steps of {options.batch} crops of {options.crop} pixels, each photo some "
        f"{options.steps * options.batch / photos:.0f} times; {trainer.ranks.world} process(es)"
    )
