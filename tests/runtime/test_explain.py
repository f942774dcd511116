"""Answers in words: what a name is read as, why nothing was found, what is at a pixel, which names there are."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from ovs_edge.bundle.bundle import Bundle
from ovs_edge.bundle.errors import UsageError
from ovs_edge.runtime.capture.demo import photo_folder
from ovs_edge.runtime.cli import main
from ovs_edge.runtime.inference import explain
from ovs_edge.runtime.inference.explain import best_candidate, nothing_found, why
from ovs_edge.runtime.inference.inspector import Inspector
from ovs_edge.runtime.opencv import cv2
from ovs_edge.runtime.options import parse_point
from ovs_edge.runtime.segmenter import Segmenter


def _run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object
) -> tuple[int, str, str]:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.setattr(sys, "argv", ["ovs-run", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    out, error = capsys.readouterr()
    return int(ended.value.code or 0), out, error


def test_names_are_told_apart_in_words(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """On the embedded model: a misspelling, a word it cannot read, a cup that is there, and what is in the cup."""
    photo = photo_folder() / "coffee.png"
    code, out, error = _run(
        monkeypatch, capsys, "--source", photo, "--classes", "persn,🐱,cup", "--json", "-", "--why", "300,200"
    )
    assert code == 0
    line = json.loads(out)
    assert [found["class"] for found in line["classes"]] == ["cup"]
    assert [(found["class"], found["suggestion"], found["readable"]) for found in line["unknown"]] == [
        ("persn", "person", True), ("🐱", None, False),
    ]  # fmt: skip
    assert "note: persn: not a trained name; did you mean person?\n" in error
    assert "note: 🐱: the text encoder cannot read it" in error
    assert "at 300,200: cup" in error and "(not asked for)" in error


def test_where_nothing_is_found(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, error = _run(
        monkeypatch, capsys, "--source", photo_folder() / "coffee.png", "--classes", "zebra", "--json", "/dev/null"
    )
    assert code == 0 and error.count("\n") == 1
    assert error.startswith("note: nothing was found") and "--sensitivity high" in error


def test_the_best_candidate(tiny_bundle: Path) -> None:
    red = np.full((48, 64, 3), (0, 0, 255), np.uint8)
    with Segmenter.load(tiny_bundle, threads=1) as segmenter:
        segmenter.set_classes("red,green")
        found = best_candidate(segmenter, red)
        assert found is not None and found.label == "red" and found.score > 0.9 and found.rival is None
        assert "best candidate: red" in nothing_found(segmenter, red)
        lines = list(why(segmenter, red, segmenter.predict(red), (3, 4)))
        assert lines[0] == "at 3,4: red, 100.0% of the picture" and "red" in lines[1] and "not asked" not in lines[1]
        with pytest.raises(UsageError, match="outside"):
            list(why(segmenter, red, segmenter.predict(red), (64, 4)))


def test_the_best_candidate_competes_with_the_background() -> None:
    """A class alone would always have a probability of 1."""
    coffee = cv2.imread(str(photo_folder() / "coffee.png"))
    with Segmenter.load(threads=1, precision="fp32") as segmenter:
        segmenter.set_classes("zebra")
        found = best_candidate(segmenter, coffee)
        assert found is not None and found.label == "zebra" and found.score < 0.05 and found.rival is not None
        assert "no class is likely anywhere (best candidate: zebra 0.0" in nothing_found(segmenter, coffee)
        segmenter.set_classes("zebra,cup:0.999")  # the cup wins its pixels, below its own threshold
        found = best_candidate(segmenter, coffee)
        assert found is not None and found.label == "cup" and found.score > 0.9 and found.rival is None
        assert "below its threshold of 0.999; try cup:0." in nothing_found(segmenter, coffee)
        segmenter.set_classes("spon")
        assert "; try the name 'spoon' or --sensitivity high (now: normal) or other" in nothing_found(segmenter, coffee)
        segmenter.set_classes("🐱")
        assert best_candidate(segmenter, coffee) is None
        assert nothing_found(segmenter, coffee).startswith("nothing was found; try other names")


@pytest.mark.parametrize(("sensitivity", "advised"), [("low", 0.16), ("normal", 0.36)])
def test_the_advised_threshold_is_below_the_candidate(
    sensitivity: str, advised: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a low sensitivity, too, which raises the threshold that is given."""
    monkeypatch.setattr(explain, "best_candidate", lambda *_: explain.LikeliestClass("cup", 0.41))
    with Segmenter.load(threads=1, threshold=0.5, sensitivity=sensitivity) as segmenter:
        segmenter.set_classes("cup")
        assert nothing_found(segmenter, np.zeros((8, 8, 3), np.uint8)).endswith(f"; try --threshold {advised:.2f}")
        segmenter.threshold = advised
        assert 0.3 < segmenter.effective_threshold < 0.41


def test_probabilities_of_candidates(tiny_bundle: Path) -> None:
    """On a picture of one colour: as by the chain rule that --why uses."""
    grey = np.full((48, 64, 3), 90, np.uint8)
    with Segmenter.load(tiny_bundle, threads=1) as segmenter:
        names = [entry[0] for entry in Bundle.open(tiny_bundle).manifest.training_vocabulary]
        compared = 0
        for name in names:
            segmenter.set_classes(name)
            found = best_candidate(segmenter, grey)
            assert found is not None
            inspector = Inspector(segmenter)
            guesses = inspector.ask(grey, segmenter.predict(grey), 3, 4).result().guesses
            inspector.close()
            for guess in guesses:
                if guess.label == name:
                    assert found.score == pytest.approx(guess.score, abs=1e-4)
                    compared += 1
        assert compared >= 2


def test_list_names(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, error = _run(monkeypatch, capsys, "--model", tiny_bundle, "--list-names")
    assert (code, error) == (0, "")
    entries = Bundle.open(tiny_bundle).manifest.training_vocabulary
    assert out.splitlines() == ["|".join(entry) for entry in entries]
    (tmp_path / "names.txt").write_text(out, encoding="utf-8")  # and it is a class list
    with Segmenter.load(tiny_bundle, background="none", threads=1) as segmenter:
        active = segmenter.set_classes(f"@{tmp_path / 'names.txt'}")
        assert active.labels == tuple(entry[0] for entry in entries) and active.readings == ()


@pytest.mark.parametrize("text", ["3", "a,b", "1,2,3", "-1,2", ""])
def test_a_point_that_is_none(text: str) -> None:
    with pytest.raises(UsageError, match="320,200"):
        parse_point(text)


def test_why_is_for_one_photo(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(cv2.imencode(".png", np.zeros((48, 64, 3), np.uint8))[1].tobytes())
    options = ("--model", tiny_bundle, "--source", tmp_path, "--classes", "red", "--json", "-", "--why", "1,2")
    code, out, error = _run(monkeypatch, capsys, *options)
    assert (code, out) == (2, "") and "--why is for one photo" in error
