"""`ovs-bench speed`: its rows, its turns, its peers, and how it compares."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from ovs_edge.benchmarks.cli import main
from ovs_edge.benchmarks.machine.conditions import ConditionMonitor, sample_warnings
from ovs_edge.benchmarks.machine.power import Reader, energy_per_frame
from ovs_edge.benchmarks.report.report import tables
from ovs_edge.benchmarks.speed import backends, speed
from ovs_edge.benchmarks.speed.backends import open_backend
from ovs_edge.benchmarks.speed.peer import CommandPeer, OnnxPeer
from ovs_edge.benchmarks.speed.runners import Picture, Subject, load_pictures
from ovs_edge.benchmarks.speed.speed import interleaved, live_model
from ovs_edge.bundle.bundle import Bundle
from ovs_edge.bundle.errors import SourceError, UsageError
from ovs_edge.models import default_bundle
from ovs_edge.runtime.engines.engine import EngineOptions

ECHO = """import sys
for line in sys.stdin:
    assert open(line.strip(), "rb").read(2) == bytes([0xFF, 0xD8])
    print('{}', flush=True)"""


def _bench(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["ovs-bench", *map(str, arguments)])
    with pytest.raises(SystemExit) as exit:
        main()
    return int(exit.value.code or 0)


@pytest.fixture(scope="module")
def peer_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Mean of a picture (1, 3, H, W) of free size, plus a number that another input gives."""
    nodes = [
        helper.make_node("ReduceMean", ["pixels"], ["mean"], keepdims=0),
        helper.make_node("Cast", ["count"], ["number"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["mean", "number"], ["sum"]),
    ]
    inputs = [
        helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["N", 3, "H", "W"]),
        helper.make_tensor_value_info("count", TensorProto.INT64, ["M"]),
    ]
    outputs = [helper.make_tensor_value_info("sum", TensorProto.FLOAT, ["M"])]
    graph = helper.make_graph(nodes, "peer", inputs, outputs)
    path = tmp_path_factory.mktemp("peer") / "peer.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


@pytest.fixture(scope="module")
def result(tiny_bundle: Path, peer_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One run of the command, with two numbers of classes and both kinds of peer."""
    program = tmp_path_factory.mktemp("program") / "echo.py"
    program.write_text(ECHO.format('{"infer": 1.5, "words": 3}'))
    output = tmp_path_factory.mktemp("results") / "speed.json"
    with pytest.MonkeyPatch.context() as patch:
        options = ("--model", tiny_bundle, "--classes", "2,20", "--runs", 16, "--threads", 1, "--peer", peer_model)
        command = f"{sys.executable} {program}"
        assert _bench(patch, "speed", *options, "--peer-command", command, "-o", output) == 0
    return output


def test_rows_hold_every_stage(result: Path, tiny_bundle: Path) -> None:
    document = json.loads(result.read_text())
    two, twenty, peer, program = document["speed"]["rows"]
    assert [row["subject"]["classes"] for row in (two, twenty)] == [2, 20]
    assert list(two["stages"]) == ["decode", "preprocess", "infer", "postprocess", "overlay", "encode"]
    for row in (two, twenty):
        total = row["total"]
        assert 0 < total["p50"] <= total["p90"] <= total["p99"]
        assert sum(stage["p50"] for stage in row["stages"].values()) == pytest.approx(total["p50"], rel=0.5)
        assert row["frames"] == 16
        assert [len(burst) for burst in row["rounds"]["total"]] == [4] * 4
        assert row["live"]["fps"] < 31
    assert peer["subject"]["model"] == "peer.onnx"
    assert list(peer["stages"]) == ["decode", "preprocess", "infer"]
    assert program["subject"]["model"].endswith(" echo.py")
    assert program["stages"]["infer"]["p50"] == 1.5
    assert program["total"]["p50"] > 0
    (start,) = document["speed"]["starts"]
    assert start["load_ms"] < start["first_labels_ms"]
    assert 20 < start["peak_mib"] < 2000
    assert document["speed"]["conditions"]["seconds"] > 0
    assert document["command"].startswith("ovs-bench speed")


def test_the_report_shows_them(result: Path) -> None:
    text = tables(result.parent)
    assert "| tiny | fp32 | ONNX Runtime, CPU | 48x64 | 1 | 20 |" in text
    assert "| peer.onnx |  | peer, ONNX Runtime, CPU |" in text
    assert "Start-up in a new process" in text
    assert "Times the time of tiny fp32 cpu 48x64" in text


def test_comparison_with_itself(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    result, again = tmp_path / "before.json", tmp_path / "now.json"
    options = ("speed", "--model", tiny_bundle, "--threads", 1, "--runs", 40, "--no-start")
    assert _bench(monkeypatch, *options, "--classes", "2,3", "-o", result) == 0
    options = (*options, "--classes", "2,4", "--compare", result)
    capsys.readouterr()
    assert _bench(monkeypatch, *options, "--regression", 900, "-o", again) == 0
    out = capsys.readouterr().out
    assert out.count(" ms, x") == 2  # total and network of the one row in common
    assert re.search(r"^only before: tiny fp32 .* K=3, 1 threads$", out, re.MULTILINE)
    assert re.search(r"^only now: tiny fp32 .* K=4, 1 threads$", out, re.MULTILINE)
    kept = json.loads(again.read_text())["comparison"]
    assert (len(kept["changes"]), kept["allowed"], kept["warnings"]) == (2, 9.0, [])
    # An earlier result that was ten times as fast, on another machine: whatever this one does, that is slower.
    document = json.loads(result.read_text())
    document["environment"]["cores"] += 90
    for row in document["speed"]["rows"]:
        row["rounds"] = {key: [[ms / 10 for ms in burst] for burst in part] for key, part in row["rounds"].items()}
    faster = tmp_path / "faster.txt"
    faster.write_text(json.dumps(document))
    assert _bench(monkeypatch, *options[:-1], faster) == 3
    out, error = capsys.readouterr()
    last = error.strip().splitlines()[-1]
    assert "slower by more than 5%" in last
    assert "tiny fp32 cpu" in last
    assert "but another number of cores" in last
    assert "warning: another number of cores" in out


class _Counter:
    """A runner that notes when it was called, and with what."""

    bundle_digest: str | None = None

    def __init__(self, name: str, log: list[tuple[str, Path]]) -> None:
        self.subject = Subject(name, "cpu")
        self._log = log

    def frame(self, picture: Picture) -> dict[str, float]:
        self._log.append((self.subject.model, picture.path))
        return {"total": 1.0}


def test_runners_are_interleaved_with_the_same_frames(tmp_path: Path) -> None:
    log: list[tuple[str, Path]] = []
    pictures = load_pictures(None, tmp_path)
    assert len({picture.path.read_bytes() for picture in pictures}) == len(pictures)
    runners = [_Counter(name, log) for name in "abc"]
    times = interleaved(runners, pictures, 20, None, lambda step: None, ConditionMonitor())
    assert [len(part) for part in times] == [5] * 3
    assert len(times[0][0]) == 4
    timed = log[-5 * 3 * 5 :]
    bursts = [timed[index : index + 5] for index in range(0, len(timed), 5)]
    assert all(len({name for name, _ in burst}) == 1 for burst in bursts)
    orders = ["".join(burst[0][0] for burst in bursts[index : index + 3]) for index in range(0, 15, 3)]
    assert all(sorted(order) == ["a", "b", "c"] for order in orders)
    assert len(set(orders)) > 1
    seen = {name: [path for who, path in timed if who == name] for name in "abc"}
    assert seen["a"] == seen["b"] == seen["c"]
    assert len(set(seen["a"])) == 25


def test_live_model() -> None:
    fast, slow = live_model([10.0] * 50), live_model([100.0] * 50)
    assert (fast.fps, fast.age_ms) == (pytest.approx(30, rel=0.02), pytest.approx(10))
    # Three frame times pass meanwhile: the newest is nearly always fresh, and none waits.
    assert slow.fps == pytest.approx(10, rel=0.05)
    assert 100 <= slow.age_ms < 134


def test_energy_is_power_times_time() -> None:
    assert energy_per_frame(lambda: None, None, 0.01) is None
    frames: list[int] = []
    energy = energy_per_frame(lambda: frames.append(1), Reader("a meter", lambda: 10.0), 0.05, settle=0)
    assert energy is not None
    assert energy[1] == "a meter"
    assert energy[0] * len(frames) == pytest.approx(0.5, rel=0.2)


def test_energy_knows_nothing_of_what_ran_before() -> None:
    """A meter that says 100 W of the workload before for half a second, and 10 W from then on."""
    begun: list[float] = []

    def run() -> None:
        begun.append(time.perf_counter())
        time.sleep(0.005)

    reader = Reader("a meter", lambda: 100.0 if not begun or begun[-1] < begun[0] + 0.5 else 10.0)
    energy = energy_per_frame(run, reader, 0.3)
    assert energy is not None
    assert begun[-1] - begun[0] > 1.7
    assert energy[0] == pytest.approx(10 * 0.0055, rel=0.3)


@pytest.mark.parametrize(
    ("rounds", "words"),
    [
        ([[10, 10], [10, 10], [11, 11], [11, 11]], ["halves"]),
        ([[10, 10, 10, 20], [10, 10, 10, 20]], ["spread"]),
        ([[10, 10.1], [10.1, 10]], []),
    ],
)
def test_doubtful_samples(rounds: Sequence[Sequence[float]], words: list[str]) -> None:
    found = sample_warnings(rounds)
    assert len(found) == len(words)
    assert all(word in line for word, line in zip(words, found, strict=True))


@pytest.mark.parametrize("backend", ["cpu", "cuda", "tensorrt"])
def test_rows_run_the_session_of_ovs_run(backend: str, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row of a provider of `ovs-run` opens the session that `ovs-run --provider` opens, and no other class."""
    opened: list[EngineOptions | None] = []
    session = object()

    def recorded(bundle: Bundle, options: EngineOptions | None = None) -> object:
        opened.append(options)
        return session

    monkeypatch.setattr(backends, "open_session", recorded)
    assert open_backend(Bundle.open(tiny_bundle), "fp32", backend, 3) is session
    (options,) = opened
    assert options is not None
    assert (options.precision, options.provider, options.threads) == ("fp32", backend, 3)


def test_eager_torch_is_the_same_design() -> None:
    bundle = Bundle.open(default_bundle())
    height, width = bundle.manifest.input_size
    vectors = np.ones((2, 1, bundle.manifest.text.dim), np.float32)
    with open_backend(bundle, "fp32", "torch", 1) as session:
        labels, confidence = session.run(np.zeros((1, height, width, 3), np.uint8), vectors)
    assert labels.shape == confidence.shape == (1, height, width)
    assert labels.max() < 2


def test_onnx_peers_run_where_the_bundles_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "available_backends", lambda: ("cpu", "cuda", "tensorrt", "torch"))
    assert speed._beside(["cpu", "torch"]) == speed._beside([]) == ["cpu"]
    assert speed._beside(["tensorrt", "cuda"]) == ["cuda"]
    assert speed._beside(["cpu", "cuda", "torch"]) == ["cpu", "cuda"]
    monkeypatch.setattr(speed, "available_backends", lambda: ("cpu", "ort-tensorrt"))
    assert speed._beside(["ort-tensorrt"]) == ["cpu"]


def test_onnx_peer_is_fed_as_it_asks(peer_model: Path, tmp_path: Path) -> None:
    peer = OnnxPeer(peer_model, 1, (64, 96))
    assert peer.subject.input_size == (64, 96)
    assert peer.subject.title == "peer.onnx peer-cpu 64x96"
    picture = load_pictures(None, tmp_path)[0]
    times = peer.frame(picture)
    assert times["total"] == pytest.approx(sum(times[name] for name in ("decode", "preprocess", "infer")))
    with pytest.raises(UsageError, match="no such file"):
        OnnxPeer(tmp_path / "none.onnx", 1, (64, 64))


@pytest.mark.parametrize(
    ("program", "words"),
    [("raise SystemExit('no licence')", "no licence"), ("input(); print('ok', flush=True)", "ended with 0")],
)
def test_a_peer_that_ends_is_one_line(program: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "peer.py").write_text(program)
    peer = CommandPeer(f"{sys.executable} {tmp_path / 'peer.py'}")
    picture = load_pictures(None, tmp_path)[0]

    def two_frames() -> None:
        for _ in range(2):
            peer.frame(picture)

    with pytest.raises(SourceError, match=words):
        two_frames()
    peer.close()


def test_a_peer_that_is_not_there() -> None:
    with pytest.raises(UsageError, match="cannot start 'no-such-program-anywhere'"):
        CommandPeer("no-such-program-anywhere")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--backend", "abacus"], "no backend 'abacus'"),
        (["--classes", "many"], "expected numbers"),
        (["--precision", "int8-cpu", "--backend", "torch"], "nothing is left"),
        (["--compare", os.devnull], "not a result of ovs-bench speed"),
        (["--compare", "{result}", "--runs", "16"], "--runs is 16, expected 40 or more"),
        (["--model", "nowhere.ovs"], "no bundle at nowhere.ovs"),
    ],
)
def test_impossible_requests(
    options: list[str],
    words: str,
    tiny_bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    row = {"title": "mini", "rounds": {"total": [[1.0]]}}
    (tmp_path / "speed.json").write_text(json.dumps({"speed": {"rows": [row]}}))
    options = [option.format(result=tmp_path / "speed.json") for option in options]
    monkeypatch.setattr("ovs_edge.benchmarks.speed.speed.measure_start", lambda *_: _never())
    model = [] if "--model" in options else ["--model", str(tiny_bundle)]
    assert _bench(monkeypatch, "speed", *model, *options) == 2
    assert words in capsys.readouterr().err.strip().splitlines()[-1]


def _never() -> Any:
    raise UsageError("no process is started for an impossible request")
