"""The photos that parity is measured on, preprocessed as the runtime does."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..bundle.errors import MissingExtraError, SourceError
from ..bundle.image_files import is_image_name
from ..runtime.capture.photos import read_photo
from ..runtime.inference.preprocess import to_input

PACKAGED = ("astronaut.png", "coffee.png", "chelsea.png", "rocket.jpg")  # scikit-image's, terms in its data folder
MOST = 8  # photos taken of a folder; more would only take longer


def photo_inputs(folder: Path | None, size: tuple[int, int]) -> list[npt.NDArray[np.uint8]]:
    """Inputs uint8 (1, H, W, 3) BGR from the photos of `folder`, or from those that come with scikit-image.

    Raises `SourceError` for a folder without photos or a photo that cannot be read.
    """
    paths = _packaged() if folder is None else _listed(folder)
    return [to_input(read_photo(path), size)[0] for path in paths]


def _packaged() -> list[Path]:
    spec = importlib.util.find_spec("skimage")
    for place in (spec.submodule_search_locations or ()) if spec is not None else ():
        paths = [Path(place) / "data" / name for name in PACKAGED]
        if all(path.is_file() for path in paths):
            return paths
    raise MissingExtraError(
        "parity is measured on scikit-image's photos, which are not installed; they come with the extra 'export': "
        "pip install 'ovs-edge[export]', or name a folder of photos with --images"
    )


def _listed(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise SourceError(f"--images {folder} is not a folder; expected one that holds photos")
    try:
        paths = sorted(path for path in folder.iterdir() if is_image_name(path) and path.is_file())
    except OSError as error:
        raise SourceError(f"cannot list {folder} ({error.strerror}); check its permissions") from error
    if not paths:
        raise SourceError(f"the folder {folder} holds no photos; expected files such as .jpg or .png")
    step = max(1, len(paths) // MOST)
    return paths[::step][:MOST]
