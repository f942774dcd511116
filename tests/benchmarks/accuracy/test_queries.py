"""`ovs-bench ask`: what is found, missed and painted falsely, on photos whose answers are known in advance."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from ovs_edge.benchmarks.accuracy.queries import Query, QuerySet, Request, Setting, measure_queries, query_score
from ovs_edge.benchmarks.accuracy.query_sheet import contact_sheet, worst
from ovs_edge.benchmarks.cli import main
from ovs_edge.benchmarks.report.report import section
from ovs_edge.data.photo_sets import open_photos
from ovs_edge.runtime.segmenter import Segmenter

CLASSES = ["red|crimson", "blue", "yellow", "cyan", "magenta", "person", "grass"]
RED, GREEN, BLUE, CYAN = (0, 0, 255), (0, 255, 0), (255, 0, 0), (255, 255, 0)
HEIGHT, WIDTH = 96, 128


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three photos: red found in part, blue missed, and a patch of cyan that the truth does not know of."""
    folder = tmp_path_factory.mktemp("data") / "colours"
    for part in ("images", "masks", "background"):
        (folder / part / "val").mkdir(parents=True)
    (folder / "classes.json").write_text(json.dumps(CLASSES))

    def write(name: str, image: np.ndarray, labels: np.ndarray, background: np.ndarray) -> None:
        cv2.imwrite(str(folder / f"images/val/{name}.png"), image)
        cv2.imwrite(str(folder / f"masks/val/{name}.png"), labels)
        one_bit = [cv2.IMWRITE_PNG_BILEVEL, 1]
        cv2.imwrite(str(folder / f"background/val/{name}.png"), background.astype(np.uint8) * 255, one_bit)

    image, labels, background = _blank()
    image[:] = RED
    labels[:, : WIDTH // 2] = 0
    background[HEIGHT // 2 :, WIDTH // 2 :] = True  # red is painted here as well; above, nobody knows
    write("a", image, labels, background)
    image, labels, background = _blank()
    image[:] = GREEN
    labels[:, : WIDTH // 2] = 1  # called blue
    labels[:2, -2:] = 5  # fewer than 2 % are a person: not asked for, and not absent
    background[:, WIDTH // 2 :] = True
    write("b", image, labels, background)
    image, labels, background = _blank()
    image[:] = BLUE
    image[:24, :32] = CYAN
    labels[24:] = 1
    background[:24] = True
    write("c", image, labels, background)
    return folder


def _blank() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    shape = (HEIGHT, WIDTH)
    return np.zeros((*shape, 3), np.uint8), np.full(shape, 255, np.uint8), np.zeros(shape, np.bool_)


def _by_name(queries: list[Query], photo: str, request: int = 1) -> dict[str, Query]:
    return {query.name: query for query in queries if query.photo == photo and len(query.request) == request}


def test_each_name_alone(photos: Path, tiny_bundle: Path) -> None:
    with Segmenter.load(tiny_bundle) as segmenter:
        results, queries = measure_queries(
            segmenter, QuerySet(open_photos(str(photos))), sensitivities=(), thresholds=(0.1, 1.0)
        )
        assert segmenter.threshold == 0.3
    a, b, c = (_by_name(queries, photo) for photo in "abc")
    assert [name for name, query in a.items() if query.present] == ["red"]
    assert a["red"].share == pytest.approx(0.5)
    assert a["red"].outcomes[-1].iou == pytest.approx(2 / 3, abs=0.02)  # the quarter that is background counts
    assert a["red"].outcomes[0].iou == a["red"].outcomes[-1].iou
    assert a["red"].outcomes[1].painted == 0
    assert b["blue"].outcomes[-1].painted == 0
    assert b["blue"].share == pytest.approx(0.5)
    assert "person" not in b
    assert len(b) == 6
    assert c["blue"].outcomes[-1].iou == pytest.approx(0.8)  # blue around the cyan patch is background
    score = results[Request.ALONE].score
    assert (score.asked, score.found, score.nothing) == (3, pytest.approx(2 / 3), pytest.approx(1 / 3))
    assert score.absent == 15
    assert score.found_without_person == score.found
    assert score.person_mean_iou is None
    painted = {
        (query.photo, query.name) for query in queries if not query.present and query.outcomes[-1].painted > 0.01
    }
    assert ("b", "grass") in painted  # grass is not labelled, and all of the photo is painted with it
    assert ("cyan" not in c) or (("c", "cyan") in painted)
    alone = {(query.photo, query.name) for query in queries if len(query.request) == 1 and not query.present}
    assert score.false_alarms == pytest.approx(len(painted & alone) / 15)
    assert [score.setting.threshold for score in results[Request.ALONE].thresholds] == [0.1, 1.0]
    assert results[Request.ALONE].thresholds[1].nothing == 1
    assert results[Request.ALONE].per_class["blue"].asked == 2
    assert results[Request.ALONE].per_class["blue"].found == 0.5


def test_lists_of_five(photos: Path, tiny_bundle: Path) -> None:
    with Segmenter.load(tiny_bundle) as segmenter:
        results, queries = measure_queries(
            segmenter, QuerySet(open_photos(str(photos))), sensitivities=(), thresholds=()
        )
    lists = {query.request for query in queries if len(query.request) > 1}
    assert {len(names) for names in lists} == {5}
    assert len(lists) == 3
    score = results[Request.LIST].score
    assert (score.asked, score.absent) == (3, 12)
    assert score.found == pytest.approx(2 / 3)


def test_absent_names_are_always_the_same(photos: Path) -> None:
    queries = QuerySet(open_photos(str(photos)))
    first = [queries.absent(index, {"red"}) for index in range(3)]
    assert first == [QuerySet(open_photos(str(photos))).absent(index, {"red"}) for index in range(3)]
    assert all(len(set(names)) == 5 and "red" not in names for names in first)
    assert QuerySet(open_photos(str(photos)), synonyms=True).names[0] == "red|crimson"


def test_every_sensitivity(photos: Path, tiny_bundle: Path) -> None:
    """Each is measured with its own background classes; the segmenter is left as it was."""
    with Segmenter.load(tiny_bundle, sensitivity="low") as segmenter:
        results, _ = measure_queries(segmenter, QuerySet(open_photos(str(photos))), thresholds=())
        assert segmenter.sensitivity == "low"
        segmenter.sensitivity = "high"
        high, _ = measure_queries(segmenter, QuerySet(open_photos(str(photos))), sensitivities=(), thresholds=())
    scores = results[Request.ALONE].sensitivities
    assert [score.setting.sensitivity for score in scores] == ["low", "normal", "high"]
    assert scores[0] == results[Request.ALONE].score
    assert scores[2] == high[Request.ALONE].score


def test_no_query_no_figure() -> None:
    score = query_score([], -1, Setting("normal", 0.3))
    assert score.found is None
    assert score.false_alarms is None
    assert score.asked == 0


def test_the_sheet_shows_what_went_wrong(photos: Path, tiny_bundle: Path) -> None:
    queries = QuerySet(open_photos(str(photos)))
    with Segmenter.load(tiny_bundle) as segmenter:
        _, single = measure_queries(segmenter, queries, sensitivities=("low", "normal", "high"), thresholds=())
        chosen = worst(single)
        sheet = contact_sheet(segmenter, queries, chosen)
        assert contact_sheet(segmenter, queries, []) is None
    assert (chosen[0].photo, chosen[0].name) == ("b", "blue")
    assert sheet is not None
    assert sheet.shape[1] == 6 * 240
    assert len(np.unique(sheet)) > 20


def test_the_command_writes_what_it_prints(
    photos: Path, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "ask.json"
    arguments = ["--model", tiny_bundle, "--data", photos, "--sheet", tmp_path / "{data}.png", "-o", output]
    monkeypatch.setattr(sys, "argv", ["ovs-bench", "ask", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    printed = capsys.readouterr().out
    document = json.loads(output.read_text())
    alone, lists = document["ask"]
    assert (alone["request"], lists["request"]) == ("alone", "lists of 5")
    assert alone["photos"] == 3
    assert f"| colours | alone | 3 | {alone['score']['found']:.1%} |" in printed
    assert cv2.imread(str(tmp_path / "colours.png")) is not None
    text = section(document)
    assert f"| {alone['score']['found']:.1%} | {alone['score']['nothing']:.1%} |" in text
    assert f"| normal | 0.30 | {alone['score']['found']:.1%} |" in text
    assert "ovs-bench ask" in text
