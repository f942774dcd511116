"""Several processes train as one: same losses, shared metrics, and none is left behind when another dies."""

from __future__ import annotations

import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import torch
from support.photos import write_index_masks
from torch import nn

from ovs_edge.bundle.errors import UsageError
from ovs_edge.training.distributed import Ranks, SharedBatchNorm2d, process_group, share_batch_norms, shared_count
from ovs_edge.training.reporting.log import LOG
from ovs_edge.training.trainer import STATE

SEVERAL = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_index_masks(tmp_path_factory.mktemp("data") / "shapes", photos=8)


def _environment() -> dict[str, str]:
    # torchrun's own hint about threads is noise here; it asks for exactly this.
    return {**os.environ, "OMP_NUM_THREADS": "1"}


# Run by every process: a short training with all terms of the loss, and a norm whose statistics are shared.
_SCRIPT = """
    import json
    import sys
    from dataclasses import asdict
    from pathlib import Path

    import numpy as np
    import torch
    from torch import nn

    from ovs_edge.segmenter.config import mini
    from ovs_edge.segmenter.model import SegmenterModel
    from ovs_edge.segmenter.text.encoder import load_text_encoder
    from ovs_edge.data.datasets import open_dataset
    from ovs_edge.training.distributed import Ranks, process_group, share_batch_norms, shared_count, summed
    from ovs_edge.training.losses.losses import LossOptions
    from ovs_edge.training.pretrained import load_pretrained
    from ovs_edge.training.distillation.region_cache import RegionVectors
    from ovs_edge.training.options import TrainOptions
    from ovs_edge.training.trainer import Trainer, TrainerContext


    def train(data, folder, ranks):
        torch.manual_seed(0)
        model = SegmenterModel(mini())
        # Maps of a backbone with random weights hardly differ from pixel to pixel: norms would enlarge rounding errors.
        load_pretrained(model)
        dataset = open_dataset(data, "train")
        # The third class is unknown to the teacher.
        keys = np.concatenate([photo * 256 + np.arange(2) for photo in range(len(dataset))])
        vectors = np.random.default_rng(0).normal(size=(len(keys), 384))
        vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)
        options = TrainOptions(
            steps=3, batch=4, crop=64, view=64, warmup=1, validate_every=3, workers=0, names="draw", lr=1e-4
        )
        losses = LossOptions(drawn=1, region=1, pairs=1, region_dropout=0.2, points=128)
        steps = []
        Trainer(
            model, load_text_encoder(mini().text), [(dataset, 1.0)], [open_dataset(data, "val")], folder, options,
            losses, TrainerContext(regions=RegionVectors(keys, vectors, "made up"), ranks=ranks),
        ).run(lambda progress: steps.append(asdict(progress)), lambda step, scores: None)
        (folder / f"steps{ranks.rank}.json").write_text(json.dumps(steps))


    def normalise(folder, ranks):
        module = nn.Sequential(nn.BatchNorm2d(3))
        share_batch_norms(module)
        part = torch.load(folder / "whole.pt").chunk(2)[ranks.rank].clone().requires_grad_()
        output = module(part)
        (output**3).sum().backward()
        result = {
            "output": output.detach(), "gradient": part.grad, "mean": module[0].running_mean,
            "var": module[0].running_var, "weight": summed(module[0].weight.grad),
            "count": shared_count(torch.tensor(ranks.rank)),
        }
        torch.save(result, folder / f"{ranks.rank}.pt")


    torch.set_num_threads(1)
    ranks, data, folder = Ranks.from_environment(), Path(sys.argv[1]), Path(sys.argv[2])
    with process_group(ranks, cuda=False):
        train(data, folder, ranks)
        if ranks.world > 1:
            normalise(folder, ranks)
"""


@pytest.fixture(scope="module")
def runs(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Folders of the same run by one process and by two."""
    folder = tmp_path_factory.mktemp("runs")
    script, one, two = folder / "script.py", folder / "one", folder / "two"
    script.write_text(textwrap.dedent(_SCRIPT))
    two.mkdir()
    torch.manual_seed(0)
    torch.save(torch.randn(4, 3, 5, 6) * 3 + 1, two / "whole.pt")
    port = _free_port()
    processes = []
    for rank in range(2):  # what torchrun would set, without its own process
        ranks = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        environment = _environment() | {name: str(value) for name, value in ranks.items()}
        command = [sys.executable, str(script), str(shapes), str(two)]
        processes.append(subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment))
    threads = torch.get_num_threads()
    try:
        with pytest.MonkeyPatch.context() as patch:  # meanwhile the same in this process
            patch.setattr(sys, "argv", [str(script), str(shapes), str(one)])
            runpy.run_path(str(script))
    finally:
        torch.set_num_threads(threads)
        ends = [(process.communicate(timeout=500)[1], process.returncode) for process in processes]
    assert [code for _, code in ends] == [0, 0], ends
    return one, two


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.mark.slow
def test_two_processes_reach_the_losses_of_one(runs: tuple[Path, Path]) -> None:
    """With the same photos a step. The first step differs by the order of sums alone: 1e-5 of each term. Later ones by
    what AdamW makes of it, which takes the sign of a gradient where it is nearly zero: 1e-3."""
    one, two = runs
    alone, first, second = (
        json.loads(path.read_text()) for path in (one / "steps0.json", two / "steps0.json", two / "steps1.json")
    )
    assert len(alone) == 3
    for step, (entry, other, told) in enumerate(zip(alone, first, second, strict=True)):
        for name in set(entry) - {"seconds"}:
            assert other[name] == told[name], name  # both speak of the whole batch
            assert other[name] == pytest.approx(entry[name], rel=1e-3 if step else 1e-5, abs=1e-6), (step, name)
    for name in ("region", "pairs", "drawn"):
        assert any(entry[name] > 0 for entry in alone), name
    state, other_state = torch.load(one / STATE), torch.load(two / STATE)
    for name, value in state["objective"].items():
        assert torch.allclose(value.float(), other_state["objective"][name].float(), atol=7e-4), name
    scores = [json.loads((run / LOG).read_text().splitlines()[-1])["validation"] for run in runs]
    assert scores[1] == pytest.approx(scores[0], abs=0.01)


def test_shared_statistics_are_those_of_the_whole_batch(runs: tuple[Path, Path]) -> None:
    folder = runs[1]
    whole = torch.load(folder / "whole.pt")
    parts = [torch.load(folder / f"{rank}.pt") for rank in range(2)]
    module = nn.BatchNorm2d(3)
    image = whole.clone().requires_grad_()
    output = module(image)
    (output**3).sum().backward()
    assert image.grad is not None
    assert module.weight.grad is not None
    assert torch.allclose(torch.cat([part["output"] for part in parts]), output, atol=1e-5)
    assert torch.allclose(torch.cat([part["gradient"] for part in parts]), image.grad, atol=1e-4)
    assert torch.allclose(parts[0]["weight"], module.weight.grad, rtol=1e-4)
    for part in parts:
        assert torch.allclose(part["mean"], module.running_mean, atol=1e-6)
        assert torch.allclose(part["var"], module.running_var, atol=1e-5)
        assert float(part["count"]) == 0.5  # one item in all, over two processes


@pytest.mark.slow
def test_a_killed_process_stops_all_with_one_message(shapes: Path, tmp_path: Path) -> None:
    command = [
        *SEVERAL, "-m", "ovs_edge.training.cli", "--data", str(shapes), "-o", str(tmp_path / "run"), "--batch", "2",
        "--crop", "64", "--view", "64", "--threads", "1", "--workers", "0", "--steps", "100000",
        "--validate-every", "100000", "--no-pretrained",
    ]  # fmt: skip
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=_environment()) as process:
        try:
            deadline = time.monotonic() + 120
            while not (tmp_path / "run" / LOG).exists():  # written after the first step
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.1)
            workers = _children(process.pid)
            assert len(workers) == 2
            os.kill(workers[1], signal.SIGKILL)
            _, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode != 0
    own = [line for line in errors.splitlines() if line.startswith("error:")]
    assert len(own) == 1, errors
    assert "--resume" in own[0]
    assert not any(Path(f"/proc/{worker}").exists() for worker in workers)


def _children(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task/{pid}/children")
    if not listed.exists():
        pytest.skip("this system does not list a process's children under /proc")
    return sorted(map(int, listed.read_text().split()))


def test_alone_nothing_changes() -> None:
    plain = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Sequential(nn.BatchNorm2d(4)))
    keys = list(plain.state_dict())
    image = torch.randn(2, 3, 4, 4)
    wanted = plain(image)
    share_batch_norms(plain)
    assert isinstance(plain[1][0], SharedBatchNorm2d)  # type: ignore[index]
    assert list(plain.state_dict()) == keys
    assert torch.equal(plain(image), wanted)
    assert int(shared_count(torch.tensor(0))) == 1
    with process_group(Ranks(), cuda=False):
        assert not torch.distributed.is_initialized()


@pytest.mark.parametrize(("rank", "world", "words"), [("2", "2", "RANK is 2"), ("first", "2", "must be numbers")])
def test_environments_that_torchrun_does_not_make(
    rank: str, world: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("WORLD_SIZE", world)
    with pytest.raises(UsageError, match=words):
        Ranks.from_environment()
