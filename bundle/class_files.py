"""Files with class names: `--classes @FILE`. Each form gives entries as `parse_class_entries` takes them.

    text    classes separated by lines or commas, `|` between synonyms, `#` starts a comment line; lines may be numbered
            one after the other ("0: cat", "1 dog", "2. bird", "3,fish"); a name that holds a comma stands in double quotes
    JSON    ["cat", "bike|bicycle"], [["bike", "bicycle"]], {"0": "cat"}, or either under "names", "classes" or
            "categories", or a list of objects with a "name", as COCO's "categories"
    YAML    the same, as in YOLO's data.yaml; also `- cat` line by line, without a key
    table   comma- or tab-separated, with a column called name, names, class, label or category

UTF-8, with or without a byte order mark, and UTF-16 or UTF-32 with one.
"""

from __future__ import annotations

import codecs
import csv
import json
import re
from pathlib import Path
from typing import Any

from .errors import UsageError
from .files import told_while_waiting
from .image_files import HEAD, file_kind

_LIMIT = 4 * 2**20  # bytes; ten thousand names have some hundred thousand
_MARKS = (  # the longer ones first: UTF-32's begins with UTF-16's
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_NUMBERED = re.compile(r"\s*([0-9]{1,5})\s*(?:[:.),\t]\s*|\s)\s*(\S.*)")
_ENTRY = re.compile(r'\s*"([^"]*)"\s*(?:,|$)|([^,]+)')
_KEYS = ("names", "classes", "categories", "id2label")  # under which a document lists its classes
_YAML = re.compile(rf"^(?:{'|'.join(_KEYS)})[ \t]*:(?:[ \t]|$)", re.MULTILINE)
_YAML_LIST = re.compile(r"-[ \t]+\S.*")
_BULLET = re.compile(r"[*+•][ \t]+(\S.*)")
_LAST_NUMBER = re.compile(r"(.*\S)[ \t]+([0-9]{1,5})")
_SYNSET = re.compile(r"n[0-9]{8}")  # WordNet's number of a meaning, as lists of ImageNet have it before the names
_BEFORE_NAMES = re.compile(_SYNSET.pattern + r"[\s,:]+(\S.*)")
_COMMENT = re.compile(r"\s#(\s.*)?$")
_NO_NAME = re.compile(r"[{}\[\]<>=;]|^//|^\||^[^\w\s]+$")  # what names do not hold: code, markup, rows of a table
_SECTION = re.compile(r"\[{1,2}[\w.-]+\]{1,2}[ \t]*$", re.MULTILINE)
_NOT_SHOWN = frozenset({"__ignore__", "_background_"})  # LabelMe's entries for what is no class
_NAME_COLUMNS = frozenset({"name", "names", "class", "classes", "label", "labels", "category", "class_name"})
_EXPECTED = "expected one class per line, a JSON or YAML list, or a table with a column called name"


def read_text(path: Path) -> str:
    """Text of a file of at most 4 MiB; raises `UsageError`. A device or pipe is read no further than that.

    While a pipe has no writer, it is waited for, and a note says so.
    """
    try:
        with told_while_waiting(path, "writes to"), path.open("rb") as stream:
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
    text = read_text(path).replace("\r\n", "\n").replace("\r", "\n")
    if (kind := file_kind(text[:HEAD].encode())) is not None:
        raise UsageError(f"{path} is {kind}, not a list of classes; {_EXPECTED}")
    if text.lstrip()[:1] in ("[", "{"):
        return _from_json(text.lstrip(), path)
    lines = [line for line in text.split("\n") if line.strip() and not line.lstrip().startswith("#")]
    entries = [line for line in lines if line.strip() != "---"]
    if _YAML.search(text) is not None or (entries and all(_YAML_LIST.fullmatch(line) for line in entries)):
        return _from_yaml(text, path)
    if lines and (column := _name_column(lines)) is not None:
        return column
    lines = _without_numbers([_COMMENT.sub("", line) for line in lines])
    for line in lines:
        if (sign := _NO_NAME.search(line.strip())) is not None:
            raise UsageError(
                f"{path} holds the line {line.strip()[:40]!r}, where {sign[0][:9]!r} is no part of a name; {_EXPECTED}"
            )
    _refuse_tables(lines, path)
    return [entry for line in lines for entry in _split(line) if entry.strip() not in _NOT_SHOWN]


def _split(line: str) -> list[str]:
    """The entries of a line; a comma within double quotes separates nothing."""
    return [quoted or plain for quoted, plain in _ENTRY.findall(line) if quoted or plain]


def _without_numbers(lines: list[str]) -> list[str]:
    """Lines that are numbered one after the other, from 0 or 1 on, lose their numbers; so do bullets and synsets."""
    if len(lines) < 2:
        return lines
    for pattern in (_BULLET, _BEFORE_NAMES):
        found = [pattern.fullmatch(line.strip()) for line in lines]
        if all(found):
            lines = [match[1] for match in found if match is not None]
    for pattern, number, name in ((_NUMBERED, 1, 2), (_LAST_NUMBER, 2, 1)):
        found = [pattern.fullmatch(line) for line in lines]
        numbers = [int(match[number]) for match in found if match is not None]
        if (
            len(numbers) == len(lines)
            and numbers[0] <= 1
            and numbers == list(range(numbers[0], numbers[0] + len(lines)))
        ):
            return [match[name] for match in found if match is not None]
    return lines


def _name_column(lines: list[str]) -> list[str] | None:
    """The names in a table whose first line says which column they are in; None for what is no such table."""
    for separator in (",", "\t", ";"):
        head = [field.strip().strip('"').lower().replace(" ", "_") for field in lines[0].split(separator)]
        named = [place for place, field in enumerate(head) if field in _NAME_COLUMNS]
        if len(head) < 2 or len(named) != 1:
            continue
        rows = list(csv.reader(lines[1:], delimiter=separator, skipinitialspace=True))
        if rows and all(len(row) == len(head) for row in rows):
            return [row[named[0]].strip() for row in rows]
    return None


def _refuse_tables(lines: list[str], path: Path) -> None:
    """Raise `UsageError` for lines of several fields, one of which is a number in each."""
    rows = [_split(line) for line in lines]
    width = len(rows[0]) if rows else 0
    if len(rows) < 2 or width < 2 or any(len(row) != width for row in rows):
        return
    if any(all(row[place].strip().isdigit() for row in rows[1:]) for place in range(width)):  # the first may be a head
        raise UsageError(
            f"{path} looks like a table of {width} columns, one of them numbers ({lines[0][:40]!r}); {_EXPECTED}"
        )


def _from_json(text: str, path: Path) -> list[str]:
    if text.startswith("[") and _SECTION.match(text) is not None:
        raise UsageError(f"{path} looks like TOML or INI ({text[:30].splitlines()[0]!r}); {_EXPECTED}")
    try:
        value = json.loads(text)
    except RecursionError as error:
        raise UsageError(f"{path} begins like JSON and is nested too deeply; {_EXPECTED}") from error
    except ValueError as error:
        value = _json_lines(text)
        if value is None:
            raise UsageError(f"{path} begins like JSON and is none ({error}); {_EXPECTED}") from error
    return _from_document(value, path)


def _json_lines(text: str) -> list[Any] | None:
    """The values of JSON lines, one a line; None for what is no such text."""
    try:
        return [json.loads(line) for line in text.splitlines() if line.strip()]
    except (ValueError, RecursionError):
        return None


def _from_yaml(text: str, path: Path) -> list[str]:
    import yaml  # not above: it would take 8 ms of every start, and most class lists are not YAML

    # Every scalar is text, so that "no" and "8" stay names.
    loader = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
    try:
        for event in yaml.parse(text, loader):
            if (tag := getattr(event, "tag", None)) is not None:
                raise UsageError(f"{path} holds the tag {tag[:40]!r}, expected plain names; {_EXPECTED}")
        value = yaml.load(text, loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:120]
        raise UsageError(f"{path} is written like YAML and does not parse ({reason}); {_EXPECTED}") from error
    return _from_document(value, path)


def _from_document(value: Any, path: Path) -> list[str]:
    """The classes of a JSON or YAML document: its list, or the values of its mapping, or those under a known key."""
    if isinstance(value, dict):
        key = next((key for key in _KEYS if key in value), None)
        value = value if key is None else value[key]
        if key is not None and not isinstance(value, (dict, list)):
            raise UsageError(f"{path} has {key}: that are no list ({_shown(value)}); {_EXPECTED}")
    if isinstance(value, dict):
        value = list(value.values())
    return [_entry(item, path) for item in value] if isinstance(value, list) else [_entry(value, path)]


def _entry(item: Any, path: Path) -> str:
    """One class: a name, a list of synonyms, or an object with a name."""
    named = item.get("names", item.get("name")) if isinstance(item, dict) else item
    if isinstance(named, str):
        return named
    if isinstance(named, list) and named and all(isinstance(name, str) for name in named):
        return "|".join([name for name in named if _SYNSET.fullmatch(name) is None] or named)
    raise UsageError(f"{path} holds {_shown(item)} as a class, expected a name or a list of synonyms; {_EXPECTED}")


def _shown(item: Any) -> str:
    """The beginning of a value; what is nested stays short, since aliases may stand for gigabytes."""
    if isinstance(item, dict):
        item = {
            str(key)[:20]: "…" if isinstance(value, (dict, list)) else value for key, value in list(item.items())[:3]
        }
    elif isinstance(item, list):
        item = ["…" if isinstance(value, (dict, list)) else value for value in item[:3]]
    return json.dumps(item, ensure_ascii=False)[:60]
