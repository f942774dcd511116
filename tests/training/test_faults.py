"""No run dies at hour five of a bad file: each fault is a counted, logged skip, or one clear error at once."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from support.photos import write_coco_panoptic, write_index_masks

from ovs_edge.bundle.errors import CheckpointError, DatasetError
from ovs_edge.data.datasets import open_dataset
from ovs_edge.segmenter.config import mini
from ovs_edge.segmenter.model import SegmenterModel
from ovs_edge.segmenter.text.encoder import TorchTextEncoder, load_text_encoder
from ovs_edge.training.distillation.region_cache import RegionVectors
from ovs_edge.training.losses.losses import LossOptions
from ovs_edge.training.options import TrainOptions
from ovs_edge.training.photos.batches import CropDataset
from ovs_edge.training.trainer import STATE, Trainer, TrainerContext

OPTIONS = TrainOptions(steps=2, batch=4, crop=64, view=64, warmup=1, validate_every=2, workers=0)


@pytest.fixture(scope="module")
def encoder() -> TorchTextEncoder:
    return load_text_encoder(mini().text)


def _trainer(
    data: Path,
    output: Path,
    encoder: TorchTextEncoder,
    options: TrainOptions = OPTIONS,
    losses: LossOptions | None = None,
    regions: RegionVectors | None = None,
) -> Trainer:
    torch.manual_seed(0)
    train, val = open_dataset(data, "train"), open_dataset(data, "val")
    return Trainer(
        SegmenterModel(mini()), encoder, [(train, 1.0)], [val], output, options, losses, TrainerContext(regions=regions)
    )


def _run(trainer: Trainer) -> int:
    trainer.run(lambda step: None, lambda step, scores: None)
    return trainer.skipped


def _damage(folder: Path) -> None:
    """Photo 0 truncated, mask 1 of another size, mask 2 with a class that has no name, mask 3 no picture."""
    photo = folder / "images/train/0.jpg"
    photo.write_bytes(photo.read_bytes()[:200])
    cv2.imwrite(str(folder / "masks/train/1.png"), np.zeros((10, 10), np.uint8))
    cv2.imwrite(str(folder / "masks/train/2.png"), np.full((80, 112), 77, np.uint8))
    (folder / "masks/train/3.png").write_bytes(b"not a picture")


def test_bad_files_are_skipped_counted_and_named(
    tmp_path: Path, encoder: TorchTextEncoder, caplog: pytest.LogCaptureFixture
) -> None:
    folder = write_index_masks(tmp_path / "shapes")
    _damage(folder)
    (folder / "images/val/0.jpg").write_bytes(b"broken")
    trainer = _trainer(folder, tmp_path / "run", encoder)
    skipped = _run(trainer)
    named = [line for line in caplog.messages if line.startswith("skipped: ")]
    assert skipped == len(named) > 0
    assert any(line.startswith("not validated: cannot decode the photo") for line in caplog.messages)
    assert torch.load(tmp_path / "run" / STATE)["skipped"] == skipped
    last = json.loads((tmp_path / "run" / "log.jsonl").read_text().splitlines()[-1])
    assert np.isfinite(last["validation"]["shapes"])


def test_a_truncated_photo_does_not_pass_for_a_whole_one(tmp_path: Path) -> None:
    """OpenCV decodes the top of a JPEG whose end is missing and calls it a picture; half of it would be grey."""
    folder = write_index_masks(tmp_path / "shapes")
    photo = folder / "images/train/0.jpg"
    whole = photo.read_bytes()
    photo.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DatasetError, match=r"cannot decode the photo .*0\.jpg"):
        open_dataset(folder, "train").load(0)
    photo.write_bytes(whole + b"a maker's note behind the picture, longer than a mark")
    assert open_dataset(folder, "train").load(0).image.shape == (80, 112, 3)


def test_photos_almost_without_labels_train_without_harm(tmp_path: Path, encoder: TorchTextEncoder) -> None:
    folder = write_index_masks(tmp_path / "shapes", photos=2)
    labels = np.full((80, 112), 255, np.uint8)
    labels[-1, -1] = 1  # a set without one label, or with 0 and 255 alone, is refused when it is opened
    for path in (folder / "masks/train").iterdir():
        cv2.imwrite(str(path), labels)
    options = replace(OPTIONS, names="draw")
    regions = RegionVectors(np.empty(0, np.int64), np.empty((0, 384), np.float16), "nothing")
    trainer = _trainer(folder, tmp_path / "run", encoder, options, LossOptions(drawn=1, region=1, pairs=1), regions)
    assert _run(trainer) == 0
    assert all(bool(torch.isfinite(value).all()) for value in trainer.model.parameters())


def test_empty_annotations_are_listed(tmp_path: Path, encoder: TorchTextEncoder) -> None:
    folder = write_coco_panoptic(tmp_path / "coco")
    assert open_dataset(folder, "train").skipped == ("2.jpg: empty annotation",)
    assert _run(_trainer(folder, tmp_path / "run", encoder)) == 0


def test_a_category_without_synonyms_goes_by_its_plain_name(tmp_path: Path, encoder: TorchTextEncoder) -> None:
    folder = write_index_masks(tmp_path / "shapes", photos=2)
    (folder / "classes.json").write_text(json.dumps(["grass", "zorbical quux", "sky"]))
    options = replace(OPTIONS, names="draw")
    trainer = _trainer(folder, tmp_path / "run", encoder, options, LossOptions(drawn=1))
    assert trainer.vocabularies[0].words[1] == ("zorbical quux",)
    drawn = trainer.vocabularies[0].draw_regions(torch.tensor([1]), torch.zeros(1, 384), torch.Generator())
    assert torch.equal(drawn[0], trainer.vocabularies[0].plain[1])
    _run(trainer)


def test_a_reading_process_that_dies_is_one_error(
    tmp_path: Path, encoder: TorchTextEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_index_masks(tmp_path / "shapes", photos=2)
    trainer = _trainer(folder, tmp_path / "run", encoder, replace(OPTIONS, workers=1))
    # As the kernel does to one that takes too much memory.
    monkeypatch.setattr(CropDataset, "__getitem__", lambda self, index: os.kill(os.getpid(), signal.SIGKILL))
    with pytest.raises(DatasetError, match="fewer --workers"):
        _run(trainer)


def test_a_full_disk_stops_at_once_and_keeps_the_last_state(
    tmp_path: Path, encoder: TorchTextEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_index_masks(tmp_path / "shapes", photos=2)
    trainer = _trainer(folder, tmp_path / "run", encoder)
    trainer.save()
    before = (tmp_path / "run" / STATE).read_bytes()

    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(CheckpointError, match="free some space"):
        _run(trainer)
    assert (tmp_path / "run" / STATE).read_bytes() == before
    assert not list((tmp_path / "run").glob(".*partial"))


def _train_on_little_space(data: Path, output: Path, room: int, *more: str) -> subprocess.CompletedProcess[str]:
    """One step of `ovs-train`, whose files may not grow past `room` bytes."""
    code = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({room}, {room})); "
        "from ovs_edge.training.cli import main; main()"
    )
    arguments = [
        "--data", str(data), "-o", str(output), "--steps", "1", "--batch", "1", "--crop", "64", "--view", "64",
        "--workers", "0", "--threads", "1", "--no-pretrained", *more,
    ]  # fmt: skip
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], check=False, capture_output=True, text=True, timeout=300
    )


def test_a_truly_full_disk_is_one_line(tmp_path: Path) -> None:
    """The first checkpoint does not fit."""
    folder = write_index_masks(tmp_path / "shapes", photos=2)
    result = _train_on_little_space(folder, tmp_path / "run", 100_000)
    assert result.returncode == 2, result.stderr
    assert result.stderr.strip().splitlines()[-1].startswith("error: cannot write")
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["log.jsonl", "run.json"]


def test_curves_that_find_the_disk_full_are_one_line(tmp_path: Path) -> None:
    """The log fits, the curves' points and pictures do not; their writer meets the error in a thread of its own."""
    folder = write_index_masks(tmp_path / "shapes", photos=2)
    result = _train_on_little_space(folder, tmp_path / "run", 900, "--tensorboard")
    assert result.returncode == 2, result.stderr
    assert "Traceback" not in result.stderr
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("error: cannot write")
    assert "tensorboard" in last
    assert "free some space" in last
    assert "log.jsonl" in [path.name for path in (tmp_path / "run").iterdir()]
