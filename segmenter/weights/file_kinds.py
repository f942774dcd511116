"""What a file is that was given as a checkpoint but is not one: a failed download, a pointer, an archive."""

from __future__ import annotations

import zipfile
from pathlib import Path

TORCH_MAGIC = (
    b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."  # of a file by torch before 1.6; later ones are zip archives
)
_LOOKED_AT = 1024  # bytes at the start of a file
_BLOCK = 2**20  # bytes read at a time

_ARCHIVES = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"7z\xbc\xaf": "7z",
    b"Rar!": "rar",
}
_OTHERS = {
    b"\x89HDF": "an HDF5 file (Keras), not a checkpoint of PyTorch",
    b"GGUF": "a GGUF file (llama.cpp), not a checkpoint of PyTorch",
    b"\x7fELF": "a program or library, not a checkpoint",
    b"\x89PNG": "a picture, not a checkpoint",
    b"\xff\xd8\xff": "a picture, not a checkpoint",
    b"%PDF": "a PDF document, not a checkpoint",
}


def file_kind(path: Path) -> str | None:
    """What the file is and what to do about it, to follow "… is "; None for what may be a checkpoint.

    Told by the first bytes alone; nothing of the file is loaded.
    """
    try:
        with path.open("rb") as stream:
            start = stream.read(_LOOKED_AT)
    except OSError as error:
        return f"not readable ({error.strerror}); check its permissions"
    if not start:
        return "empty: the download or the copy failed; fetch it again"
    if not any(start) and _only_zeros(path):
        return "not a checkpoint (it holds only zero bytes: the copy failed); copy it again"
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the file it stands for; run: git lfs pull"
    if text.startswith(b"<?xml") and b"<html" not in text.lower():
        return (
            "an XML document, not a checkpoint: the download failed, and the server's error was saved instead; read it, "
            "and fetch the checkpoint again"
        )
    if text[:15].lower().startswith((b"<!doctype", b"<html", b"<head", b"<body", b"<?xml", b"<!--")):
        return (
            "a web page, not a checkpoint: the download failed, and a page for a browser was saved instead; open the "
            "address in a browser and download the file from there"
        )
    for begin, name in _ARCHIVES.items():
        if start.startswith(begin):
            return f"a {name} archive; unpack it and give the checkpoint in it"
    if start[257:262] == b"ustar":
        return "a tar archive; unpack it and give the checkpoint in it"
    for begin, name in _OTHERS.items():
        if start.startswith(begin):
            return f"{name}; expected a model.pt from ovs-train, or a published file"
    if start.startswith(b"PK"):
        return _zip_kind(path)
    # The first eight bytes of safetensors are the length of its header, which may begin like a bracket.
    if text.startswith((b"{", b"[")) and not (path.suffix == ".safetensors" and start[5:8] == bytes(3)):
        return "JSON text, not a checkpoint; the weights are in another file"
    return None


def _zip_kind(path: Path) -> str | None:
    """A zip archive that torch did not write, or one that is damaged; None for one of torch's."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return f"cut short or damaged (a zip archive without its table of contents, {_size(path)}); copy it again"
    if any(name.rpartition("/")[2] in ("data.pkl", "constants.pkl") for name in names):
        return None
    inside = ", ".join(names[:3])
    return f"a zip archive of other files ({inside}…); unpack it and give the checkpoint in it"


def _only_zeros(path: Path) -> bool:
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            if block.count(0) < len(block):
                return False
    return True


def _size(path: Path) -> str:
    return f"{path.stat().st_size:,} bytes"
