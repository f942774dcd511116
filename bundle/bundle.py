"""`NAME.ovs/`: a folder with the graphs, the tokenizer and the manifest.

Its digests are checked when it is opened. It is written whole or not at all.

NAME.ovs/
  segmenter.onnx       image, text vectors -> labels, confidence
  text_encoder.onnx    token ids -> text vectors
  tokenizer.json       names -> token ids
  manifest.json        everything else
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .errors import BundleError, UsageError
from .files import replacing_folder
from .manifest import TEXT_ENCODER, TOKENIZER, Manifest
from .processor import has_vnni

MANIFEST = "manifest.json"
_FILE_LIMIT = 16 * 2**30  # bytes of any other file
_MANIFEST_LIMIT = 64 * 2**20  # bytes; a real one has some ten thousand


@dataclass(frozen=True)
class Bundle:
    """A bundle on disk whose files are as its manifest says."""

    path: Path
    manifest: Manifest
    force: bool = False  # whether a precision that failed its comparison is given out, too

    @classmethod
    def open(cls, path: str | Path, *, verify: bool = True, force: bool = False) -> Bundle:
        """Read the manifest and compare every file's digest. Raises `BundleError`."""
        path = Path(path)
        if not os.path.exists(path):  # also of a name that the system does not take
            raise BundleError(f"no bundle at {path}; make one with: ovs-export model.pt -o {path.stem}.ovs")
        if not os.path.isdir(path):
            raise BundleError(f"{path} is a file, expected a bundle folder (NAME.ovs); make one with ovs-export")
        manifest_path = path / MANIFEST
        try:
            if manifest_path.exists() and not manifest_path.is_file():
                raise BundleError(f"{manifest_path} is no regular file; copy the bundle again or export it again")
            if manifest_path.stat().st_size > _MANIFEST_LIMIT:
                raise BundleError(f"{manifest_path} is larger than {_MANIFEST_LIMIT} bytes; export the bundle again")
            text = manifest_path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise BundleError(f"cannot read {manifest_path} ({error}); export the bundle again") from error
        bundle = cls(path, Manifest.from_json(text, str(manifest_path)), force)
        if verify:
            bundle._verify()
        return bundle

    def _verify(self) -> None:
        digests = self.manifest.digests
        for needed in (*self.manifest.precisions.values(), TEXT_ENCODER, TOKENIZER):
            if needed not in digests:
                raise BundleError(f"{self.path}: the manifest has no digest for {needed}; export the bundle again")
        for name, expected in digests.items():
            file = self.path / name
            if not file.is_file():
                what = "is no regular file" if file.exists() else "is missing"
                raise BundleError(f"{self.path}: {name} {what}; copy the bundle again or export it again")
            if (size := file.stat().st_size) > _FILE_LIMIT:
                raise BundleError(f"{file} has {size >> 30} GiB, expected at most {_FILE_LIMIT >> 30}; export it again")
            found = sha256(file)
            if found != expected:
                raise BundleError(
                    f"{file} was altered: sha256 {found[:12]}…, the manifest says {expected[:12]}…; "
                    "copy the bundle again or export it again"
                )

    @property
    def digest(self) -> str:
        """Identity of the whole bundle: sha256 over the files' digests, in name order."""
        lines = "".join(f"{name} {digest}\n" for name, digest in sorted(self.manifest.digests.items()))
        return hashlib.sha256(lines.encode()).hexdigest()

    def fits_processor(self, precision: str) -> bool:
        """Whether this machine's processor has what the precision was made for."""
        verdict = self.manifest.verdicts.get(precision)
        return verdict is None or verdict.needs != "vnni" or has_vnni()

    def may_run(self, precision: str) -> bool:
        """Whether the bundle has a precision that passed its comparison with FP32 and fits this processor."""
        verdict = self.manifest.verdicts.get(precision)
        known = precision in self.manifest.precisions
        return known and verdict is not None and verdict.passed and self.fits_processor(precision)

    def graph(self, precision: str = "fp32") -> Path:
        """File of the segmenter in `precision`.

        Raises `UsageError` for one that is not there, or, unless forced, whose labels are too far from those of FP32.
        """
        if precision not in self.manifest.precisions:
            have = ", ".join(sorted(self.manifest.precisions))
            raise UsageError(f"{self.path} has no precision {precision!r}; it has: {have}")
        verdict = self.manifest.verdicts.get(precision)
        if verdict is not None and not verdict.passed and not self.force:
            found = f"{verdict.agreement:.2%} of its labels are those of fp32, expected {verdict.bar:.0%}"
            raise UsageError(
                f"{precision} of {self.path} failed its comparison: "
                f"{found if verdict.finite else 'it gives numbers that are not finite'}; "
                "use another precision, calibrate with other photos, or insist with --force"
            )
        return self.path / self.manifest.precisions[precision]


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


@contextmanager
def written_whole(target: str | Path, marker: str = MANIFEST, kind: str = "bundle") -> Iterator[Path]:
    """A temporary folder that becomes the bundle `target` when the block ends well; see `replacing_folder`."""
    with replacing_folder(Path(target), marker, kind) as work:
        yield work
