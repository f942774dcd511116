"""Mask files of every kind give the same values to training, benchmarks and calibration, or are refused."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image
from support.photos import write_index_masks

from ovs_edge.bundle.errors import DatasetError
from ovs_edge.data.datasets import open_dataset
from ovs_edge.data.labelled import VOID, PhotoSet
from ovs_edge.data.mask_files import decode_mask, index_values
from ovs_edge.data.photo_sets import open_photos

VALUES = np.array([[0, 1, 2, 3], [3, 2, 1, 0], [1, 1, 0, 0]], np.uint8)


def _png(path: Path, values: npt.NDArray[np.uint8], depth: int, colour_type: int = 0) -> None:
    """A grey (0) or palette (3) PNG of `depth` bits, written by hand: Pillow writes greys of 8 bits only."""
    height, width = values.shape
    bits = np.unpackbits(values[..., None], axis=-1)[..., 8 - depth :].reshape(height, width * depth)
    rows = b"".join(b"\0" + np.packbits(row).tobytes() for row in bits)

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    palette = chunk(b"PLTE", bytes(index % 251 for index in range(3 * 2**depth))) if colour_type == 3 else b""
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + palette
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("colour_type", [0, 3])
@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_png_of_any_depth(depth: int, colour_type: int, tmp_path: Path) -> None:
    values = np.asarray(VALUES & (2**depth - 1), np.uint8)
    _png(tmp_path / "m.png", values, depth, colour_type)
    found = decode_mask(tmp_path / "m.png")
    assert np.issubdtype(found.dtype, np.integer)
    assert found.tolist() == values.tolist()


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bits_keep_large_values(suffix: str, tmp_path: Path) -> None:
    values = np.array([[0, 44, 300], [65535, 256, 255]], np.uint16)
    Image.fromarray(values).save(tmp_path / f"m{suffix}")
    assert decode_mask(tmp_path / f"m{suffix}").tolist() == values.tolist()


@pytest.mark.parametrize("suffix", [".bmp", ".tif", ".gif", ".pgm"])
def test_other_lossless_files(suffix: str, tmp_path: Path) -> None:
    Image.fromarray(VALUES).save(tmp_path / f"m{suffix}")
    assert decode_mask(tmp_path / f"m{suffix}").tolist() == VALUES.tolist()


def test_a_1_bit_picture_is_classes_0_and_1(tmp_path: Path) -> None:
    for suffix in (".png", ".bmp", ".tif"):
        Image.fromarray(VALUES > 1).save(tmp_path / f"m{suffix}")
        assert decode_mask(tmp_path / f"m{suffix}").tolist() == (VALUES > 1).astype(int).tolist()


def test_a_palette_gives_its_indices(tmp_path: Path) -> None:
    picture = Image.fromarray(VALUES)
    picture = picture.convert("P")
    picture.putdata(VALUES.ravel().tolist())
    picture.putpalette([value for index in range(256) for value in (index, 255 - index, 7)])
    picture.save(tmp_path / "m.png", transparency=0)
    assert decode_mask(tmp_path / "m.png").tolist() == VALUES.tolist()


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.sampled_from(["uint8", "uint16"]), st.integers(0, 2**32 - 1))
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, height: int, width: int, kind: str, seed: int
) -> None:
    values = np.random.default_rng(seed).integers(0, np.iinfo(kind).max, (height, width)).astype(kind)
    path = tmp_path_factory.mktemp("mask") / "m.png"
    Image.fromarray(values).save(path)
    assert np.array_equal(decode_mask(path), values)


@pytest.mark.parametrize(
    ("mode", "suffix", "told"),
    [
        ("RGB", ".png", r"is an RGB picture \(colours .*Convert the colours"),
        ("RGBA", ".png", "is an RGB picture"),
        ("LA", ".png", "alpha channel"),
        ("F", ".tif", "holds float32 values, expected integers"),
        ("L", ".jpg", "is a JPEG, which changes the values"),
    ],
)
def test_what_is_no_index_mask_is_refused_with_what_to_do(mode: str, suffix: str, told: str, tmp_path: Path) -> None:
    path = tmp_path / f"m{suffix}"
    Image.new(mode, (4, 3)).save(path)
    with pytest.raises(DatasetError, match=told):
        index_values(path)


@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n" + bytes(40)])
def test_broken_masks_are_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "m.png").write_bytes(content)
    with pytest.raises(DatasetError, match=r"cannot decode the mask .*m\.png"):
        decode_mask(tmp_path / "m.png")


def _own(folder: Path, names: int = 3) -> Path:
    """Photos of the size of `VALUES` in both splits, without masks."""
    for split in ("train", "val"):
        (folder / "images" / split).mkdir(parents=True)
        (folder / "masks" / split).mkdir(parents=True)
        Image.new("RGB", VALUES.shape[::-1]).save(folder / "images" / split / "a.png")
    (folder / "classes.json").write_text(json.dumps([f"class {index}" for index in range(names)]))
    return folder


@pytest.mark.parametrize("name", ["a.png", "a.PNG", "a.bmp", "a.tif", "a.TIFF"])
def test_all_readers_find_and_read_a_mask_alike(name: str, tmp_path: Path) -> None:
    folder = _own(tmp_path / "own", 4)
    for split in ("train", "val"):
        Image.fromarray(VALUES).save(folder / "masks" / split / name)
    assert open_dataset(folder, "train").load(0).labels.tolist() == VALUES.tolist()
    assert open_photos(str(folder)).load(0).truth.labels.tolist() == VALUES.tolist()


def test_values_out_of_range_are_refused_by_all_readers(tmp_path: Path) -> None:
    folder = write_index_masks(tmp_path / "own", photos=2)
    size = (80, 112)
    for value, told in ((7, "holds the value 7, expected the class indices 0 to 2"), (300, "holds the value 300")):
        for split in ("train", "val"):
            Image.fromarray(np.full(size, value, np.uint16)).save(folder / "masks" / split / "0.png")
        with pytest.raises(DatasetError, match=told):
            open_dataset(folder, "train").load(0)
        with pytest.raises(DatasetError, match=told):
            open_photos(str(folder)).load(0)


# For each EXIF orientation what a viewer does to the stored pixels (H, W).
SHOWN = {
    1: lambda stored: stored,
    2: np.fliplr,
    3: lambda stored: np.rot90(stored, 2),
    4: np.flipud,
    5: lambda stored: np.transpose(stored),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: np.rot90(np.transpose(stored), 2),
    8: np.rot90,
}


def _oriented(folder: Path, orientation: int, mask: npt.NDArray[np.uint8], suffix: str) -> Path:
    """A photo whose brightness tells the class, stored (32, 48) with a note of the camera's position, and its mask."""
    stored = _bright()
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    for split in ("train", "val"):
        (folder / "images" / split).mkdir(parents=True)
        (folder / "masks" / split).mkdir(parents=True)
        photo = Image.fromarray(np.repeat(stored[..., None] * np.uint8(255), 3, -1))
        photo.save(folder / "images" / split / f"a{suffix}", exif=exif, quality=95)
        Image.fromarray(np.ascontiguousarray(mask)).save(folder / "masks" / split / "a.png")
    (folder / "classes.json").write_text('["dark", "bright"]')
    return folder


def _bright() -> npt.NDArray[np.uint8]:
    stored = np.zeros((32, 48), np.uint8)
    stored[:16, :24] = 1  # one corner, so that every way to turn it differs
    stored[16:, :8] = 1
    return stored


def _agreement(folder: Path) -> list[float]:
    """Share of pixels whose brightness is that of their class: as training, and as benchmarks and calibration read."""
    sample, photo = open_dataset(folder, "train").load(0), open_photos(str(folder)).load(0)
    return [
        float(((image[..., 0] > 128) == (labels == 1)).mean())
        for image, labels in ((sample.image, sample.labels), (photo.image, photo.truth.labels))
    ]


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
@pytest.mark.parametrize("orientation", SHOWN)
def test_a_photo_is_read_as_stored_beside_its_mask_as_stored(orientation: int, suffix: str, tmp_path: Path) -> None:
    folder = _oriented(tmp_path / "own", orientation, _bright(), suffix)
    assert min(_agreement(folder)) > 0.98


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_a_mask_of_the_size_of_the_photo_as_shown_turns_it(orientation: int, tmp_path: Path) -> None:
    shown = np.asarray(SHOWN[orientation](_bright()), np.uint8)  # type: ignore[no-untyped-call]
    folder = _oriented(tmp_path / "own", orientation, shown, ".jpg")
    assert min(_agreement(folder)) > 0.98


def test_a_note_on_the_mask_changes_nothing(tmp_path: Path) -> None:
    folder = _oriented(tmp_path / "own", 3, _bright(), ".jpg")
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 3
    for split in ("train", "val"):
        Image.fromarray(_bright()).save(folder / "masks" / split / "a.png", exif=exif)
    assert min(_agreement(folder)) > 0.98


def test_void_and_background(tmp_path: Path) -> None:
    folder = _own(tmp_path / "own")
    mask, known = VALUES.copy(), np.zeros(VALUES.shape, np.uint8)
    mask[VALUES == 3], known[0] = 255, 255
    (folder / "background/val").mkdir(parents=True)
    Image.fromarray(mask).save(folder / "masks/val/a.png")
    Image.fromarray(known).convert("1").save(folder / "background/val/a.bmp")
    photos: PhotoSet = open_photos(str(folder))
    truth = photos.load(0).truth
    assert truth.labels.tolist() == np.where(mask == 255, VOID, mask.astype(int)).tolist()
    assert truth.background is not None
    assert np.argwhere(truth.background).tolist() == [[0, 3]]
