"""The training loop: steps, schedule, averaged weights, validation, checkpoints, resume."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ovs_edge.bundle.errors import CheckpointError, DatasetError
from ovs_edge.segmenter.checkpoint import read_torch, save_checkpoint, write_torch
from ovs_edge.segmenter.segmenter import Segmenter
from ovs_edge.segmenter.text import TextEncoder
from ovs_edge.training.augment import AugmentOptions
from ovs_edge.training.batches import Batch, CropDataset, batches
from ovs_edge.training.datasets import SegmentationDataset
from ovs_edge.training.losses import LossOptions, PixelTextHead, SetLoss, set_loss
from ovs_edge.training.validate import validate
from ovs_edge.training.vocabulary import DatasetVocabulary, related_words, training_vocabulary

STATE = "training.pt"
LOG = "log.jsonl"


@dataclass(frozen=True)
class TrainOptions:
    """A recipe. Everything that decides the weights is here, in the data and in the seed."""

    steps: int = 6000
    batch: int = 8  # images a step
    crop: int = 256  # pixels, both sides
    view: int = 384  # input side at deployment
    lr: float = 6e-4
    backbone_lr: float = 0.2  # times lr
    weight_decay: float = 0.05
    warmup: int = 200  # steps
    power: float = 0.9  # of the polynomial decay
    clip: float = 0.01  # largest norm of the whole gradient, as Mask2Former
    average: float = 0.998  # decay of the averaged weights, which are what is saved
    plain_share: float = 0.5  # how often a class goes by its plain name instead of a random synonym
    seed: int = 0
    validate_every: int = 1000
    workers: int = 1


@dataclass(frozen=True)
class Progress:
    """What a step reports."""

    step: int
    loss: float
    classification: float
    mask: float
    dice: float
    pixel_text: float
    lr: float
    skipped: int  # unreadable files so far
    seconds: float  # of this step


class Trainer:
    """Trains a segmenter on several datasets, each with names of its own."""

    def __init__(
        self,
        model: Segmenter,
        encoder: TextEncoder,
        train: list[tuple[SegmentationDataset, float]],
        val: list[SegmentationDataset],
        folder: Path,
        options: TrainOptions,
        losses: LossOptions | None = None,
        device: str = "cpu",
    ) -> None:
        self.options, self.losses, self.folder = options, losses or LossOptions(), folder
        self.device = torch.device(device)
        self.model = model.to(self.device).to(memory_format=torch.channels_last)  # a third faster on a CPU
        self.averaged = copy.deepcopy(self.model).requires_grad_(False)
        self.datasets = [dataset for dataset, _ in train]
        self.crops = CropDataset(
            self.datasets,
            [weight for _, weight in train],
            AugmentOptions(options.crop, options.view),
            options.seed,
        )
        self.val = val
        self.vocabularies = [DatasetVocabulary(dataset, encoder) for dataset in self.datasets]
        self.val_vectors = [DatasetVocabulary(dataset, encoder).plain for dataset in val]
        config, dim = model.config.pixel_decoder, model.config.text.dim
        self.heads = torch.nn.ModuleList(
            [PixelTextHead(config.channels, dim), PixelTextHead(config.mask_channels, dim)]
        )
        self.heads.to(self.device)
        self.optimizer = self._optimizer()
        self.step = 0
        self.skipped = 0

    def _optimizer(self) -> torch.optim.AdamW:
        groups: list[dict[str, Any]] = []
        for module, factor in ((self.model.backbone, self.options.backbone_lr), (self.model, 1.0), (self.heads, 1.0)):
            taken = {id(p) for group in groups for p in group["params"]}
            parameters = [p for p in module.parameters() if id(p) not in taken]
            for decays in (True, False):
                # Norms, biases and learned vectors are not pulled to zero.
                chosen = [p for p in parameters if (p.ndim >= 2 and p.shape[0] > 1) == decays]
                decay = self.options.weight_decay if decays else 0.0
                groups.append({"params": chosen, "factor": factor, "weight_decay": decay})
        return torch.optim.AdamW([group for group in groups if group["params"]], lr=self.options.lr)

    def run(self, on_step: Callable[[Progress], None], on_validation: Callable[[int, dict[str, float]], None]) -> None:
        """Train to the last step; a state is written at every validation."""
        options = self.options
        if self.step >= options.steps:
            self.save(self.validate())
        for batch in batches(self.crops, self.step, options.steps, options.batch, options.workers):
            started = time.perf_counter()
            progress = self._train_step(batch.to(self.device), started)
            if progress.step == 1 or progress.step % 20 == 0:
                self._record(asdict(progress))
            on_step(progress)
            if self.step % options.validate_every == 0 or self.step == options.steps:
                scores = self.validate()
                self._record({"step": self.step, "validation": scores})
                on_validation(self.step, scores)
                self.save(scores)

    def _train_step(self, batch: Batch, started: float) -> Progress:
        options = self.options
        self.skipped += batch.skipped
        generator = torch.Generator().manual_seed(options.seed * 1_000_003 + self.step)
        rate = options.lr * _schedule(self.step, options)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["factor"]
        self.model.train()
        self.model.backbone.eval()  # the statistics of its BatchNorms are ImageNet's, and stay
        terms, pixel_text = self._losses(batch, generator)
        total = sum((term.total(self.losses) for term in terms), self.losses.pixel_text * pixel_text)
        if not bool(torch.isfinite(total)):
            raise DatasetError(
                f"the loss became {float(total.detach())} at step {self.step}; lower --lr, or check the masks"
            )
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        parameters = [*self.model.parameters(), *self.heads.parameters()]
        torch.nn.utils.clip_grad_norm_(parameters, options.clip)
        self.optimizer.step()
        self.step += 1
        self._average()
        last = terms[-1]
        parts = (total, last.classification, last.mask, last.dice, pixel_text)
        loss, classification, mask, dice, pixel = (float(part.detach()) for part in parts)
        seconds = time.perf_counter() - started
        return Progress(self.step, loss, classification, mask, dice, pixel, rate, self.skipped, seconds)

    def _losses(self, batch: Batch, generator: torch.Generator) -> tuple[list[SetLoss], Tensor]:
        used = sorted(set(batch.dataset))
        text = {
            index: self.vocabularies[index].draw(self.options.plain_share, generator).to(self.device) for index in used
        }
        members = {index: [i for i, owner in enumerate(batch.dataset) if owner == index] for index in used}
        mask_features, levels = self.model.features(batch.images)
        states = self.model.query_decoder(mask_features, levels)
        terms = []
        for depth, state in enumerate(states):
            embedding = self.model.embed(state, depth)
            logits: list[Tensor] = [torch.empty(0)] * len(batch.dataset)
            for index in used:
                classified = self.model.classify(embedding[members[index]], text[index][:, None])
                for position, row in zip(members[index], classified, strict=True):
                    logits[position] = row
            terms.append(set_loss(logits, state.mask_logits, batch.targets, self.losses, generator))
        pixel_text = mask_features.new_zeros(())
        for head, features in zip(self.heads, (levels[-1], mask_features), strict=True):
            for index in used:
                targets = [batch.targets[i] for i in members[index]]
                share = len(targets) / len(batch.dataset)
                pixel_text = pixel_text + share * head(features[members[index]], text[index], targets)
        return terms, pixel_text

    @torch.no_grad()
    def _average(self) -> None:
        # Early on the average follows closely, or the random start would stay in it for long.
        decay = min(self.options.average, (1 + self.step) / (10 + self.step))
        for mean, value in zip(self.averaged.parameters(), self.model.parameters(), strict=True):
            mean.lerp_(value, 1 - decay)
        for kept, current in zip(self.averaged.buffers(), self.model.buffers(), strict=True):
            kept.copy_(current)

    def validate(self) -> dict[str, float]:
        """Mean IoU of the averaged weights on every validation split."""
        return {
            dataset.name: validate(self.averaged, dataset, vectors, self.options.view).mean
            for dataset, vectors in zip(self.val, self.val_vectors, strict=True)
        }

    def save(self, scores: dict[str, float]) -> None:
        """Write `model.pt` (averaged weights, FP16-representable) and `training.pt` (everything to go on)."""
        provenance = {
            "datasets": {
                dataset.name: round(float(weight), 4)
                for dataset, weight in zip(self.datasets, self.crops.weights, strict=True)
            },
            "photos": sum(len(dataset) for dataset in self.datasets),
            "options": asdict(self.options),
            "losses": asdict(self.losses),
            "step": self.step,
            "validation_miou": scores,
        }
        save_checkpoint(
            self.folder / "model.pt",
            copy.deepcopy(self.averaged).cpu(),
            training_vocabulary(self.datasets),
            provenance,
            related=related_words(self.datasets),
            half=True,
        )
        write_torch(
            self.folder / STATE,
            {
                "step": self.step,
                "skipped": self.skipped,
                "options": asdict(self.options),
                "model": self.model.state_dict(),
                "averaged": self.averaged.state_dict(),
                "heads": self.heads.state_dict(),
                "optimizer": self.optimizer.state_dict(),
            },
        )

    def resume(self) -> None:
        """Go on from `training.pt`; refuses a run whose recipe was another."""
        path = self.folder / STATE
        state = read_torch(path)
        try:
            changed = [k for k, v in asdict(self.options).items() if k not in ("workers",) and state["options"][k] != v]
            if changed:
                raise CheckpointError(
                    f"{path} was trained with other options ({', '.join(changed)}); resume with the same, "
                    "or start in another folder"
                )
            self.model.load_state_dict(state["model"])
            self.averaged.load_state_dict(state["averaged"])
            self.heads.load_state_dict(state["heads"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.step, self.skipped = int(state["step"]), int(state["skipped"])
        except (KeyError, RuntimeError, ValueError, TypeError) as error:
            raise CheckpointError(f"{path} is not a training state of this model ({error}); start anew") from error

    def _record(self, entry: dict[str, Any]) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with (self.folder / LOG).open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(entry) + "\n")
        except OSError as error:
            raise CheckpointError(f"cannot write {self.folder / LOG} ({error}); free some space") from error


def _schedule(step: int, options: TrainOptions) -> float:
    warm = min(1.0, (step + 1) / max(1, options.warmup))
    decay: float = max(0.0, 1 - step / options.steps) ** options.power
    return warm * decay
