"""TensorBoard: the log's numbers as curves, and pictures of what the model sees."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch

from ...bundle.errors import CheckpointError, DatasetError, require
from ...bundle.letterbox import Letterbox
from ...bundle.metrics import IGNORE
from ...data.datasets import SegmentationDataset
from ..losses.objectives import TrainableModel
from ..trainer import Progress, Trainer
from ..validate import predictions

_EXAMPLES = 2  # pictures of each dataset
_EVERY = 20  # steps between points of a curve
_NOT_PLOTTED = ("step", "seconds")


class Monitor:
    """Writes event files into a folder; `tensorboard --logdir FOLDER` shows them.

    Every method raises `CheckpointError` when the files cannot be written.
    """

    def __init__(self, folder: Path, trainer: Trainer) -> None:
        """Raises `MissingExtraError` without the package tensorboard, `CheckpointError` for a folder it cannot
        write."""
        require("tensorboard", "train")
        from torch.utils.tensorboard import SummaryWriter

        self._trainer, self._folder, self._failed = trainer, folder, False
        self._hook = threading.excepthook
        threading.excepthook = self._on_thread_error
        with self._reported():
            # What a resumed run had already drawn past its state is drawn again.
            self._writer = SummaryWriter(str(folder), purge_step=trainer.step + 1)

    def on_step(self, progress: Progress) -> None:
        """A point of every curve, every few steps."""
        if progress.step == 1 or progress.step % _EVERY == 0:
            with self._reported():
                for name, value in asdict(progress).items():
                    if name not in _NOT_PLOTTED:
                        self._writer.add_scalar(f"train/{name}", value, progress.step)

    def on_validation(self, step: int, scores: dict[str, float]) -> None:
        """Mean IoU of every dataset, and example pictures: photo, truth, prediction."""
        with self._reported():
            for name, value in scores.items():
                self._writer.add_scalar(f"miou/{name}", value, step)
        trainer = self._trainer
        for dataset, vectors in zip(trainer.val, trainer.val_vectors, strict=True):
            for index in range(min(_EXAMPLES, len(dataset))):
                picture = example(trainer.averaged, dataset, vectors, trainer.options.view, index)
                if picture is not None:
                    with self._reported():
                        self._writer.add_image(f"{dataset.name}/{index}", picture, step, dataformats="HWC")

    def close(self) -> None:
        """Write what is waiting."""
        if self._failed:  # what was said already would be said again, and its thread may still be on its way out
            return
        with self._reported():
            self._writer.close()
        threading.excepthook = self._hook

    @contextmanager
    def _reported(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._failed = True
            raise CheckpointError(
                f"cannot write {self._folder} ({error}); free some space, or choose another folder with -o"
            ) from error

    def _on_thread_error(self, failure: threading.ExceptHookArgs) -> None:
        # The writer's thread keeps its error for the next call, which reports it in one line.
        if not (isinstance(failure.exc_value, OSError) and type(failure.thread).__module__.startswith("tensorboard.")):
            self._hook(failure)


def example(
    model: TrainableModel, dataset: SegmentationDataset, vectors: torch.Tensor, view: int, index: int
) -> npt.NDArray[np.uint8] | None:
    """Photo, truth and prediction side by side, RGB (H, 3 W, 3) uint8 no larger than `view`; None if unreadable."""
    try:
        sample = dataset.load(index)
    except DatasetError:
        return None
    labels = next(predictions(model, sample.image, [vectors], view))
    height, width = Letterbox.fit(sample.labels.shape[:2], (view, view)).scaled
    photo, truth, found = (
        cv2.resize(picture, (width, height), interpolation=cv2.INTER_NEAREST)
        for picture in (sample.image[..., ::-1], _colours(sample.labels), _colours(labels))
    )
    return np.concatenate((photo, photo // 2 + truth // 2, photo // 2 + found // 2), 1).astype(np.uint8)


def _colours(labels: npt.NDArray[np.integer]) -> npt.NDArray[np.uint8]:
    """A colour for each class; black where not labelled. Neighbouring indices are far apart in hue."""
    hues = (np.arange(256) * 137 % 180).astype(np.uint8)
    hsv = np.stack((hues, np.full(256, 200, np.uint8), np.full(256, 255, np.uint8)), -1)[None]
    table = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0].astype(np.uint8)
    table[IGNORE] = 0
    return np.asarray(table[labels.astype(np.uint8)], np.uint8)
