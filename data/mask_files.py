"""Decoding mask files: the values that they store."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from ..bundle.errors import DatasetError

MASK_SUFFIXES = (".png", ".bmp", ".tif", ".tiff", ".gif", ".pgm")  # lossless; of two files of one name the first
_UNKNOWN = -2  # a stored value that means nothing
_LOSSY = ("JPEG", "MPO")  # values would be blurred


def decode_mask(path: Path) -> npt.NDArray[np.integer]:
    """A mask's stored values: (H, W) of an index or grey picture of 1 to 16 bits, (H, W, 3) of a colour picture, RGB.

    Values lie as stored, whatever EXIF says, like those of `read_stored`. Raises `DatasetError`.
    """
    if not path.is_file():
        raise DatasetError(f"there is no mask {path}; copy the data set again")
    try:
        with Image.open(path) as picture:
            kind, mode, depth = picture.format, picture.mode, _grey_depth(path, picture)
            mask: npt.NDArray[np.integer] = np.asarray(picture)
    except Exception as error:  # on bytes that are no picture, or a bomb, decoders raise whatever they trip over
        raise DatasetError(f"cannot decode the mask {path} ({error}); remove it or copy it again") from error
    if kind in _LOSSY:
        raise DatasetError(f"{path} is a JPEG, which changes the values it stores; expected a PNG mask")
    if mask.dtype == np.bool_:
        return mask.astype(np.uint8)
    if not np.issubdtype(mask.dtype, np.integer):
        raise DatasetError(f"{path} holds {mask.dtype} values, expected integers; save the mask as an 8-bit PNG")
    if mask.ndim == 3 and mask.shape[2] < 3:
        raise DatasetError(f"{path} has an alpha channel ({mode}), expected one value a pixel; save it without alpha")
    if depth < 8:  # Pillow spreads grey values of few bits over 0 to 255
        return np.asarray(mask // (255 // (2**depth - 1)), np.uint8)
    return mask[..., :3] if mask.ndim == 3 else mask


def _grey_depth(path: Path, picture: Image.Image) -> int:
    """Bits of a grey PNG of 2 or 4 bits, which Pillow reads as 8; 8 for all others."""
    if picture.format != "PNG" or picture.mode != "L":
        return 8
    with path.open("rb") as stream:
        header = stream.read(26)
    return int(header[24]) if header[25] == 0 else 8  # in IHDR: bit depth, colour type (0: grey)


def index_values(path: Path) -> npt.NDArray[np.integer]:
    """The values (H, W) of a mask with one value a pixel. Raises `DatasetError` for a colour picture."""
    mask = decode_mask(path)
    if mask.ndim != 2:
        colours = np.unique(mask.reshape(-1, mask.shape[2])[:: max(1, mask.shape[0] * mask.shape[1] // 4096)], axis=0)
        shown = ", ".join("({}, {}, {})".format(*colour) for colour in colours[:3].tolist())
        raise DatasetError(
            f"{path} is an RGB picture (colours {shown}…), expected an index mask with one value a pixel: the class "
            "index, 255 where it is not labelled. Convert the colours: ovs-data convert FOLDER --from colour-masks "
            "--names COLOURS.txt -o NEW"
        )
    return mask


def region_ids(path: Path) -> npt.NDArray[np.int32]:
    """Ids (H, W) that a mask stores in its colours, R + 256 G + 65536 B. Raises `DatasetError` without colours."""
    mask = decode_mask(path)
    if mask.ndim != 3:
        raise DatasetError(f"{path} is not an RGB image, expected segment ids in its colours")
    return np.asarray(mask.astype(np.int32) @ np.array([1, 256, 65536], np.int32), np.int32)


def look_up(values: npt.NDArray[np.integer], table: dict[int, int], where: str, about: str) -> npt.NDArray[np.int32]:
    """Class index of every pixel (H, W); raises `DatasetError` for a value that the table does not name."""
    most = max(table)
    line = np.full(most + 2, _UNKNOWN, np.int32)
    line[list(table)] = list(table.values())
    labels = line[np.where((values < 0) | (values > most), most + 1, values)]
    unknown = labels == _UNKNOWN
    if unknown.any():
        found = int(values[unknown][0])
        raise DatasetError(f"{where} holds the value {found}, expected {about}; is it a mask of this data set?")
    return labels
