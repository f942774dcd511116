"""Masks out of the command line: index PNGs with names, and JSON lines with parts, RLE or polygons."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from ovs_edge.bundle.errors import SinkError, UsageError
from ovs_edge.runtime.cli import main
from ovs_edge.runtime.frame import Frame
from ovs_edge.runtime.inference.interop import decode_rle
from ovs_edge.runtime.inference.parts import connected_parts, frame_mask, polygons
from ovs_edge.runtime.inference.prediction import NOTHING, Prediction
from ovs_edge.runtime.opencv import cv2
from ovs_edge.runtime.options import RunOptions
from ovs_edge.runtime.sinks.json_lines import describe
from ovs_edge.runtime.sinks.mask_form import MaskForm
from ovs_edge.runtime.sinks.masks import MaskSink
from ovs_edge.runtime.status import Status


def _scene() -> Prediction:
    """Two persons and a dog with a hole, on 40 x 60 pixels."""
    labels = np.full((40, 60), NOTHING, np.int32)
    labels[5:15, 5:15] = labels[20:36, 30:40] = 0
    labels[2:12, 40:56] = 1
    labels[5:8, 45:50] = NOTHING
    labels[0, 0] = 0  # a speck
    return Prediction(labels, np.full((40, 60), 0.8, np.float32), ("person", "dog"))


def _frame(name: str = "a") -> Frame:
    return Frame(np.zeros((40, 60, 3), np.uint8), 0, 0.0, name)


def test_each_connected_region_has_its_own_box() -> None:
    parts = connected_parts(_scene(), "person")
    assert [part.box for part in parts[:2]] == [(30, 20, 40, 36), (5, 5, 15, 15)]
    assert parts[0].share == 160 / 2400 and parts[0].centroid == (34.5, 27.5)
    assert parts[0].confidence == pytest.approx(0.8)
    np.testing.assert_array_equal(np.any([frame_mask(part, (40, 60)) for part in parts], axis=0), _scene().labels == 0)
    with pytest.raises(UsageError):
        connected_parts(_scene(), "cat")


def _filled(outlines: list[list[list[int]]]) -> npt.NDArray[np.uint8]:
    canvas = np.zeros((40, 60), np.uint8)
    cv2.fillPoly(canvas, [np.array(outlines[0], np.int32)], 1)
    return canvas


def test_json_lines_hold_masks_on_request() -> None:
    plain = describe(_frame(), _scene())
    assert "rle" not in plain["classes"][0]["parts"][0] and len(plain["classes"][1]["parts"]) == 1
    coded = json.loads(json.dumps(describe(_frame(), _scene(), MaskForm.RLE)))
    (dog,) = coded["classes"][1]["parts"]
    np.testing.assert_array_equal(decode_rle(dog["rle"]), _scene().labels == 1)
    drawn = json.loads(json.dumps(describe(_frame(), _scene(), MaskForm.POLYGONS)))
    (dog,) = drawn["classes"][1]["parts"]
    assert len(dog["polygons"]) == 2  # the outline and the hole's
    assert dog["polygons"][0][0] in ([40, 2], [55, 2], [40, 11], [55, 11])
    filled = _filled(dog["polygons"])
    assert filled.sum() == 160 and filled[2:12, 40:56].all()
    (first, *_) = connected_parts(_scene(), "person")
    np.testing.assert_array_equal(_filled(polygons(first)).astype(bool), frame_mask(first, (40, 60)))


def test_index_pngs_and_names(tmp_path: Path) -> None:
    sink = MaskSink(tmp_path / "masks")
    sink.write(_frame("a"), _scene(), None, Status())
    other = Prediction(np.zeros((40, 60), np.int32), np.ones((40, 60), np.float32), ("cat", "person"))
    sink.write(_frame("b"), other, None, Status())
    sink.finish()
    sink.close()
    names = json.loads((tmp_path / "masks" / "classes.json").read_text())
    assert names == ["person", "dog", "cat"]  # a class keeps its value when the list changes
    found = cv2.imread(str(tmp_path / "masks" / "a.png"), cv2.IMREAD_UNCHANGED)
    assert found.dtype == np.uint8 and found.shape == (40, 60)
    np.testing.assert_array_equal(np.where(found == 255, NOTHING, found.astype(np.int32)), _scene().labels)
    assert (cv2.imread(str(tmp_path / "masks" / "b.png"), cv2.IMREAD_UNCHANGED) == 2).all()


def test_many_classes_need_16_bits(tmp_path: Path) -> None:
    names = tuple(f"name {index}" for index in range(300))
    labels = np.array([[NOTHING, 0, 299]], np.int32)
    sink = MaskSink(tmp_path / "masks")
    sink.write(_frame(), Prediction(labels, np.ones((1, 3), np.float32), names), None, Status())
    sink.close()
    found = cv2.imread(str(tmp_path / "masks" / "a.png"), cv2.IMREAD_UNCHANGED)
    assert found.dtype == np.uint16 and found.tolist() == [[65535, 0, 299]]


def test_nothing_of_the_user_s_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(cv2.imencode(".png", np.zeros((4, 4), np.uint8))[1].tobytes())
    before = (tmp_path / "a.png").read_bytes()
    sink = MaskSink(tmp_path)
    with pytest.raises(SinkError, match="--overwrite"):
        sink.write(_frame("a"), _scene(), None, Status())
    sink.close()
    assert (tmp_path / "a.png").read_bytes() == before
    sink = MaskSink(tmp_path, overwrite=True)
    sink.write(_frame("a"), _scene(), None, Status())
    sink.close()
    MaskSink(tmp_path).write(_frame("a"), _scene(), None, Status())  # an earlier run's may be replaced


def test_the_command(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    image = np.zeros((48, 64, 3), np.uint8)
    image[:, :32, 2] = 255
    (tmp_path / "photo.png").write_bytes(cv2.imencode(".png", image)[1].tobytes())
    options = ["--model", tiny_bundle, "--source", tmp_path / "photo.png", "--classes", "red", "--json", "-", "--rle"]
    monkeypatch.setattr(sys, "argv", ["ovs-run", *map(str, options), "--save-masks", str(tmp_path / "masks")])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code in (0, None)
    (part,) = json.loads(capsys.readouterr().out)["classes"][0]["parts"]
    found = cv2.imread(str(tmp_path / "masks" / "photo.png"), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(decode_rle(part["rle"]), found == 0)
    assert (found[:, :30] == 0).all() and (found[:, 34:] == 255).all()


@pytest.mark.parametrize("options", [{"rle": True, "polygons": True, "json": "-"}, {"rle": True}])
def test_options_that_do_not_fit(options: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="--rle"):
        RunOptions(classes="cat", **options)  # type: ignore[arg-type]
