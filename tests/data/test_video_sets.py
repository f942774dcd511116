"""Readers of video sets, on small trees in the layout in which each is published, irregularities included."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from ovs_edge.benchmarks.accuracy.class_list import entries
from ovs_edge.benchmarks.accuracy.panoptic_quality import TrueSegment
from ovs_edge.bundle.errors import DatasetError, UsageError
from ovs_edge.data.labelled import VOID, VideoSet, load
from ovs_edge.data.video_sets import open_videos

SIZE = (4, 6)


def _picture(path: Path, values: list[int] | None = None, dtype: type = np.uint8) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.full((*SIZE, 3), 90, np.uint8) if values is None else np.tile(np.array(values, dtype), (SIZE[0], 1))
    cv2.imwrite(str(path), image)


def _names(videos: VideoSet, *indices: int) -> list[str]:
    return [videos.classes[index].names[0] for index in indices]


@pytest.fixture
def vspw(tmp_path: Path) -> Path:
    """Two sequences of val, one of them with a frame that has no mask and a mask that has no frame, one of test."""
    for video in ("1_aaa", "2_bbb", "3_test"):
        for frame in ("00000001", "00000002", "00000003"):
            _picture(tmp_path / "data" / video / "origin" / f"{frame}.jpg")
    for video, frames in (("1_aaa", ("00000001", "00000003", "00000009")), ("2_bbb", ("00000001",))):
        for frame in frames:
            _picture(tmp_path / "data" / video / "mask" / f"{frame}.png", [0, 255, 1, 61, 124, 124])
    (tmp_path / "data/1_aaa/origin/._00000001.jpg").write_bytes(b"what a Mac leaves behind")
    (tmp_path / "data/1_aaa/mask/._00000001.png").write_bytes(b"what a Mac leaves behind")
    (tmp_path / "val.txt").write_text(".DS_Store\n1_aaa\n2_bbb\n3_test\n4_gone\n\n")
    return tmp_path


def test_vspw(vspw: Path) -> None:
    (vspw / "label_num_dic_final.json").write_text(json.dumps({"others": "0", "wall": "1", "person": "61"}))
    videos = open_videos(str(vspw))
    assert (videos.name, [clip.name for clip in videos.clips]) == ("vspw", ["1_aaa", "2_bbb"])
    assert videos.skipped == ("1_aaa/00000009.png: no such frame", "3_test: no masks", "4_gone: no frames")
    first, second, third = videos.clips[0].frames
    assert first.mask is not None
    assert second.mask is None
    assert third.mask is not None
    truth = load(first, videos.read).truth
    assert truth.labels[0].tolist() == [VOID, VOID, 0, 60, 123, 123]
    assert truth.ids is None
    assert len(videos.classes) == 124
    assert _names(videos, 0, 60, 123) == ["wall", "person", "train"]
    assert not videos.novel
    assert videos.stuff is None


def test_vspw_of_other_classes(vspw: Path) -> None:
    (vspw / "label_num_dic_final.json").write_text(json.dumps({"others": "0", "wall": "2"}))
    with pytest.raises(DatasetError, match="says that wall is 2, expected 1"):
        open_videos(str(vspw))
    (vspw / "label_num_dic_final.json").write_text("[]")
    with pytest.raises(DatasetError, match=r"cannot read .*label_num_dic_final\.json"):
        open_videos(str(vspw))


@pytest.mark.parametrize("images", ["imgs", "images"])
def test_vipseg(tmp_path: Path, images: str) -> None:
    """As published, and at 720 pixels of height, where the list of sequences stays a folder above."""
    folder = tmp_path / "VIPSeg_720P" if images == "images" else tmp_path
    (tmp_path / "val.txt").write_text("12_clip\n")
    values = [0, 61, 6100, 6101, 19, 12400]  # nothing, a person not told apart, two persons, road, a train
    for frame in ("00000000", "00000001"):
        _picture(folder / images / "12_clip" / f"{frame}.jpg")
        _picture(folder / "panomasks/12_clip" / f"{frame}.png", values, np.uint16)
    videos = open_videos(str(folder))
    truth = load(videos.clips[0].frames[1], videos.read).truth
    assert truth.labels[0].tolist() == [VOID, 60, 60, 60, 18, 123]
    assert truth.ids is not None
    assert truth.ids[0].tolist() == values
    assert truth.segments == {
        61: TrueSegment(60),
        6100: TrueSegment(60),
        6101: TrueSegment(60),
        19: TrueSegment(18),
        12400: TrueSegment(123),
    }
    assert videos.stuff is not None
    assert (sum(videos.stuff), videos.stuff[60], videos.stuff[18]) == (66, False, True)
    assert _names(videos, *videos.novel) == [
        "pillar", "ice", "grandstand", "tyre", "box", "basket", "trash can", "bathtub", "fan", "blackboard", "printer",
        "instrument",
    ]  # fmt: skip
    _picture(folder / "panomasks/12_clip/00000000.png", [12500] * 6, np.uint16)  # there is no class 125
    with pytest.raises(DatasetError, match="holds the value 125, expected a class from 0 to 124"):
        load(videos.clips[0].frames[0], videos.read)


def test_names_mean_one_class_each() -> None:
    from ovs_edge.data.readers.vspw import _classes

    names = [name.casefold() for entry in _classes() for name in entry.names]
    assert len(names) == len(set(names)) > 124


def test_categories_of_several_things_are_asked_for_by_all_of_them() -> None:
    from ovs_edge.data.readers.vspw import _classes

    asked = entries(_classes(), synonyms=False)
    assert (asked[0], asked[7], asked[84]) == ("wall", "handrail|fence", "bottle|cup")
    assert asked[75] == "cupboard|showcase|storage rack"
    assert sum("|" in entry for entry in asked) == 16
    assert entries(_classes(), synonyms=True)[7] == "handrail|fence|railing"


def test_folders_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no video set that is known"):
        open_videos(str(tmp_path))
    with pytest.raises(DatasetError, match="cannot read the list"):
        open_videos(f"vspw:{tmp_path}")
    (tmp_path / "val.txt").write_text("a\n")
    with pytest.raises(DatasetError, match=r"no labelled sequence of vspw \(1 skipped; the first: a: no frames\)"):
        open_videos(f"vspw:{tmp_path}")
