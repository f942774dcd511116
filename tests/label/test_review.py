"""What a person should look at first: the ranking, the page, and projects whose corrections come back."""

from __future__ import annotations

import json
import re
import zipfile
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from support.label_job import encoded, label, photo, tree, write_photos, write_zip

from ovs_edge.label.records import PictureRecord, RegionRecord
from ovs_edge.label.review.ranking import count_pictures, disagreement, rank
from ovs_edge.runtime.draw.palette import colours

CLASSES = ("cat", "dog", "owl")


def record(name: str, **confidence: float) -> PictureRecord:
    """A picture of 10x10 pixels with a tenth of it for each class."""
    regions = tuple(
        RegionRecord(CLASSES.index(label), (0, 0, 1, 10), 10, value, "") for label, value in confidence.items()
    )
    return PictureRecord(name, name, size=(10, 10), regions=regions)


def test_doubt_rarity_and_flips_rank() -> None:
    records = [
        record("sure", cat=0.95, dog=0.9),
        record("doubtful", cat=0.95, dog=0.4),
        record("rare", cat=0.91, owl=0.91),
        record("nothing"),
        record("plain", cat=0.9),
        record("flips", cat=0.93, dog=0.9),
    ]
    pictures = count_pictures(iter(records))
    assert pictures == Counter({0: 5, 1: 3, 2: 1})
    flips = {"flips": 0.9, "sure": 0.0}
    asked: list[str] = []

    def flipped(one: PictureRecord) -> float | None:
        asked.append(one.name)
        return flips.get(one.name)

    ranked = rank(iter(records), pictures, CLASSES, 4, flipped)
    assert [entry.record.name for entry in ranked] == ["flips", "doubtful", "nothing", "rare"]
    assert (ranked[1].weakest, ranked[1].doubt, ranked[3].rarest, ranked[3].rarity) == ("dog", 0.6, "owl", 0.8)
    assert len(asked) == 6
    assert [entry.record.name for entry in rank(iter(records), pictures, CLASSES, 1, lambda one: None)] == ["doubtful"]
    assert rank(iter(()), Counter(), CLASSES, 3, flipped) == []


def test_specks_say_nothing_of_a_picture() -> None:
    speck = RegionRecord(1, (0, 0, 1, 1), 1, 0.31, "")
    whole = RegionRecord(0, (0, 0, 100, 100), 9000, 0.9, "")
    one = PictureRecord("a", "a", size=(100, 100), regions=(whole, speck))
    assert count_pictures(iter([one])) == Counter({0: 1})
    [entry] = rank(iter([one]), Counter({0: 1}), CLASSES, 1, lambda one: None)
    assert (entry.weakest, entry.doubt) == ("cat", 0.1)


def test_disagreement_counts_labelled_pixels() -> None:
    labels = np.array([[0, 0, -1, -1]], np.int32)
    assert disagreement(labels, labels) == 0
    assert disagreement(labels, np.array([[0, 1, 0, -1]], np.int32)) == pytest.approx(2 / 3)
    assert disagreement(np.full((2, 2), -1, np.int32), np.full((2, 2), -1, np.int32)) == 0


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.addresses += [value or "" for key, value in attrs if key in ("src", "href", "action", "data")]


def test_the_page_is_one_file_that_asks_nobody_for_anything(tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    source = write_photos(tmp_path / "in", 4)
    (source / "<script>&\"'.png").write_bytes(encoded(photo("red", "green")))
    out = tmp_path / "out"
    assert label(monkeypatch, tiny_bundle, source, "-o", out, "--review", "5") == 0
    assert f"review: {out}/review/index.html" in capsys.readouterr().out
    text = (out / "review/index.html").read_text(encoding="utf-8")
    page = _Page()
    page.feed(text)
    assert len(page.addresses) == 10 and all(one.startswith("data:image/jpeg;base64,") for one in page.addresses)
    assert not page.tags & {"script", "link", "iframe", "form"} and "default-src 'none'" in text
    assert not re.search(r"https?://", text)
    classes = re.findall(r'<i style="background:#([0-9a-f]{6})"></i>([^<]+)<', text)
    names = tuple(name for _, name in classes)
    assert len(names) > 1
    assert [bytes.fromhex(colour)[::-1] for colour, _ in classes] == [row.tobytes() for row in colours(names)]
    before = tree(out)
    assert label(monkeypatch, tiny_bundle, source, "-o", out, "--review", "5") == 0
    assert tree(out) == before


def test_a_review_of_what_was_not_kept_reads_the_inputs(tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    archive = write_zip(tmp_path / "a.zip", {"x/1.png": encoded(photo("red")), "x/2.png": encoded(photo("green"))})
    out = tmp_path / "out"
    assert label(monkeypatch, tiny_bundle, archive, "-o", out, "--format", "parquet", "--review", "2") == 0
    assert not (out / "images").exists()
    with zipfile.ZipFile(out / "review/cvat.zip") as project:
        assert project.namelist() == ["annotations.xml", "images/1.png", "images/2.png"]


def test_what_was_corrected_in_cvat_comes_back(tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    from ovs_edge.data.formats.convert import convert
    from ovs_edge.data.formats.label_format import ReadOptions
    from ovs_edge.data.formats.registry import find_format

    source, out = write_photos(tmp_path / "in", 3), tmp_path / "out"
    assert label(monkeypatch, tiny_bundle, source, "-o", out, "--review", "3") == 0
    with zipfile.ZipFile(out / "review/cvat.zip") as project:
        project.extractall(tmp_path / "cvat")
    xml = tmp_path / "cvat/annotations.xml"
    xml.write_text(xml.read_text().replace('label="red"', 'label="crimson"').replace("<name>red", "<name>crimson"))
    label_format = find_format(tmp_path / "cvat")
    done = convert(tmp_path / "cvat", label_format, label_format.read(tmp_path / "cvat", ReadOptions()), tmp_path / "b")
    assert (label_format.name, done.classes, done.skipped) == ("cvat", ("crimson", "green"), ())
    assert done.pixels == (2 * 32 * 48, 2 * 32 * 48)


def test_tasks_of_label_studio(tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, out = write_photos(tmp_path / "in", 2), tmp_path / "out"
    words = ["-o", out, "--review", "2", "--review-project", "label-studio"]
    assert label(monkeypatch, tiny_bundle, source, *words) == 0
    tasks = json.loads((out / "review/label_studio.json").read_text())
    assert len(tasks) == 2 and all(task["data"]["image"].startswith("data:image/png;base64,") for task in tasks)
    results = [result for task in tasks for result in task["predictions"][0]["result"]]
    assert {result["value"]["polygonlabels"][0] for result in results} == {"red", "green"}
    assert all(0 <= value <= 100 for result in results for point in result["value"]["points"] for value in point)
    assert '<Label value="red"/>' in (out / "review/label_studio.xml").read_text()
