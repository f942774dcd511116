"""Classes that change while frames go on, from any side, as fast as anyone can ask."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from support.endless import PLAIN, Memory, going_on, halves

from ovs_edge.bundle.errors import UsageError
from ovs_edge.runtime.inference.inspector import Inspector
from ovs_edge.runtime.interaction import Interaction
from ovs_edge.runtime.segmenter import Segmenter
from ovs_edge.runtime.threads.newest_task import NewestTaskWorker, Superseded
from ovs_edge.runtime.vocabulary.live import LiveVocabulary, VocabularyState, read_presets


@pytest.fixture
def segmenter(tiny_bundle: Path) -> Iterator[Segmenter]:
    with Segmenter.load(tiny_bundle) as loaded:
        loaded.set_classes("red")
        yield loaded


class Gate:
    """Holds the encoder until opened, and counts what was encoded."""

    def __init__(self, segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch) -> None:
        self.open, self.entered = threading.Event(), threading.Event()
        self.asked: list[object] = []
        encode = segmenter._encoder.encode

        def held(names: Sequence[str], progress: object = None) -> np.ndarray:
            self.asked.append(tuple(names))
            self.entered.set()
            assert self.open.wait(20)
            return encode(names)

        monkeypatch.setattr(segmenter._encoder, "encode", held)


def test_frames_keep_the_old_names_until_the_new_are_ready(
    segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    interaction = Interaction.of(segmenter, PLAIN)
    gate, memory = Gate(segmenter, monkeypatch), Memory()
    with going_on(segmenter, interaction, [memory], halves()):
        future = interaction.vocabulary.request("lawn")
        assert gate.entered.wait(20)
        assert interaction.vocabulary.state.pending
        memory.more(20)  # while the encoder is at work
        old, after = {version for _, version in memory.seen}, len(memory.seen)
        gate.open.set()
        asked = future.result(20)
        memory.more(10)
        versions = [version for _, version in memory.seen]
    interaction.close()
    assert old == {asked.version - 1} and versions[-1] == asked.version
    assert versions == sorted(versions)  # one switch, between two frames
    assert versions[: after - 1] == [asked.version - 1] * (after - 1)
    assert [index for index, _ in memory.seen] == list(range(len(memory.seen)))
    assert not interaction.vocabulary.state.pending


def test_a_thousand_changes_cost_two(segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(segmenter, monkeypatch)
    states: list[VocabularyState] = []
    vocabulary = LiveVocabulary(segmenter, on_change=states.append)
    first = vocabulary.request("wall")
    assert gate.entered.wait(20)
    futures = [vocabulary.request(f"azure|name {number}") for number in range(1000)]
    gate.open.set()
    assert futures[-1].result(20).labels == ("azure",)
    assert first.result(20).labels == ("wall",)
    assert all(isinstance(future.exception(20), Superseded) for future in futures[:-1])
    # Of each change that was made, its names are encoded, and its label to tell what it was read as.
    assert {names[-1] for names in gate.asked if names[0] in ("wall", "azure")} == {"wall", "name 999", "azure"}
    vocabulary.close()
    assert states[-1].pending is False and states[-1].error is None and len(states) == 1001


def test_an_error_reaches_its_asker_and_the_classes_stay(segmenter: Segmenter) -> None:
    vocabulary = LiveVocabulary(segmenter, presets=("green", "blue,red"))
    before = vocabulary.state
    with pytest.raises(UsageError, match="empty"):
        vocabulary.request(" , ").result(20)
    after = vocabulary.state
    assert (after.classes, after.version) == (before.classes, before.version)
    assert after.error is not None and "empty" in after.error
    second = vocabulary.preset(2)
    assert second is not None and second.result(20).labels == ("blue", "red")
    assert vocabulary.state.error is None
    assert vocabulary.preset(3) is None and vocabulary.preset(0) is None
    vocabulary.close()
    with pytest.raises(Superseded):
        vocabulary.request("red").result(20)


def test_a_watched_file(segmenter: Segmenter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ovs_edge.runtime.vocabulary.live._POLL", 0.01)
    changed = threading.Condition()
    states: list[VocabularyState] = []

    def tell(state: VocabularyState) -> None:
        with changed:
            states.append(state)
            changed.notify_all()

    def until(label: str, error: str = "") -> None:
        def so() -> bool:
            state = states[-1] if states else vocabulary.state
            return state.classes[0].label == label and (state.error or "").startswith(error)

        with changed:
            assert changed.wait_for(so, 20), states[-1:]

    file = tmp_path / "classes.txt"
    vocabulary = LiveVocabulary(segmenter, on_change=tell)
    refused: list[str] = []
    with pytest.raises(UsageError, match="cannot read"):
        vocabulary.watch(file)
    file.write_text("green\n# no class\nblue\n")
    vocabulary.watch(file, refused.append)
    until("green")
    file.unlink()  # as an editor that saves by renaming
    (tmp_path / "new").write_text("yellow\n")
    (tmp_path / "new").rename(file)
    until("yellow")
    file.write_text("\n")
    until("yellow", "the list of classes is empty")
    file.write_text("cyan\n")
    until("cyan")
    vocabulary.close()
    assert len(refused) == 1 and "the list of classes is empty" in refused[0]


def test_presets(tmp_path: Path) -> None:
    file = tmp_path / "presets.txt"
    file.write_text("# indoors\ncup,chair\n\n  sky,tree \n")
    assert read_presets(["person", f"@{file}"]) == ("person", "cup,chair", "sky,tree")
    with pytest.raises(UsageError, match="10 presets"):
        read_presets(["red"] * 10)
    for bad in ("@", f"@{tmp_path}", "@no-such-file", "@\0"):
        with pytest.raises(UsageError, match="list"):
            read_presets([bad])


def test_a_worker_survives_what_its_work_raises() -> None:
    def work(number: int) -> int:
        if number < 0:
            raise SystemExit("no")
        return 2 * number

    def prepare() -> None:
        raise OSError

    worker = NewestTaskWorker("test", work, prepare)
    with pytest.raises(SystemExit):
        worker.submit(-1).result(20)
    assert worker.submit(2).result(20) == 4
    cancelled = worker.submit(3)
    cancelled.cancel()
    assert worker.submit(4).result(20) == 8
    worker.close()
    worker.close()


def test_runner_ups_follow_the_softmax(segmenter: Segmenter) -> None:
    """The graph is a softmax over cosines of known colours, so every share is known."""
    segmenter.set_classes("yellow,green,magenta")
    image = np.full((48, 64, 3), (0, 200, 100), np.uint8)  # a green with some red
    prediction = segmenter.predict(image)
    inspector = Inspector(segmenter)
    info = inspector.ask(image, prediction, 30, 20).result(20)
    names = {guess.label: guess.score for guess in info.guesses}
    asked = segmenter.candidates()
    unit = asked.vocabulary.vectors / np.maximum(np.linalg.norm(asked.vocabulary.vectors, axis=2, keepdims=True), 1e-6)
    logits = 20 * (unit @ (image[0, 0] / np.linalg.norm(image[0, 0])))
    logits[~asked.vocabulary.vectors.any(axis=2)] = -np.inf
    shares = np.exp(logits.max(axis=1)) / np.exp(logits.max(axis=1)).sum()
    assert info.label == "yellow" and info.share == 1 and info.box == (0, 0, 64, 48)
    assert names["yellow"] == pytest.approx(shares[0], abs=1e-3)
    assert names["green"] == pytest.approx(shares[1], abs=1e-3)
    assert [guess.score for guess in info.guesses] == sorted(names.values(), reverse=True)
    segmenter.set_classes("red")
    with pytest.raises(UsageError, match="have changed"):
        inspector.ask(image, prediction, 0, 0).result(20)
    with pytest.raises(UsageError, match="outside"):
        inspector.ask(image, segmenter.predict(image), 64, 0).result(20)
    nothing = inspector.ask(image, segmenter.predict(np.full_like(image, 255)), 5, 5).result(20)
    # What nobody asked for has a name among all that the model knows.
    best = nothing.guesses[0]
    assert nothing.label is None and 0 < nothing.share < 0.1
    assert best.label in {names[0] for names in segmenter.manifest.training_vocabulary} and not best.active
    inspector.close()
