"""The manifest: read strictly, whatever it holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ovs_edge.bundle.errors import BundleError
from ovs_edge.bundle.manifest import SCHEMA, Manifest

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)


@pytest.fixture(scope="module")
def text(tiny_bundle: Path) -> str:
    return (tiny_bundle / "manifest.json").read_text(encoding="utf-8")


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, item in items for place in _places(item, (*path, key)))]


def test_what_is_written_reads_back(text: str) -> None:
    manifest = Manifest.from_json(text)
    assert manifest.input_size == (48, 64)
    assert manifest.to_json() == text


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300, deadline=None)
@given(data=st.data())
def test_a_changed_manifest_is_refused_or_sound(text: str, data: st.DataObject) -> None:
    raw = json.loads(text)
    for _ in range(data.draw(st.integers(1, 3))):
        path = data.draw(st.sampled_from(_places(raw)))
        if not path:
            raw = data.draw(json_values)
            break
        parent = raw
        for key in path[:-1]:
            parent = parent[key]
        if data.draw(st.booleans()):
            parent[path[-1]] = data.draw(json_values)
        elif isinstance(parent, dict) and data.draw(st.booleans()):
            parent[data.draw(st.text(max_size=8))] = parent.pop(path[-1])
        else:
            del parent[path[-1]]
        if not isinstance(raw, (dict, list)):
            break
    _refused_or_sound(json.dumps(raw))


@given(st.text(max_size=200))
def test_any_text_is_refused_or_sound(text: str) -> None:
    _refused_or_sound(text)


def _refused_or_sound(text: str) -> None:
    try:
        manifest = Manifest.from_json(text)
    except BundleError as error:
        assert "\n" not in str(error)
        return
    assert Manifest.from_json(manifest.to_json()) == manifest or "NaN" in text
    assert min(manifest.input_size) >= 1


def test_a_newer_schema_says_so(text: str) -> None:
    raw = json.loads(text)
    raw["schema"] = SCHEMA + 1
    raw["something_new"] = 1
    with pytest.raises(BundleError, match="update ovs-edge"):
        Manifest.from_json(json.dumps(raw))


@pytest.mark.parametrize("name", ["../evil", "a/b", "a\\b", "", "..", "manifest.json", "nul\0"])
def test_file_names_stay_inside_the_bundle(text: str, name: str) -> None:
    raw = json.loads(text)
    raw["precisions"]["fp16"] = name
    with pytest.raises(BundleError, match="plain name"):
        Manifest.from_json(json.dumps(raw))


def test_a_panoptic_graph_gives_what_segments_are_made_of(text: str) -> None:
    raw = json.loads(text)
    raw["graph"]["task"] = "panoptic"
    with pytest.raises(BundleError, match="mask_logits"):
        Manifest.from_json(json.dumps(raw))
    del raw["graph"]["task"]  # as bundles had it before there was a choice
    assert Manifest.from_json(json.dumps(raw)).graph.task == "semantic"
