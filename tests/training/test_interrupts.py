"""A run that is told to stop, or killed, loses nothing that a resumed run would need."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support.photos import write_index_masks

from ovs_edge.data.datasets import open_dataset
from ovs_edge.segmenter.config import mini
from ovs_edge.segmenter.model import SegmenterModel
from ovs_edge.segmenter.text.encoder import TorchTextEncoder, load_text_encoder
from ovs_edge.training import trainer as trainer_module
from ovs_edge.training.interrupts import Interrupted, StopSignals, children_checked_after
from ovs_edge.training.options import TrainOptions
from ovs_edge.training.reporting.log import LOG
from ovs_edge.training.trainer import STATE, Trainer

OPTIONS = TrainOptions(steps=4, batch=2, crop=64, view=64, warmup=1, validate_every=2, workers=0)


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_index_masks(tmp_path_factory.mktemp("data") / "shapes", photos=8)


@pytest.fixture(scope="module")
def encoder() -> TorchTextEncoder:
    return load_text_encoder(mini().text)


def _trainer(data: Path, output: Path, encoder: TorchTextEncoder, options: TrainOptions = OPTIONS) -> Trainer:
    torch.manual_seed(0)
    train, val = open_dataset(data, "train"), open_dataset(data, "val")
    return Trainer(SegmenterModel(mini()), encoder, [(train, 1.0)], [val], output, options)


def _entries(folder: Path) -> list[tuple[int, bool]]:
    return [
        (entry["step"], "validation" in entry) for entry in map(json.loads, (folder / LOG).read_text().splitlines())
    ]


def test_a_signal_waits_for_a_good_place_to_stop() -> None:
    stop = StopSignals()
    with stop.installed():
        os.kill(os.getpid(), signal.SIGHUP)
        assert stop.number == signal.SIGHUP
        with pytest.raises(Interrupted, match="signal 1"), stop.at_once():
            pytest.fail("began although it was told to stop")
        os.kill(os.getpid(), signal.SIGTERM)  # said before
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    stop = StopSignals()
    with stop.installed(), pytest.raises(Interrupted, match="signal 15"), stop.at_once():
        os.kill(os.getpid(), signal.SIGTERM)
    stop = StopSignals(together=True)
    with stop.installed(), stop.at_once():
        os.kill(os.getpid(), signal.SIGTERM)
    assert stop.number == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_the_end_of_a_child_is_noticed_between_steps() -> None:
    noticed: list[bool] = []
    before = signal.signal(signal.SIGCHLD, lambda number, frame: noticed.append(busy))
    try:
        busy = True
        with children_checked_after():
            subprocess.run([sys.executable, "-c", ""], check=True)
            assert noticed == []
            busy = False
        assert noticed == [False]
        with children_checked_after():
            pass
        assert noticed == [False]
    finally:
        signal.signal(signal.SIGCHLD, before)


@pytest.mark.parametrize("place", ["step", "validation"])
def test_an_interrupted_run_goes_on_to_the_same_weights_and_log(
    shapes: Path, tmp_path: Path, encoder: TorchTextEncoder, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the midst of step 3, long before the next validation; and in the validation after step 2."""
    whole = _trainer(shapes, tmp_path / "whole", encoder)
    whole.run(lambda step: None, lambda step, scores: None)
    broken, stop = _trainer(shapes, tmp_path / "broken", encoder), StopSignals()
    validate = broken.validate

    def interrupted_validation() -> dict[str, float]:
        if place == "validation":
            os.kill(os.getpid(), signal.SIGTERM)
        return validate()

    def on_step(progress: object) -> None:
        if place == "step" and broken.step == 3:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(broken, "validate", interrupted_validation)
    with stop.installed(), pytest.raises(Interrupted):
        broken.run(on_step, lambda step, scores: None, stop)
    resumed = _trainer(shapes, tmp_path / "broken", encoder)
    resumed.resume()
    assert resumed.step == (3 if place == "step" else 2)
    resumed.run(lambda step: None, lambda step, scores: None)
    for one, other in zip(whole.averaged.state_dict().values(), resumed.averaged.state_dict().values(), strict=True):
        assert torch.equal(one, other)
    assert _entries(tmp_path / "broken") == _entries(tmp_path / "whole") == [(1, False), (2, True), (4, True)]


def test_a_run_ends_early_on_the_schedule_of_the_whole(shapes: Path, tmp_path: Path, encoder: TorchTextEncoder) -> None:
    whole, early = (_trainer(shapes, tmp_path / name, encoder) for name in ("whole", "early"))
    whole.run(lambda step: None, lambda step, scores: None)
    early.run(lambda step: None, lambda step, scores: None, until=3)
    assert torch.load(tmp_path / "early/model.pt")["provenance"]["validated_at_step"] == 3
    resumed = _trainer(shapes, tmp_path / "early", encoder)
    resumed.resume()
    assert resumed.step == 3
    resumed.run(lambda step: None, lambda step, scores: None)
    for one, other in zip(whole.averaged.state_dict().values(), resumed.averaged.state_dict().values(), strict=True):
        assert torch.equal(one, other)


def test_a_state_is_written_between_validations(
    shapes: Path, tmp_path: Path, encoder: TorchTextEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer_module, "FIRST_SAVE_SECONDS", 0.0)
    trainer = _trainer(shapes, tmp_path, encoder, replace(OPTIONS, steps=3, validate_every=3))
    states = []

    def on_step(progress: object) -> None:
        states.append(torch.load(tmp_path / STATE)["step"] if (tmp_path / STATE).exists() else None)

    trainer.run(on_step, lambda step, scores: None)
    assert states == [None, 1, 1]  # at once, and then not before five minutes are over
    assert torch.load(tmp_path / "model.pt")["provenance"]["validated_at_step"] == 3


@contextmanager
def _command(data: Path, output: Path, *more: str) -> Iterator[subprocess.Popen[str]]:
    """`ovs-train` in a group of its own, once it has trained for a step."""
    code = "from ovs_edge.training.cli import main; main()"
    arguments = [
        "--data", str(data), "-o", str(output), "--batch", "2", "--crop", "64", "--view", "64", "--threads", "1",
        "--no-pretrained", "--steps", "100000", "--validate-every", "100000", *more,
    ]  # fmt: skip
    with subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            deadline = time.monotonic() + 200
            while not (output / LOG).exists():
                assert process.poll() is None, process.communicate()[1]
                assert time.monotonic() < deadline
                time.sleep(0.05)
            yield process
        finally:
            process.kill()


@pytest.mark.slow
@pytest.mark.parametrize("number", [pytest.param(signal.SIGHUP, marks=pytest.mark.nightly), signal.SIGTERM])
def test_a_command_told_to_stop_saves_first(shapes: Path, tmp_path: Path, number: signal.Signals) -> None:
    """The signal meets the whole group, as from a terminal or a service manager, the process that reads photos too."""
    with _command(shapes, tmp_path / "run", "--workers", "1") as process:
        os.killpg(process.pid, number)
        errors = process.communicate(timeout=120)[1]
    assert process.returncode == 128 + number, errors
    assert "Traceback" not in errors
    assert "--resume" in errors.rstrip().splitlines()[-1], errors
    state = torch.load(tmp_path / "run" / STATE)
    assert state["step"] > 0
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [LOG, "model.pt", "run.json", STATE]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell a process of the end of its parent")
def test_a_process_that_reads_photos_ends_with_a_main_process_that_is_killed() -> None:
    code = (
        "import multiprocessing, time\n"
        "from ovs_edge.training.interrupts import begin_reading\n"
        "def read(ready):\n"
        "    begin_reading(0)\n"
        "    ready.set()\n"
        "    time.sleep(60)\n"
        "context = multiprocessing.get_context('fork')\n"
        "ready = context.Event()\n"
        "reader = context.Process(target=read, args=(ready,))\n"
        "reader.start()\n"
        "ready.wait()\n"
        "print(reader.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as main:
        assert main.stdout is not None
        reader = int(main.stdout.readline())
        main.kill()
    end = time.monotonic() + 10
    while time.monotonic() < end and _runs(reader):
        time.sleep(0.05)
    assert not _runs(reader)


def _runs(process: int) -> bool:
    """Whether a process is there and no zombie, which it stays where nothing reaps it."""
    try:
        status = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return False
    return status.rsplit(")", 1)[1].split()[0] not in {"Z", "X"}
