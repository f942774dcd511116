"""The training loop: steps, schedule, averaged weights, validation, checkpoints, resume."""

from __future__ import annotations

import copy
import math
import signal
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from ..bundle.errors import CheckpointError, DatasetError, UsageError
from ..data.datasets import SegmentationDataset
from ..segmenter.backbone import EfficientNetLite
from ..segmenter.checkpoint import save_checkpoint
from ..segmenter.text.encoder import TorchTextEncoder
from ..segmenter.weights.files import read_weights, write_torch
from .choices import Precision
from .distillation.distill import Regions, rank_of
from .distillation.region_cache import RegionVectors
from .distributed import Ranks, averaged, barrier, share_batch_norms, summed
from .interrupts import Interrupted, StopSignals, children_checked_after
from .losses.losses import LossOptions
from .losses.objective import Terms
from .losses.objectives import TrainableModel, build_objective
from .options import AUTOCAST, TrainOptions, check_options, plain_values
from .photos.batches import Batch, CropDataset, LostReaderError, batches, lost_reader
from .photos.sampling import photos_by_class
from .pseudo.dataset import own_classes
from .reporting.log import RunLog
from .schedule import chance, rate_factor
from .splits import Split
from .text.vocabulary import DatasetVocabulary, related_words, rival_names, training_vocabulary
from .validate import count_confusion, validation_scores

STATE = "training.pt"
FIRST_SAVE_SECONDS = 60.0  # after the start of a run
SAVE_SECONDS = 300.0  # between states, whatever `TrainOptions.validate_every`


@dataclass(frozen=True)
class Progress:
    """What a step reports."""

    step: int
    loss: float
    classification: float
    mask: float
    dice: float
    pixel_text: float
    drawn: float
    region: float
    pairs: float
    lr: float
    skipped: int  # unreadable files so far
    seconds: float  # of this step


@dataclass(frozen=True)
class TrainerContext:
    """What a trainer works with beside model, data and recipe."""

    device: str | torch.device = "cpu"
    ranks: Ranks = field(default_factory=Ranks)  # this process among all
    regions: RegionVectors | None = None  # the teacher's vectors of the training datasets, in their order
    split: Split | None = None  # hidden from the training datasets; scored apart in validation
    origin: dict[str, Any] | None = None  # provenance of the checkpoint whose weights the model holds
    text_state: dict[str, Tensor] | None = None  # weights of a text encoder that model.pt has to hold


class Trainer:
    """Trains a segmenter on several datasets, each with names of its own; alone, or as one of several processes."""

    def __init__(
        self,
        model: TrainableModel,
        encoder: TorchTextEncoder,
        train: list[tuple[SegmentationDataset, float]],
        val: list[SegmentationDataset],
        folder: Path,
        options: TrainOptions,
        losses: LossOptions | None = None,
        context: TrainerContext | None = None,
    ) -> None:
        """`train`: datasets and how often each is drawn from; `val`: validation splits; `folder`: for model.pt, log and
        state. Raises `UsageError` for options that contradict each other."""
        context = context or TrainerContext()
        self.options, self.losses, self.folder = options, losses or LossOptions(), folder
        self.device, self.regions, self.ranks = torch.device(context.device), context.regions, context.ranks
        check_options(self.options, self.losses, self.ranks, self.device, self.regions, model.config.text.dim)
        self.model = model.to(self.device).to(memory_format=torch.channels_last)  # a third faster on a CPU
        freeze(self.model, options.frozen_stages)
        self.averaged = copy.deepcopy(self.model).requires_grad_(requires_grad=False)
        self.datasets = [dataset for dataset, _ in train]
        weights = [weight for _, weight in train]
        self.crops = CropDataset(self.datasets, weights, options.augment, options.seed)
        self.val = val
        self.vocabularies = [
            DatasetVocabulary(dataset, encoder, options.names, options.plain_share) for dataset in self.datasets
        ]
        self.rivals = [encoder.encode(names) for names in rival_names(self.datasets, encoder)] if options.rivals else []
        self.val_vectors = [DatasetVocabulary(dataset, encoder).plain for dataset in val]
        means = None
        if self.losses.centred and self.regions is not None:
            names = torch.cat([vocabulary.plain for vocabulary in self.vocabularies])
            means = names.mean(0), torch.from_numpy(self.regions.vectors.astype(np.float32)).mean(0)
        self.objective = build_objective(self.model, self.losses, AUTOCAST[Precision(options.precision)], means).to(
            self.device
        )
        self.optimizer = self._optimizer()
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=options.precision == Precision.FP16)
        self._text_state, self.split, self._origin = context.text_state, context.split, context.origin
        self.log = RunLog(folder if self.ranks.first else None)
        self.step = 0
        self.skipped = 0  # by this process
        self._skipped_by_all = 0  # as of the last step; the first process saves without asking the others
        self.scores: dict[str, float] = {}  # of the last validation
        self.validated = 0  # step of the last validation
        self._forward: Callable[..., Terms] = self.objective
        if self.ranks.world > 1:
            share_batch_norms(self.model.pixel_decoder)
            self._forward = DistributedDataParallel(self.objective)

    def _optimizer(self) -> torch.optim.AdamW:
        groups: list[dict[str, Any]] = []
        for module, factor in ((self.model.backbone, self.options.backbone_lr), (self.objective, 1.0)):
            taken = {id(p) for group in groups for p in group["params"]}
            parameters = [p for p in module.parameters() if id(p) not in taken]
            for decays in (True, False):
                # Norms, biases and learned vectors are not pulled to zero.
                chosen = [p for p in parameters if p.requires_grad and (p.ndim >= 2 and p.shape[0] > 1) == decays]
                decay = self.options.weight_decay if decays else 0.0
                groups.append({"params": chosen, "factor": factor, "weight_decay": decay})
        return torch.optim.AdamW([group for group in groups if group["params"]], lr=self.options.lr, fused=True)

    def run(
        self,
        on_step: Callable[[Progress], None],
        on_validation: Callable[[int, dict[str, float]], None],
        stop: StopSignals | None = None,
        until: int | None = None,
    ) -> None:
        """Train to the last step, or to step `until` of the same schedule.

        A state is written at every validation, every few minutes between, and before `stop` ends the run with
        `Interrupted`.
        """
        options, stop = self.options, stop or StopSignals()
        last = min(options.steps, until or options.steps)
        saved = time.monotonic() - SAVE_SECONDS + FIRST_SAVE_SECONDS
        try:
            if self.step and self._validation_is_due(last) and self.validated < self.step:
                self._validate(on_validation, stop)
            if self.step >= last:
                self.save()
            for batch in batches(self.crops, self.step, last, options.batch, options.workers, self.ranks):
                with children_checked_after():
                    progress = self._train_step(batch, time.perf_counter())
                if progress.step == 1 or progress.step % 20 == 0:
                    self.log.write(asdict(progress))
                on_step(progress)
                stop.raise_if(self._agreed(stop.number))
                if self._validation_is_due(last):
                    self._validate(on_validation, stop)
                elif time.monotonic() - saved < SAVE_SECONDS:
                    continue
                self.save()
                saved = time.monotonic()
        except Interrupted:
            self.save()
            barrier()  # or the first process to leave would have torchrun stop the one that writes
            raise
        except RuntimeError as error:
            if (lost := lost_reader(error)) is None:
                raise
            self._stop_without_reader(lost, stop)
        except LostReaderError as lost:
            self._stop_without_reader(lost, stop)

    def _stop_without_reader(self, lost: LostReaderError, stop: StopSignals) -> None:
        """Save and raise; readers are checked between steps only, so the weights are those of a whole step."""
        self.save()
        stop.raise_if(stop.number)  # the signal reached the reading process, too
        raise lost

    def _validation_is_due(self, last: int) -> bool:
        return self.step % self.options.validate_every == 0 or self.step >= last

    def _validate(self, on_validation: Callable[[int, dict[str, float]], None], stop: StopSignals) -> None:
        with stop.at_once():
            scores = self.validate()
        self.scores, self.validated = scores, self.step
        self.log.write({"step": self.step, "validation": scores})
        on_validation(self.step, scores)

    def _agreed(self, number: int) -> int:
        """The signal that ends the run in this process or another one, 0 for none."""
        if self.ranks.world == 1 or not int(summed(torch.tensor(number, device=self.device))):
            return number
        return number or int(signal.SIGTERM)

    def _train_step(self, batch: Batch, started: float) -> Progress:
        options = self.options
        self.skipped += batch.skipped
        factor = rate_factor(
            self.step, options.steps, options.warmup, options.schedule, options.power, options.milestones
        )
        for group in self.optimizer.param_groups:
            group["lr"] = options.lr * factor * group["factor"]
        self.objective.train()
        own = [own_classes(dataset) for dataset in self.datasets]
        terms = self._forward(*self._inputs(batch), own)
        parts = torch.stack([getattr(terms, part.name).detach() for part in fields(terms)])
        values = dict(zip((part.name for part in fields(terms)), averaged(parts).tolist(), strict=True))
        if not math.isfinite(values["total"]):
            raise DatasetError(f"the loss became {values['total']} at step {self.step}; lower --lr, or check the masks")
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(terms.total).backward()  # type: ignore[no-untyped-call]
        self.scaler.unscale_(self.optimizer)
        torch.nn.utils.clip_grad_norm_(self.objective.parameters(), options.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.step += 1
        self._average()
        seconds = time.perf_counter() - started
        loss = values.pop("total")
        self._skipped_by_all = self.all_skipped()
        return Progress(
            self.step, loss, **values, lr=options.lr * factor, skipped=self._skipped_by_all, seconds=seconds
        )

    @torch.no_grad()  # teacher and text encoder are frozen
    def _inputs(self, batch: Batch) -> tuple[Batch, list[Tensor], list[Regions], list[torch.Generator]]:
        """What the objective takes. Chance depends on the step and on an image's place in the whole batch."""
        seed = self.options.seed
        names = [
            self._with_rivals(index, vocabulary.names(chance(seed, self.step, 0, index))).to(self.device)
            for index, vocabulary in enumerate(self.vocabularies)
        ]
        first = self.ranks.rank * len(batch.dataset)
        generators = [chance(seed, self.step, 1, first + place) for place in range(len(batch.dataset))]
        regions = [self._regions(batch, place, generator).to(self.device) for place, generator in enumerate(generators)]
        return batch.to(self.device), names, regions, generators

    def _with_rivals(self, dataset: int, names: Tensor) -> Tensor:
        """Names (K, S, D) of a dataset's classes, and behind them those of no pixel of it."""
        if not self.rivals:
            return names
        more = names.new_zeros(len(self.rivals[dataset]), *names.shape[1:])
        more[:, 0] = self.rivals[dataset]
        return torch.cat((names, more))

    def _regions(self, batch: Batch, place: int, generator: torch.Generator) -> Regions:
        dataset, classes = batch.dataset[place], batch.targets[place].classes
        vocabulary = self.vocabularies[dataset]
        text = vocabulary.plain[classes]
        teacher = torch.zeros_like(text)
        if self.regions is not None:
            for photo in batch.photos[place]:
                seen = self.regions.lookup(dataset, photo, classes.numpy())
                teacher = torch.where(teacher.any(1, keepdim=True), teacher, seen)
        drawn, absent = text, text[:0]
        if self.losses.drawn:
            drawn = vocabulary.draw_regions(classes, teacher, generator)
            absent = vocabulary.draw_absent(classes, generator) if self.losses.absent else absent
        left_out = torch.rand(len(classes), generator=generator) < self.losses.region_dropout
        if self.losses.trusted:
            left_out |= rank_of(teacher, vocabulary.plain, classes) >= self.losses.trusted
        return Regions(teacher.masked_fill(left_out[:, None], 0), text, drawn, absent)

    def all_skipped(self) -> int:
        """Unreadable files so far, in all processes."""
        return int(summed(torch.tensor(self.skipped, device=self.device)))

    @torch.no_grad()
    def _average(self) -> None:
        # Early on the average follows closely, or the random start would stay in it for long.
        decay = min(self.options.average, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(list(self.averaged.parameters()), list(self.model.parameters()), 1 - decay)
        for kept, current in zip(self.averaged.buffers(), self.model.buffers(), strict=True):
            kept.copy_(current)

    def validate(self) -> dict[str, float]:
        """`validation_scores` of the averaged weights on every validation split; each process sees its part of the
        photos."""
        found: dict[str, float] = {}
        for dataset, vectors in zip(self.val, self.val_vectors, strict=True):
            own = range(self.ranks.rank, len(dataset), self.ranks.world)
            counts = count_confusion(self.averaged, dataset, vectors, self.options.view, indices=own)
            total = summed(torch.from_numpy(counts).to(self.device)).cpu().numpy()
            found |= validation_scores(total, dataset, self.split)
        return found

    def save(self) -> None:
        """Write `model.pt` (averaged weights, FP16-representable) and `training.pt` (everything to go on)."""
        if not self.ranks.first:
            return
        provenance = {
            "datasets": {
                dataset.name: round(float(weight), 4)
                for dataset, weight in zip(self.datasets, self.crops.weights, strict=True)
            },
            "photos": sum(len(dataset) for dataset in self.datasets),
            "options": plain_values(self.options),
            "losses": asdict(self.losses),
            "step": self.step,
            "validation_miou": self.scores,
            "validated_at_step": self.validated,
            **({} if self._origin is None else {"started_from": self._origin}),
        }
        save_checkpoint(
            self.folder / "model.pt",
            copy.deepcopy(self.averaged).cpu(),
            training_vocabulary(self.datasets),
            provenance,
            related=related_words(self.datasets),
            half=True,
            text_state=self._text_state,
        )
        write_torch(
            self.folder / STATE,
            {
                "step": self.step,
                "skipped": self._skipped_by_all,
                "scores": self.scores,
                "validated": self.validated,
                "recipe": self._recipe(),
                "objective": self.objective.state_dict(),
                "averaged": self.averaged.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "scaler": self.scaler.state_dict(),
            },
        )

    def resume(self) -> None:
        """Go on from `training.pt`; refuses a run whose recipe or data was another. The log ends with that state
        too."""
        path = self.folder / STATE
        state = read_weights(path)
        try:
            recipe = self._recipe()
            saved = dict(state["recipe"])
            changed = [name for name in recipe if name not in saved or saved[name] != recipe[name]]
            if changed:
                raise CheckpointError(
                    f"{path} was trained with other options or data ({', '.join(changed)}); resume with the same, "
                    "or start in another folder"
                )
            self.objective.load_state_dict(state["objective"])
            self.averaged.load_state_dict(state["averaged"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.scaler.load_state_dict(state["scaler"])
            self.step = int(state["step"])
            self._origin = saved.get("started from")
            self._skipped_by_all = int(state["skipped"])
            self.skipped = self._skipped_by_all if self.ranks.first else 0
            # States used to be written after validations alone.
            self.validated = int(state.get("validated", self.step))
            self.scores = dict(state.get("scores", {}))
        except (KeyError, RuntimeError, ValueError, TypeError) as error:
            raise CheckpointError(f"{path} is not a training state of this model ({error}); start anew") from error
        self.log.forget_after(self.step, self.validated)

    def _recipe(self) -> dict[str, Any]:
        """All that decides the weights; how many processes and workers share the work does not."""
        options = {name: value for name, value in plain_values(self.options).items() if name != "workers"}
        return {
            **options,
            **asdict(self.losses),
            "teacher": self.regions.digest if self.regions else "",
            "data": [dataset.digest for dataset in self.datasets],
            "weights of the data": self.crops.weights.tolist(),
            "photos drawn by class": [bool(photos_by_class(dataset)) for dataset in self.datasets]
            if self.options.balance or self.options.paste
            else None,
            "split": asdict(self.split) if self.split else None,
            **({} if self._origin is None else {"started from": self._origin}),
        }


def freeze(model: TrainableModel, stages: int) -> None:
    """Keep the stem and the first `stages` of the backbone as they are; raises `UsageError` where there are no such."""
    if not stages:
        return
    backbone = model.backbone
    if not isinstance(backbone, EfficientNetLite):
        raise UsageError(f"frozen stages are of EfficientNet, this backbone is {type(backbone).__name__}; use 0")
    for part in (backbone.stem, *backbone.stages[:stages]):
        part.requires_grad_(requires_grad=False)
