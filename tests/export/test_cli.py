"""The console command, as a user runs it: a bundle that the runtime opens, and everything that can be wrong."""

from __future__ import annotations

import copy
import json
import os
import pickle
import resource
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import numpy_helper
from support import exported
from support.tiny_bundle import build

from ovs_edge.bundle.bundle import Bundle
from ovs_edge.export import bundle_writer, draft
from ovs_edge.export.cli import main
from ovs_edge.export.draft import plain
from ovs_edge.runtime.segmenter import Segmenter


class Command:
    """`ovs-export` within this process, in an empty folder, with all that reaches the terminal."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
        self.folder, self._monkeypatch, self._capfd = folder, monkeypatch, capfd
        monkeypatch.chdir(folder)

    def __call__(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        self._monkeypatch.setattr(sys, "argv", ["ovs-export", *map(str, arguments)])
        self._capfd.readouterr()
        with pytest.raises(SystemExit) as exit:
            main()
        out, error = self._capfd.readouterr()
        code = exit.value.code
        return subprocess.CompletedProcess(sys.argv, code if isinstance(code, int) else 1, out, error)

    def refuses(self, says: str, *arguments: object, code: int = 2) -> None:
        """One line on stderr, the exit code, and nothing left behind."""
        before = sorted(self.folder.rglob("*"))
        ran = self(*arguments)
        assert ran.returncode == code, ran.stderr
        assert ran.stderr.startswith("error: ") and ran.stderr.count("\n") == 1, ran.stderr
        assert says in ran.stderr
        assert sorted(self.folder.rglob("*")) == before


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    return Command(tmp_path, monkeypatch, capfd)


@pytest.mark.slow
def test_a_bundle_with_every_option(command: Command) -> None:
    ran = command(
        exported.checkpoint(),
        *("--size", "96x64", "--decoder-layers", 2, "--masks", "exact", "--msda", "gather", "--max-classes", 200),
        *("--weights", "fp16", "--text-precision", "int8", "--text-vocabulary", "ascii", "--threshold", 0.4),
        *("-o", "made/small.ovs"),
    )
    assert (ran.returncode, ran.stderr) == (0, ""), ran.stderr
    print(ran.stdout)
    assert "100.0" in ran.stdout
    assert "0 of" in ran.stdout
    bundle = Bundle.open(command.folder / "made" / "small.ovs")
    manifest = bundle.manifest
    assert manifest.name == "small"
    assert manifest.input_size == (64, 96)
    graph = manifest.graph
    assert (graph.masks, graph.msda, graph.decoder_layers, graph.max_classes) == ("exact", "gather", 2, 200)
    assert graph.outputs[0].dtype == "uint8"
    assert manifest.training_vocabulary == tuple(map(tuple, exported.VOCABULARY))
    assert manifest.provenance["checkpoint"] == {"recipe": "none", "data": "data"}
    assert manifest.parity["text"]["mean_cosine"] >= 0.99
    assert {(row["classes"], row["names"]) for row in manifest.parity["segmenter"]} >= {
        (k, s) for k in (1, 2, 37, 200) for s in (1, 4)
    }
    assert str(Path.home()) not in (bundle.path / "manifest.json").read_text()
    assert sum(file.stat().st_size for file in bundle.path.iterdir()) < 35e6
    assert manifest.provenance["text_vocabulary"] == "ascii"
    assert sorted(path.name for path in (command.folder / "made").iterdir()) == ["small.ovs"]
    with Segmenter.load(bundle.path, background="none") as segmenter:
        assert segmenter.threshold == 0.4
        image = np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8)
        for classes in ("sky,road", "cat|kitten,dog,person", "a,b,c,d,e"):
            segmenter.set_classes(classes)
            assert segmenter.predict(image).labels.shape == (50, 70)


def test_nothing_is_published_past_the_bar(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """A graph that is off by a little is caught, and the bundle that was there stays."""
    graph = copy.deepcopy(exported.mini_onnx())
    bias = next(entry for entry in graph.graph.initializer if entry.name.endswith("mask_embed.layers.2.bias"))
    bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) + np.float32(0.1), bias.name))
    monkeypatch.setattr(bundle_writer, "export_segmenter", lambda model, options: graph)
    monkeypatch.setattr(draft, "export_text", lambda encoder, precision: exported.text_onnx())
    there = build(command.folder / "there.ovs")
    command.refuses("differs from its checkpoint", exported.checkpoint(), "--size", "96x64", "-o", there, code=3)


class Marker:
    """Unpickled by a careless loader, this leaves a file behind."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return os.mkdir, (str(self._path),)


def test_a_pickle_that_runs_code(command: Command) -> None:
    marker = command.folder / "ran"
    evil = command.folder / "evil.pt"
    torch.save({"format": "ovs-edge segmenter", "model": Marker(marker), "config": {}}, evil)
    command.refuses("evil.pt", evil)
    plain = command.folder / "plain.pt"
    plain.write_bytes(pickle.dumps({"model": Marker(marker)}))
    command.refuses("plain.pt", plain)
    assert not marker.exists()


def test_broken_checkpoints(command: Command) -> None:
    command.refuses("no checkpoint", command.folder / "absent.pt")
    command.refuses("no checkpoint", command.folder)
    content = exported.checkpoint().read_bytes()
    for name, data in {
        "empty.pt": b"",
        "half.pt": content[: len(content) // 2],
        "text.pt": b"these are not weights\n" * 100,
        "noise.pt": np.random.default_rng(0).bytes(10_000),
    }.items():
        (command.folder / name).write_bytes(data)
        command.refuses(name, command.folder / name)
    with zipfile.ZipFile(command.folder / "other.zip", "w") as archive:
        archive.writestr("readme.txt", "hello")
    command.refuses("other.zip", command.folder / "other.zip")


def test_foreign_checkpoints(command: Command) -> None:
    foreign = command.folder / "foreign.pt"
    raw = torch.load(exported.checkpoint(), weights_only=True)
    some = next(iter(raw["model"]))
    config = raw["config"]
    for content, says in (
        ({"epoch": 3, "optimizer": {}}, "foreign.pt"),
        ({"weights": torch.zeros(3)}, "foreign.pt"),
        ([1, 2, 3], "foreign.pt"),
        ({**raw, "config": None}, "config"),
        ({**raw, "config": {**config, "unheard_of": 1}}, "config"),
        ({**raw, "config": {**config, "backbone": {"kind": "clip_resnet", "layers": "many"}}}, "foreign.pt"),
        ({**raw, "model": {key: value for key, value in raw["model"].items() if key != some}}, some),
        ({**raw, "model": {**raw["model"], some: torch.zeros(1)}}, some),
        ({**raw, "training_vocabulary": "sky"}, "vocabulary"),
        ({**raw, "training_vocabulary": [["sky"], []]}, "vocabulary"),
        ({**raw, "related": {"sky": 3}}, "related"),
    ):
        torch.save(content, foreign)
        command.refuses(says, foreign, "--size", "96x64")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--size", "100x100"), "multiples of 32"),
        (("--size", "big"), "WIDTHxHEIGHT"),
        (("--size", ""), "WIDTHxHEIGHT"),
        (("--decoder-layers", "0"), "1 to 3"),
        (("--decoder-layers", "4"), "1 to 3"),
        (("--max-classes", "0"), "--max-classes"),
        (("--images", "absent"), "not a folder"),
        (("--images", "."), "no photos"),
        (("-o", "/proc/nothing/here.ovs"), "cannot write"),
        (("-o", "file/below.ovs"), "cannot write"),
        (("-o", "file"), "not a bundle"),
        (("-o", "folder"), "not a bundle"),
        (("-o", "."), "not a bundle"),
    ],
)
def test_impossible_requests(command: Command, arguments: tuple[str, ...], says: str) -> None:
    (command.folder / "file").write_text("precious")
    (command.folder / "folder").mkdir()
    (command.folder / "folder" / "notes.txt").write_text("precious")
    size = () if "--size" in arguments else ("--size", "96x64")
    command.refuses(says, exported.checkpoint(), *arguments, *size)


def test_unknown_options_exit_with_2_too(command: Command) -> None:
    for arguments in (
        ("--masks", "blurry"),
        ("--msda", "cuda"),
        ("--decoder-layers", "many"),
        ("--weights", "int4"),
        (),
    ):
        ran = command(*((exported.checkpoint(),) if arguments else ()), *arguments)
        assert ran.returncode == 2
        assert "Traceback" not in ran.stderr


def test_a_disk_that_fills_up(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = copy.deepcopy(exported.mini_onnx())
    monkeypatch.setattr(bundle_writer, "export_segmenter", lambda model, options: graph)
    monkeypatch.setattr(draft, "export_text", lambda encoder, precision: exported.text_onnx())
    checkpoint = exported.checkpoint()
    limit, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000_000, most))  # less than a graph
    try:
        command.refuses("cannot write full.ovs", checkpoint, "--size", "96x64", "-o", "full.ovs")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, most))


def test_help_imports_nothing_heavy() -> None:
    code = "import sys, ovs_edge.export.cli; print(sorted({'torch', 'onnx', 'numpy', 'cv2'} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"


def test_provenance_is_plain_data(tmp_path: Path) -> None:
    found = plain({"data": ["/a/b/msrc", 3], "terms": {"x": "y"}}, str(tmp_path))
    assert json.loads(json.dumps(found)) == {"data": ["msrc", 3], "terms": {"x": "y"}}
