"""The part of a `Segmenter` that takes examples: classes that are shown instead of named."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...bundle.errors import UsageError
from ...bundle.manifest import Manifest
from ...bundle.vocabulary import ClassNames
from ..inference.frame_processor import ActiveClasses
from ..inference.input_image import as_bgr
from ..vocabulary.class_vectors import ClassVectors, Progress
from .class_archive import pack, save
from .reader import ReadRegion, RegionReader
from .region import Box, Point, ShownRegion, mask_array
from .shown_classes import Example, ShownClasses
from .thumbnail import thumbnail


class TakesExamples(ABC):
    """What a segmenter does with examples; the attributes are the segmenter's."""

    _manifest: Manifest
    _class_vectors: ClassVectors
    _active: ActiveClasses | None
    _changing: threading.Lock  # held while other classes are made ready
    _shown: ShownClasses
    _reader: RegionReader | None  # of a bundle that was loaded

    @property
    @abstractmethod
    def active(self) -> ActiveClasses:
        """The classes in use."""

    @abstractmethod
    def _activate(self, parsed: tuple[ClassNames, ...], progress: Progress | None) -> ActiveClasses:
        """Look for other classes from the next frame on; `_changing` is held."""

    @abstractmethod
    def _refuse_closed(self) -> None:
        """Raise `UsageError` after `close`."""

    @property
    def classes(self) -> tuple[ClassNames, ...]:
        """The classes in use, named or shown. Raises `UsageError` before there are any."""
        active = self.active
        return active.classes

    @property
    def reads_examples(self) -> bool:
        """Whether examples can be shown: bundles of earlier versions take names only."""
        return self._reader is not None and self._reader.available

    @property
    def shown(self) -> ShownClasses:
        """The classes of which examples were shown, in use or not."""
        return self._shown

    def add_example(
        self,
        label: str,
        image: Any,
        *,
        mask: npt.ArrayLike | None = None,
        box: Box | None = None,
        point: Point | None = None,
        negative: bool = False,
        rgb: bool = False,
    ) -> ReadRegion:
        """Show a region of a picture, and look for what it shows as the class `label` from the next frame on.

        `image` is as for `predict`; the region is a `mask` (H, W), a `box` x, y, width, height, or a `point` x, y in
        pixels, which means the region under it. `negative`: the class is not this. Returns the region and its vector.
        A region is read with the bundle's FP32 graph on the CPU, whatever runs. May be called from another thread than
        `predict`. If it raises, classes and examples stay as they were. Raises `UsageError` for an empty region and for
        a bundle that cannot read examples, `BundleError`.

        >>> segmenter.add_example("my mug", image, box=(310, 120, 80, 95))
        """
        self._refuse_closed()
        if isinstance(label, str) and not label.strip(" \t\n|"):
            raise UsageError('the name of the example is empty; give one such as "my mug"')
        names = self._class_vectors.parse([label])[0]
        picture = as_bgr(image, rgb=rgb)
        read = self.regions.read(picture, ShownRegion(None if mask is None else mask_array(mask), box, point))
        near = () if negative else self._class_vectors.owners(read.winners, self.regions.space)
        small = thumbnail(picture, read.mask)
        with self._changing, self._shown.unchanged_on_error():
            active = () if self._active is None else self.classes
            key = names.label.casefold()  # which may be a synonym of a class in use
            owner = next((entry for entry in active if key in map(str.casefold, entry.names)), None)
            rivals = self._rivals(owner or names, near, negative=negative)
            example = Example(read.vector, not negative, near, small, read.fitted(self.regions.space.from_text(rivals)))
            self._shown.add((owner or names).label, example, self.regions.space)
            # Now, since the first example of what a class is not takes the place of a class.
            parsed = self._class_vectors.parse(map(str, active if owner else (*active, names)))
            self._activate(parsed, None)
        return read

    def _rivals(self, own: ClassNames, near: Sequence[str], *, negative: bool) -> npt.NDArray[np.float32]:
        """Text vectors (R, D) of all that competes with an example of the class `own`."""
        rows = [self._class_vectors.rivals(own, near)]
        if self._active is not None:
            classes = zip(self.classes, self._active.vocabulary.vectors, strict=False)
            rows += [vectors for entry, vectors in classes if negative or entry.names != own.names]
        flat = np.concatenate(rows)
        return flat[flat.any(axis=1)]  # zero rows are no names

    def undo_example(self) -> str:
        """Take back the example that was added last; returns its label. Raises `UsageError` without one.

        A class without a name that the model knows goes with its last example, unless it is the only one.
        """
        with self._changing, self._shown.unchanged_on_error():
            gone = self._shown.undo(self.regions.space)
            left = [entry for entry in self.classes if entry.label != gone.label]
            drop = left and not gone.examples and not self._class_vectors.is_trained(gone.label)
            self._activate(tuple(left) if drop else self.classes, None)
        return gone.label

    def pack_classes(self) -> bytes:
        """The classes in use as a file: names, vectors of what was shown, thumbnails."""
        return pack(self.classes, self._shown.all(), self._manifest.name, self.regions.identity)

    def save_classes(self, path: str | Path) -> None:
        """Write the classes in use to `path`, NAME.npz, for `set_classes("@NAME.npz")` with the same model.

        Raises `UsageError` where it cannot be written, or where something else stands.
        """
        save(Path(path), self.pack_classes())

    @property
    def regions(self) -> RegionReader:
        """What reads the regions of pictures. Raises `UsageError` for a segmenter without a bundle."""
        if self._reader is None:
            raise UsageError("this segmenter has no bundle to read examples with; open one with Segmenter.load")
        return self._reader
