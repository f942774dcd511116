"""Files with class names, in the forms that tools write them."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovs_edge.bundle.class_files import read_class_entries
from ovs_edge.bundle.errors import UsageError
from ovs_edge.bundle.vocabulary import parse_class_entries, parse_classes


def labels(path: Path) -> list[str]:
    return [entry.label for entry in parse_classes(f"@{path}", 100)]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cat\n# none\n\ndog, bird\n", ["cat", "dog", "bird"]),
        ('"building, edifice"\nroad, "sofa, couch|settee" ,cat\n', ["building, edifice", "road", "sofa, couch", "cat"]),
        ('0: "a, b"\n1: dog\n', ["a, b", "dog"]),
        ('5" pipe\n"half, open\nwall "B", door,,\n', ['5" pipe', '"half', "open", 'wall "B"', "door"]),
        ("0: cat\n1: dog\n", ["cat", "dog"]),
        ("1 cat\r\n2 traffic light\r\n", ["cat", "traffic light"]),
        ("0\tcat\n1\tdög\n", ["cat", "dög"]),
        ("1. cat\n2. dog\n", ["cat", "dog"]),
        ("3 cats\n", ["3 cats"]),  # one line is no numbering, nor are numbers that do not follow each other
        ("3 cats\n7 dogs\n", ["3 cats", "7 dogs"]),
        ('["cat","dog"]', ["cat", "dog"]),
        ('["sofa, couch", "bike|bicycle"]', ["sofa, couch", "bike"]),
        ('[["cat", "kitten"], "dog"]', ["cat", "dog"]),
        ('{"0": "cat", "1": "dog"}', ["cat", "dog"]),
        ('{"path": ".", "names": {"0": "cat", "1": "dog"}}', ["cat", "dog"]),
        ('{"categories": [{"id": 7, "name": "cat"}, {"id": 9, "name": "dog"}]}', ["cat", "dog"]),
        ("names:\n  0: cat\n  1: dog\n", ["cat", "dog"]),
        ("path: ../data\nnames:\n  - cat\n  - 'traffic light'  # red\n\nnc: 2\n", ["cat", "traffic light"]),
        ("nc: 2\nnames: [cat, 'dog']\n", ["cat", "dog"]),
        ("- cat\n# none\n- traffic light\n", ["cat", "traffic light"]),
        ("---\n- cat\n- [sofa, couch]\n- no\n- 8\n", ["cat", "sofa", "no", "8"]),
        ("classes:\n  - cat\n  - name: dog\n    id: 2\n", ["cat", "dog"]),
        ("names: {0: cat, 1: dog}\ntrain: images\n", ["cat", "dog"]),
        ("id,name\n0,cat\n7,traffic light\n", ["cat", "traffic light"]),
        ("Class Name,Index\ncat,0\ndog,1\n", ["cat", "dog"]),
        ('label;colour\n"cat, small";red\ndog;blue\n', ["cat, small", "dog"]),
        ("name\tid\ncat\t1\ndog\t2\n", ["cat", "dog"]),
        ("0,cat\n1,dog\n", ["cat", "dog"]),
        ("path: .\r\nnames:\r\n  0: cat\r\n  1: dog\r\n", ["cat", "dog"]),
        ("cat\rdog\r", ["cat", "dog"]),
        ("* cat\n* dog\n", ["cat", "dog"]),
        ("cat  # a cat\nC#\n", ["cat", "C#"]),
        ("cat 0\ndog 1\n", ["cat", "dog"]),
        ("n02123045 tabby cat\nn02099601 golden retriever\n", ["tabby cat", "golden retriever"]),
        ('{"0": ["n02123045", "tabby"], "1": ["n02099601", "retriever"]}', ["tabby", "retriever"]),
        ('{"id2label": {"0": "cat", "1": "dog"}, "label2id": {"cat": 0}}', ["cat", "dog"]),
        ('{"id": 0, "name": "cat"}\n{"id": 1, "name": "dog"}\n', ["cat", "dog"]),
        ("__ignore__\n_background_\ncat\ndog\n", ["cat", "dog"]),
        ("cat,dog\nbird,fish\n", ["cat", "dog", "bird", "fish"]),  # commas separate classes
        ("name,label\n", ["name", "label"]),
    ],
)
def test_forms(tmp_path: Path, encoding: str, text: str, expected: list[str]) -> None:
    file = tmp_path / "classes"
    file.write_bytes(text.encode(encoding))
    assert labels(file) == expected


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"caf\xe9\n", "save it as UTF-8"),
        ("cat\n".encode("utf-16-le"), "byte order mark"),
        (b"\x89PNG\r\n\x1a\n" + b"\xff" * 60, "PNG"),
        (b'["cat", ', "begins like JSON"),
        (b"[" * 100_000, "begins like JSON"),
        (b'["cat", 7]', "holds 7 as a class"),
        (b'[{"id": 1}]', 'holds {"id": 1} as a class'),
        (b'{"a": {"b": [1]}}', r'holds \{"b": "…"\} as a class'),
        (b'names = ["cat", "dog"]\n', "no part of a name"),
        (b"[classes]\ncat = 0\n", "looks like TOML or INI"),
        (b'[[classes]]\nname = "cat"\n', "looks like TOML or INI"),
        (b'// names\n["cat"]\n', "no part of a name"),
        (b"item {\n  id: 1\n}\n", "no part of a name"),
        (b"| id | name |\n|---|---|\n| 0 | cat |\n", "no part of a name"),
        (b"CLASSES = ('cat', 'dog')\n", "no part of a name"),
        (b"<names><name>cat</name></names>\n", "no part of a name"),
        (b"cat;dog\n", "';' is no part of a name"),
        (b'names:\n  - !!python/object/apply:os.system ["echo hi"]\n', "holds the tag"),
        (b"cat,7\ndog,9\n", "looks like a table of 2 columns"),
        (b"id,colour\n0,red\n1,blue\n", "looks like a table of 2 columns"),
        (b"names: [a, b\n", "does not parse"),
        (b"names:\n  - cat\n - dog\n", "does not parse"),
        (b"- cat\n- {a: [b, c]}\n", r'holds \{"a": "…"\} as a class'),
        (b"<!DOCTYPE html>\n<p>Not found\n", "is a web page, not a list of classes"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        (b"- &a [x, x]\n" + b"".join(b"- &%d [*a, *a]\n" % n for n in range(3)), "as a class"),
        (b"{}", "list of classes is empty"),
        (b"names: all of them\n", "no list"),
        (b"names:\n", "no list"),
        (b"x" * (4 * 2**20 + 1), "larger than 4 MiB"),
        (b"", "list of classes is empty"),
    ],
)
def test_what_is_refused(tmp_path: Path, data: bytes, says: str) -> None:
    file = tmp_path / "classes"
    file.write_bytes(data)
    with pytest.raises(UsageError, match=says):
        labels(file)


def test_an_endless_device_and_a_pipe(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="larger than"):
        labels(Path("/dev/zero"))
    with pytest.raises(UsageError, match="cannot read"):
        labels(tmp_path)
    os.mkfifo(pipe := tmp_path / "pipe")
    writer = threading.Thread(target=lambda: pipe.write_text("cat\ndog\n"))
    writer.start()
    assert labels(pipe) == ["cat", "dog"]
    writer.join()


def test_composed_and_decomposed_letters_are_one_class() -> None:
    (entry,) = parse_class_entries(["caf\u00e9", "cafe\u0301"], 5)
    assert entry.names == ("caf\u00e9",)


@given(st.binary(max_size=300))
def test_any_bytes_give_entries_or_one_line(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    file = tmp_path_factory.getbasetemp() / "any"
    file.write_bytes(data)
    try:
        entries = read_class_entries(file)
    except UsageError as error:
        assert "\n" not in str(error)
    else:
        assert all(isinstance(entry, str) for entry in entries)


@given(st.lists(st.text(st.characters(categories=["L"]), min_size=1, max_size=9), min_size=1, max_size=9))
def test_json_lists_survive(tmp_path_factory: pytest.TempPathFactory, names: list[str]) -> None:
    file = tmp_path_factory.getbasetemp() / "names.json"
    file.write_text(json.dumps(names), encoding="utf-8")
    assert read_class_entries(file) == names
