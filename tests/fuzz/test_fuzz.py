"""Whatever is typed or read: an answer or one clear line, never a traceback, a hang, or a file changed elsewhere.

A few hundred inputs of each kind with every run of the tests; `pytest -m nightly tests/fuzz` takes minutes.
"""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
import pytest
import typer.main
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from ovs_edge.bundle.addresses import redact
from ovs_edge.bundle.errors import OvsError
from ovs_edge.bundle.manifest import Manifest
from ovs_edge.bundle.vocabulary import parse_classes
from ovs_edge.calibration.labelled import LabelledPhotos
from ovs_edge.data.datasets import open_dataset
from ovs_edge.models import default_bundle
from ovs_edge.runtime import cli
from ovs_edge.runtime.capture import registry
from ovs_edge.runtime.capture.source import SourceRequest

SLOWEST = 10.0  # seconds that any one input may take, without those in which other programs had the processor
FEW = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
MANY = settings(max_examples=20_000, deadline=None, suppress_health_check=list(HealthCheck))

SECRET = "S3cretS3cret"
TEXT = st.text(max_size=60)
# Pieces that parsers give a meaning to, so that generated texts get past their first look.
PIECES = st.sampled_from(
    ["://", "rtsp", "http", "csi", "screen", "srt", "file", "@", ":", "/", "?", "&", "=", "#", "|", ",", "%20", "..", "~", "*",
     "[", "]", "\\", '"', "'", "\n", "\t", "\0", "\ufeff", "\u200b", "-", "0", "127.0.0.1:9", "cat", "猫", "person", "demo"]
)  # fmt: skip
MIXED = st.lists(st.one_of(PIECES, st.text(max_size=6)), max_size=12).map("".join)


def now() -> float:
    """Seconds that count: a clock that stands still while this thread waits for a processor (Linux)."""
    waited = 0.0
    with suppress(OSError):
        waited = int(Path("/proc/thread-self/schedstat").read_text().split()[1]) * 1e-9
    return time.monotonic() - waited


def one_line_or_answer(call: Callable[[], object]) -> None:
    """Run `call`: it returns, or raises `OvsError` with one line; in time."""
    start = now()
    try:
        call()
    except OvsError as error:
        text = str(error)
        assert text, "an error without a word"
        assert "\n" not in text
        assert "Traceback" not in text
    assert now() - start < SLOWEST


def fuzz(body: Callable[..., None]) -> Callable[..., None]:
    """Two tests of a body: a short one, and a nightly one."""
    return pytest.mark.parametrize(
        "settled", [pytest.param(FEW, id="few"), pytest.param(MANY, id="many", marks=pytest.mark.nightly)]
    )(body)


@fuzz
def test_addresses(settled: settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    @settled
    @given(address=st.one_of(TEXT, MIXED), live=st.booleans())
    def check(address: str, live: bool) -> None:
        # Which module opens it, not the opening itself, which would ask the network.
        one_line_or_answer(lambda: registry._opener(SourceRequest(address, live)))

    check()
    assert list(tmp_path.iterdir()) == []


@fuzz
def test_secrets_are_never_shown(settled: settings) -> None:
    scheme = st.sampled_from(["rtsp://", "rtspt://", "http://", "srt://", "rtsp:/", "", "foo://"])
    user = st.sampled_from(["admin:{}@", "{}@", "a b:{}@", "u:{}/x@", "u:{} y@", ""])
    query = st.sampled_from(
        ["", "?pwd={}", "?user=a&password={}", "?passphrase={}", "?token={}&x=1", "?api_key={}", "?auth={}"]
    )

    @settled
    @given(scheme, user, query, st.sampled_from(["", "cannot open ", "lost: "]))
    def check(scheme: str, user: str, query: str, before: str) -> None:
        assume(scheme or user != "{}@")  # without a scheme and a colon it may as well be a file's name
        address = f"{scheme}{user.format(SECRET)}127.0.0.1:9/s{query.format(SECRET)}"
        assert SECRET not in redact(before + repr(address)), address
        if " " not in address:  # every message quotes an address; without quotes a blank would end it
            assert SECRET not in str(OvsError(f"{before}{address}; expected a camera")), address

    check()


@fuzz
def test_class_lists(settled: settings, tmp_path: Path) -> None:
    path = tmp_path / "classes.txt"
    encodings = st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "latin-1"])
    words = st.one_of(
        TEXT, MIXED, st.recursive(st.text(max_size=8), lambda inner: st.lists(inner, max_size=4)).map(json.dumps)
    )

    @settled
    @given(words, encodings, st.binary(max_size=40), st.booleans())
    def check(text: str, encoding: str, noise: bytes, raw: bool) -> None:
        path.write_bytes(noise if raw else text.encode(encoding, "replace"))
        one_line_or_answer(lambda: parse_classes(f"@{path}", 100))
        one_line_or_answer(lambda: parse_classes(text.lstrip("@"), 100))

    check()


@fuzz
def test_manifests(settled: settings) -> None:
    whole = (default_bundle() / "manifest.json").read_text(encoding="utf-8")
    value = json.loads(whole)

    def paths(part: object, at: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
        inner = (
            list(part.items())
            if isinstance(part, dict)
            else list(enumerate(part[:3]))
            if isinstance(part, list)
            else []
        )
        return [at, *(path for key, child in inner for path in paths(child, (*at, key)))]

    places = [place for place in paths(value) if place]
    leaf = st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        TEXT,
        st.just([]),
        st.just({}),
        st.just(-1),
        st.just(10**30),
    )

    @settled
    @given(st.sampled_from(places), leaf, st.integers(0, len(whole)), st.booleans())
    def check(place: tuple[object, ...], new: object, cut: int, whole_file: bool) -> None:
        broken = json.loads(whole)
        part = broken
        for key in place[:-1]:
            part = part[key]
        part[place[-1]] = new
        text = json.dumps(broken) if whole_file else whole[:cut]
        one_line_or_answer(lambda: Manifest.from_json(text))

    check()


@fuzz
def test_masks(settled: settings, tmp_path: Path) -> None:
    for part in ("images", "masks"):
        (tmp_path / part / "train").mkdir(parents=True)
        (tmp_path / part / "val").mkdir(parents=True)
    (tmp_path / "classes.json").write_text('["sky", "tree"]')
    photo = np.zeros((12, 16, 3), np.uint8)
    for split in ("train", "val"):
        cv2.imwrite(str(tmp_path / "images" / split / "a.jpg"), photo)
    kinds = st.sampled_from([np.uint8, np.uint16])
    shapes = st.sampled_from([(12, 16), (16, 12), (12, 16, 3), (12, 16, 4), (1, 1)])

    @settled
    @given(kinds, shapes, st.integers(0, 2**32 - 1), st.integers(0, 300), st.one_of(st.none(), st.integers(0, 80)))
    def check(kind: type, shape: tuple[int, ...], seed: int, most: int, cut: int | None) -> None:
        values = np.random.default_rng(seed).integers(0, most + 1, shape).astype(kind)
        done, encoded = cv2.imencode(".png", values)
        assert done
        data = encoded.tobytes() if cut is None else encoded.tobytes()[:cut]
        for split in ("train", "val"):
            (tmp_path / "masks" / split / "a.png").write_bytes(data)
        one_line_or_answer(lambda: open_dataset(tmp_path, "train").load(0))
        one_line_or_answer(lambda: LabelledPhotos(tmp_path))

    check()


@fuzz
def test_file_names(settled: settings, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    letters = st.characters(exclude_characters="/\0", codec="utf-8")
    names = st.text(letters, min_size=1, max_size=30).filter(lambda name: name not in (".", ".."))
    suffixes = st.sampled_from([".jpg", ".PNG", ".txt", "", ".mp4", ".avif"])
    kinds = st.sampled_from(["photo", "text", "empty", "folder", "link"])
    encoded = cv2.imencode(".png", np.zeros((8, 8, 3), np.uint8))[1].tobytes()

    @settled
    @given(names, suffixes, kinds)
    def check(name: str, suffix: str, kind: str) -> None:
        path = folder / (name.encode()[:200].decode("utf-8", "ignore") + suffix)
        try:
            if kind == "folder":
                path.mkdir()
            elif kind == "link":
                path.symlink_to(folder / "nowhere")
            else:
                path.write_bytes({"photo": encoded, "text": b"no picture", "empty": b""}[kind])
        except OSError:
            return
        try:
            for address in (str(path), str(folder)):
                one_line_or_answer(lambda: [frame.name for frame in _opened(address)])  # noqa: B023 - called at once
        finally:
            path.rmdir() if kind == "folder" else path.unlink()

    check()
    assert list(folder.iterdir()) == []


def _opened(address: str) -> list[object]:
    source = registry.open_source(address, warn=lambda text: None)
    try:
        return list(source)
    finally:
        source.close()


@fuzz
def test_option_values(settled: settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    command = typer.main.get_command(cli.app)
    options = sorted({name for parameter in command.params for name in parameter.opts if name.startswith("--")})
    values = st.one_of(
        TEXT, MIXED, st.integers().map(str), st.floats().map(str), st.just(str(10**30)), st.just("1x1"), st.just("-1")
    )

    @settled
    @given(st.lists(st.tuples(st.sampled_from(options), values), max_size=4))
    def check(given_options: list[tuple[str, str]]) -> None:
        words = [word for pair in given_options for word in pair]
        start = now()
        try:
            context = command.make_context("ovs-run", ["--source", "nowhere.jpg", "--classes", "cat", *words])
            context.command.invoke(context)
        except OvsError as error:
            assert "\n" not in str(error)
        except (SystemExit, typer.Exit, typer.Abort):
            pass
        except Exception as error:  # noqa: BLE001 - a usage error of the command-line parser
            assert hasattr(error, "exit_code"), f"{shlex.join(words)}: {error!r}"
        assert now() - start < SLOWEST

    check()
    assert list(tmp_path.iterdir()) == []
