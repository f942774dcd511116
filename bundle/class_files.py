"""Files with class names: `--classes @FILE`. Each form gives entries as `parse_class_entries` takes them.

    text    classes separated by lines or commas, `|` between synonyms, `#` starts a comment line; lines may be numbered
            one after the other ("0: cat", "1 dog", "2. bird"); a name that holds a comma stands in double quotes
    JSON    ["cat", "bike|bicycle"], [["bike", "bicycle"]], {"0": "cat"}, or either under "names" or "classes", or a list
            of objects with a "name", as COCO's "categories"
    YAML    a `names:` list or mapping, as in YOLO's data.yaml

UTF-8, with or without a byte order mark, and UTF-16 or UTF-32 with one.
"""

from __future__ import annotations

import codecs
import json
import re
from pathlib import Path
from typing import Any

from .errors import UsageError
from .image_files import file_kind

_LIMIT = 4 * 2**20  # bytes; ten thousand names have some hundred thousand
_MARKS = (  # the longer ones first: UTF-32's begins with UTF-16's
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_NUMBERED = re.compile(r"\s*([0-9]{1,5})\s*(?:[:.)\t]\s*|\s)\s*(\S.*)")
_ENTRY = re.compile(r'\s*"([^"]*)"\s*(?:,|$)|([^,]+)')
_YAML_NAMES = re.compile(r"^names[ \t]*:[ \t]*(.*)$", re.MULTILINE)
_EXPECTED = "expected one class per line, a JSON list, or YAML with names:"


def read_text(path: Path) -> str:
    """Text of a file of at most 4 MiB; raises `UsageError`. A device or pipe is read no further than that."""
    try:
        with path.open("rb") as stream:
            data = stream.read(_LIMIT + 1)
    except (OSError, ValueError) as error:
        raise UsageError(
            f"cannot read the list {str(path)!r} ({error.strerror if isinstance(error, OSError) else error}); {_EXPECTED}"
        ) from error
    if len(data) > _LIMIT:
        raise UsageError(f"{path} is larger than {_LIMIT >> 20} MiB; {_EXPECTED}")
    encoding = next((name for mark, name in _MARKS if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        kind = file_kind(data[:64])
        found = f"it is {kind}" if kind else f"byte {data[error.start]:#04x} at {error.start} is not {encoding}"
        raise UsageError(f"cannot read {path} as text ({found}); save it as UTF-8") from error
    if "\0" in text:
        raise UsageError(f"{path} is not text, or UTF-16 without a byte order mark; save it as UTF-8")
    return text


def read_class_entries(path: Path) -> list[str]:
    """Entries of a class file, `"bike|bicycle"` each; raises `UsageError` that says what was found."""
    text = read_text(path)
    if text.lstrip()[:1] in ("[", "{"):
        return _from_json(text, path)
    names = _YAML_NAMES.search(text)
    if names is not None:
        return _from_yaml(text, names, path)
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    return [entry for line in _without_numbers(lines) for entry in _split(line)]


def _split(line: str) -> list[str]:
    """The entries of a line; a comma within double quotes separates nothing."""
    return [quoted or plain for quoted, plain in _ENTRY.findall(line) if quoted or plain]


def _without_numbers(lines: list[str]) -> list[str]:
    """Lines that are numbered one after the other, from 0 or 1 on, lose their numbers."""
    found = [_NUMBERED.fullmatch(line) for line in lines]
    parts = [match for match in found if match is not None]
    first = int(parts[0][1]) if parts else 0
    if len(parts) < max(2, len(lines)) or first > 1:
        return lines
    if [int(match[1]) for match in parts] != list(range(first, first + len(parts))):
        return lines
    return [match[2] for match in parts]


def _from_json(text: str, path: Path) -> list[str]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} begins like JSON and is none ({error}); {_EXPECTED}") from error
    if isinstance(value, dict):
        value = next((value[key] for key in ("names", "classes", "categories") if key in value), value)
    if isinstance(value, dict):
        value = list(value.values())
    return [_entry(item, path) for item in value] if isinstance(value, list) else [_entry(value, path)]


def _entry(item: Any, path: Path) -> str:
    """One class: a name, a list of synonyms, or an object with a name."""
    if isinstance(item, dict):
        item = item.get("names", item.get("name"))
    if isinstance(item, str):
        return item
    if isinstance(item, list) and item and all(isinstance(name, str) for name in item):
        return "|".join(item)
    raise UsageError(f"{path} holds {json.dumps(item)[:60]} as a class, expected a name or a list of synonyms")


def _from_yaml(text: str, names: re.Match[str], path: Path) -> list[str]:
    """The names of YOLO's data.yaml, without a YAML package: a list in brackets, or indented lines."""
    inline = names[1].split(" #")[0].strip()
    if inline.startswith("[") and inline.endswith("]"):
        return [_scalar(part) for part in inline[1:-1].split(",") if part.strip()]
    entries = []
    for line in text[names.end() :].splitlines():
        body = line.split(" #")[0].rstrip()
        if not body.strip() or body.lstrip().startswith("#"):
            continue
        found = re.fullmatch(r"\s*-\s+(\S.*)|\s+[\"']?\w+[\"']?\s*:\s*(\S.*)", body)
        if found is None:
            break  # the next key
        entries.append(_scalar(found[1] or found[2]))
    if inline or not entries:
        raise UsageError(f"{path} has names: that are no list ({inline[:40]!r}); {_EXPECTED}")
    return entries


def _scalar(text: str) -> str:
    text = text.strip()
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'" else text
