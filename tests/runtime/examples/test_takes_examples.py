"""Classes that are shown, end to end on a bundle whose pixels' vectors are their colours."""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from support import tiny_bundle

from ovs_edge.bundle.errors import UsageError
from ovs_edge.runtime.cli import main
from ovs_edge.runtime.examples.region import outlines
from ovs_edge.runtime.segmenter import Segmenter

ORANGE = (0, 128, 255)  # no name that the tiny bundle knows, between red and yellow


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bundle.build(tmp_path_factory.mktemp("bundles") / "shown.ovs", regions=True)


@pytest.fixture
def photo() -> np.ndarray:
    """Sky, and an orange thing in front of it."""
    image = np.full((90, 120, 3), (255, 0, 0), np.uint8)
    image[30:60, 40:80] = ORANGE
    return image


THING = np.zeros((90, 120), np.bool_)
THING[30:60, 40:80] = True


def overlap(found: np.ndarray) -> float:
    return float((found & THING).sum() / (found | THING).sum())


@pytest.mark.parametrize("region", [{"mask": THING}, {"box": (45, 35, 20, 15)}, {"point": (60, 45)}])
def test_shown_once_then_found(bundle: Path, photo: np.ndarray, region: dict[str, object]) -> None:
    with Segmenter.load(bundle) as segmenter:
        segmenter.set_classes("sky")
        assert overlap(segmenter.predict(photo).labels != 0) > 0.9  # background
        version = segmenter.active.version
        read = segmenter.add_example("my thing", photo, **region)
        assert [entry.label for entry in segmenter.classes] == ["sky", "my thing"]
        assert segmenter.active.version == version + 1
        assert read.mask[45, 60]
        prediction = segmenter.predict(photo)
        assert overlap(prediction.mask("my thing")) > 0.9
        assert (prediction.labels[~THING] == 0).mean() > 0.95
        assert prediction.readings == ()  # a shown class is in no doubt


def test_a_trained_name_keeps_its_word(bundle: Path, photo: np.ndarray) -> None:
    """Red is found as before, and orange is red now, too."""
    photo[70:85, 10:30] = (0, 0, 255)
    with Segmenter.load(bundle) as segmenter:
        segmenter.set_classes("red,sky")
        rows = segmenter.active.vocabulary.vectors[0].any(axis=1).sum()
        segmenter.add_example("red", photo, mask=THING)
        assert segmenter.active.vocabulary.vectors[0].any(axis=1).sum() == rows + 1
        labels = segmenter.predict(photo).labels
        assert labels[45, 60] == labels[77, 20] == 0


def test_not_this(bundle: Path, photo: np.ndarray) -> None:
    """Yellow is taken for the orange thing until it is shown as something else."""
    photo[70:85, 90:115] = (0, 200, 255)
    with Segmenter.load(bundle, background="none") as segmenter:
        segmenter.set_classes("sky")
        segmenter.add_example("my thing", photo, mask=THING)
        assert segmenter.predict(photo).labels[77, 100] == 1
        segmenter.add_example("my thing", photo, box=(90, 70, 25, 15), negative=True)
        assert [entry.label for entry in segmenter.classes] == ["sky", "my thing"]
        labels = segmenter.predict(photo).labels
        assert (labels[77, 100], labels[45, 60]) == (-1, 1)
        assert segmenter.undo_example() == "my thing"
        assert segmenter.predict(photo).labels[77, 100] == 1
        segmenter.undo_example()
        assert [entry.label for entry in segmenter.classes] == ["sky"]
        with pytest.raises(UsageError, match="no example"):
            segmenter.undo_example()


def test_files(bundle: Path, photo: np.ndarray, tmp_path: Path) -> None:
    with Segmenter.load(bundle) as segmenter:
        segmenter.add_example("my thing", photo, mask=THING)  # without any other class
        segmenter.add_example("MY THING", photo, box=(50, 40, 10, 10))
        segmenter.set_classes("my thing:0.2,grass|lawn")
        segmenter.save_classes(tmp_path / "things.npz")
        expected = segmenter.predict(photo).labels
    with Segmenter.load(bundle) as segmenter:
        segmenter.set_classes(f"@{tmp_path / 'things.npz'}, sky")
        assert [str(entry) for entry in segmenter.classes] == ["my thing:0.2", "grass|lawn", "sky"]
        assert np.array_equal(segmenter.predict(photo).labels == 0, expected == 0)
        assert len(segmenter.shown.all()[0].examples) == 2
        assert cv2.imdecode(np.frombuffer(segmenter.shown.all()[0].examples[0].thumbnail, np.uint8), 1) is not None
        before = segmenter.active
        with pytest.raises(UsageError, match="cannot read"):
            segmenter.set_classes("@nothing.npz, sky")
        assert segmenter.active is before
        assert segmenter.set_classes(["@things.npz"]).labels == ("@things.npz",)  # of a list, names are literal


def test_undo_leaves_the_examples_of_a_file_alone(bundle: Path, photo: np.ndarray, tmp_path: Path) -> None:
    with Segmenter.load(bundle) as segmenter:
        segmenter.add_example("my thing", photo, mask=THING)
        segmenter.save_classes(tmp_path / "things.npz")
        segmenter.add_example("my thing", photo, box=(50, 40, 10, 10))
        segmenter.set_classes(f"@{tmp_path / 'things.npz'}")
        with pytest.raises(UsageError, match="no example"):
            segmenter.undo_example()
        assert len(segmenter.shown.all()[0].examples) == 1


def test_a_refused_change_leaves_the_examples_as_they_were(bundle: Path, photo: np.ndarray, tmp_path: Path) -> None:
    with Segmenter.load(bundle, background="none") as segmenter:
        most = segmenter.manifest.graph.max_classes
        segmenter.add_example("my thing", photo, mask=THING)
        segmenter.save_classes(tmp_path / "things.npz")
        segmenter.add_example("my thing", photo, box=(0, 0, 9, 9))
        names = ",".join(f"class {index}" for index in range(most))
        before = segmenter.active
        with pytest.raises(UsageError, match="at most"):
            segmenter.set_classes(f"@{tmp_path / 'things.npz'},{names}")
        assert segmenter.active is before
        assert len(segmenter.shown.all()[0].examples) == 2
        # What a class is not takes the place of a class, and there is none left.
        before = segmenter.set_classes(names)
        with pytest.raises(UsageError, match="at most"):
            segmenter.add_example("class 1", photo, mask=THING, negative=True)
        assert segmenter.active is before
        assert [entry.label for entry in segmenter.shown.all()] == ["my thing"]


def test_a_file_of_classes_has_the_suffix_by_which_it_is_read(bundle: Path, photo: np.ndarray, tmp_path: Path) -> None:
    with Segmenter.load(bundle) as segmenter:
        segmenter.add_example("my thing", photo, mask=THING)
        with pytest.raises(UsageError, match=r"expected NAME\.npz"):
            segmenter.save_classes(tmp_path / "things.txt")
    assert not list(tmp_path.iterdir())


def test_queries(tmp_path: Path, photo: np.ndarray) -> None:
    folder = tiny_bundle.build(tmp_path / "queries.ovs", panoptic=True, regions=True)
    photo[30:60, 40:80] = (0, 0, 255)
    with Segmenter.load(folder, task="semantic") as segmenter:
        segmenter.set_classes("sky")
        segmenter.add_example("my thing", photo, point=(50, 45))
        assert overlap(segmenter.predict(photo).mask("my thing")) > 0.9


def test_what_cannot_be_is_refused(bundle: Path, tiny_bundle: Path, photo: np.ndarray) -> None:
    with Segmenter.load(bundle) as segmenter:
        for region, reason in (
            ({}, "no region given"),
            ({"box": (0, 0, 5, 5), "point": (1, 1)}, "box and point given"),
            ({"mask": np.zeros((90, 120))}, "empty"),
            ({"mask": [[1], [1, 0]]}, "the mask is no array"),
            ({"mask": np.ones((9, 12))}, r"expected one value for each pixel of the picture: \[90, 120\]"),
            ({"box": (200, 0, 5, 5)}, "outside the picture of 120x90"),
            ({"box": (0, 0, 0, 5)}, "no area"),
            ({"box": (0, 0, float("nan"), 5)}, "no area"),
            ({"point": (120, 5)}, "outside the picture"),
        ):
            with pytest.raises(UsageError, match=reason):
                segmenter.add_example("thing", photo, **region)
        with pytest.raises(UsageError, match="empty"):
            segmenter.add_example(" ", photo, point=(1, 1))
        assert len(segmenter.shown) == 0
    with Segmenter.load(tiny_bundle) as segmenter, pytest.raises(UsageError, match=r"names only.*ovs-export"):
        segmenter.add_example("thing", photo, point=(1, 1))


def run(*arguments: object) -> int:
    sys.argv = ["ovs-run", *map(str, arguments)]
    try:
        main()
    except SystemExit as error:
        return int(error.code or 0)
    return 0


def test_command_line(
    bundle: Path, photo: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    cv2.imwrite("photo.png", photo)
    cv2.imwrite("mask.png", THING * np.uint8(255))
    cv2.imwrite("grey.png", THING * np.uint8(1))
    common = ("--model", bundle, "photo.png", "--save-masks")
    for index, region in enumerate(("mask.png", "45,35,20,15", "60,45")):
        assert run(*common, f"out{index}", "--example", f"my thing=photo.png#{region}", "--classes", "sky") == 0
        assert overlap(cv2.imread(f"out{index}/photo.png", cv2.IMREAD_UNCHANGED) == 1) > 0.9, region
    assert run(*common, "alone", "--example", "my thing=photo.png#60,45", "--save-classes", "things.npz") == 0
    assert run(*common, "again", "--classes", "sky,@things.npz") == 0
    assert overlap(cv2.imread("again/photo.png", cv2.IMREAD_UNCHANGED) == 1) > 0.9
    capsys.readouterr()
    for arguments, reason in (
        (("--example", "my thing"), 'expected "NAME=PHOTO#REGION"'),
        (("--example", "my thing=photo.png#200,5"), "outside the picture"),
        (("--example", "my thing=photo.png#none.png"), "is no file and no numbers"),
        (("--example", "my thing=photo.png#grey.png"), "its brightest pixel is 1 of 255"),
        (("--example", "my thing=none.png#1,2"), "cannot read none.png"),
        (("--classes", "@none.npz"), "cannot read the classes"),
        (("--classes", "@photo.npz"), "holds no saved classes"),
        (("--example", "a=photo.png#1,2", "--save-classes", "photo.npz"), "holds no classes of ovs-edge"),
    ):
        Path("photo.npz").write_bytes(Path("photo.png").read_bytes())
        assert run(*common, "bad", *arguments) == 2
        error = capsys.readouterr().err
        assert reason in error
        assert error.count("\n") == 1
    assert not Path("bad").exists()


def test_damaged_files_on_the_command_line(
    bundle: Path, photo: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    cv2.imwrite("photo.png", photo)
    with Segmenter.load(bundle) as segmenter:
        segmenter.add_example("my thing", photo, mask=THING)
        segmenter.save_classes("things.npz")
    whole = Path("things.npz").read_bytes()
    with np.load("things.npz") as file:
        arrays = {name: file[name] for name in file.files}
    other = tiny_bundle.build(tmp_path / "other.ovs", panoptic=True, regions=True)
    with Path("huge.npz").open("wb") as huge:
        huge.truncate(2**40)  # a terabyte, of which nothing is stored
    Path("short.npz").write_bytes(whole[: len(whole) // 2])
    np.savez("nan.npz", **{**arrays, "rows": np.full_like(arrays["rows"], np.nan)})
    np.savez("pickled.npz", **{**arrays, "rows": np.array([Path()], dtype=object)})
    capsys.readouterr()
    for name, model, reason in (
        ("huge", bundle, "cannot read the classes"),
        ("short", bundle, "holds no saved classes"),
        ("nan", bundle, "hold numbers that are no vectors"),
        ("pickled", bundle, "holds no saved classes"),
        ("things", other, "was saved with another model"),
    ):
        assert run("--model", model, "photo.png", "--save-masks", "bad", "--classes", f"@{name}.npz") == 2, name
        error = capsys.readouterr().err
        assert reason in error
        assert error.count("\n") == 1
    assert not Path("bad").exists()


def test_outlines() -> None:
    assert outlines(THING) == [[[40, 30], [40, 59], [79, 59], [79, 30]]]


@pytest.mark.parametrize(
    "region", [{"box": (1, 2, 3)}, {"box": "1,2,3,4"}, {"box": 5}, {"point": (5,)}, {"point": ("a", 1)}, {"point": 5}]
)
def test_a_region_of_another_form_is_refused(bundle: Path, photo: np.ndarray, region: dict[str, object]) -> None:
    with Segmenter.load(bundle) as segmenter:
        segmenter.set_classes("sky")
        with pytest.raises(UsageError, match=r"expected x, y(, width, height)? in pixels"):
            segmenter.add_example("thing", photo, **region)
