"""Photos and masks in folders: which belong together, and why the others were left out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from ..bundle.image_files import is_image_name
from .labelled import LabelledFile
from .mask_files import MASK_SUFFIXES

_NO_FILES = frozenset({"thumbs.db", "desktop.ini"})  # what a file manager leaves in a folder of photos

Paired = tuple[tuple[LabelledFile, ...], tuple[str, ...]]  # files, and what was left out and why


def pair(images: Iterable[Path], mask_of: Callable[[Path], Path]) -> Paired:
    """Photos with their masks, and what is missing."""
    files, skipped = [], []
    for image in images:
        mask = mask_of(image)
        if not image.is_file():
            skipped.append(f"{image.name}: no such photo")
        elif not mask.is_file():
            skipped.append(f"{image.name}: no mask {mask.name}")
        else:
            files.append(LabelledFile(image, mask))
    return tuple(files), tuple(skipped)


def pair_folders(images: Path, masks: Path, background: Path) -> Paired:
    """Photos of a folder with the masks, and background maps, that have their names but for the suffix."""
    by_stem, maps = masks_by_stem(masks), masks_by_stem(background)
    near = f"{masks.parent.name}/{masks.name}"
    files: list[LabelledFile] = []
    skipped: list[str] = []
    used: dict[str, Path] = {}
    for image in _files(images):
        if not is_image_name(image):
            skipped.append(f"{image.name}: not a photo by its suffix")
        elif image.stem in used:
            skipped.append(f"{image.name}: {used[image.stem].name} has the same name and takes the mask")
        elif image.stem in by_stem:
            used[image.stem] = image
            files.append(LabelledFile(image, by_stem[image.stem], background=maps.get(image.stem)))
        else:
            skipped.append(f"{image.name}: no mask {near}/{image.stem}.png{_near_miss(masks, image.stem)}")
    stems = {image.stem for image in _files(images)}
    skipped += [f"{near}/{path.name}: no photo" for stem, path in by_stem.items() if stem not in stems]
    return tuple(files), tuple(skipped)


def _files(folder: Path) -> list[Path]:
    """Files of a folder that are not hidden, sorted; none if there is no such folder."""
    if not folder.is_dir():
        return []
    return sorted(
        path
        for path in folder.iterdir()
        if not path.name.startswith(".") and path.name.lower() not in _NO_FILES and path.is_file()
    )


def masks_by_stem(folder: Path) -> dict[str, Path]:
    """Masks of a folder by their names without suffix."""
    found: dict[str, Path] = {}
    order = {suffix: place for place, suffix in enumerate(MASK_SUFFIXES)}
    masks = [path for path in _files(folder) if path.suffix.lower() in order]
    for path in sorted(masks, key=lambda path: order[path.suffix.lower()]):
        found.setdefault(path.stem, path)
    return dict(sorted(found.items()))


def _near_miss(folder: Path, stem: str) -> str:
    """What lies there instead of a mask of that name."""
    near = [path.name for path in _files(folder) if path.name.startswith(stem)]
    if near:
        return f"; there is {near[0]}"
    return "" if folder.is_dir() else f"; there is no folder {folder}"


def told(reasons: Sequence[str], shown: int = 5) -> list[str]:
    """The first of the reasons why files were left out, and how many more there are."""
    more = len(reasons) - shown
    return [*reasons[:shown], *([f"and {more} more"] if more > 0 else [])]
