"""`ovs-run` with zones and rules, from the command line's options to the file of events."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from support.endless import halves

from ovs_edge.bundle.errors import OvsError, UsageError
from ovs_edge.runtime.events.opening import WatchRequest, read_watch
from ovs_edge.runtime.options import RunOptions
from ovs_edge.runtime.run import run

LONG = "n" * 300


def clip(path: Path, frames: int = 20) -> str:
    """A red and a green half, ten frames a second."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (320, 240))
    for _ in range(frames):
        writer.write(np.ascontiguousarray(halves(240, 320)))
    writer.release()
    return str(path)


def test_events_tracks_and_zones_of_a_clip(tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    zones = tmp_path / "zones.toml"
    zones.write_text(
        'camera = "shed"\nrules = ["red in left for 500ms"]\n'
        '[zones.left]\npoints = [[0, 0], [0.5, 0], [0.5, 1], [0, 1]]\nanchor = "centre"\n'
    )
    options = RunOptions(
        classes="red,green",
        source=clip(tmp_path / "clip.avi"),
        model=tiny_bundle,
        zones=zones,
        rule=("count(green in left) >= 1", "coverage(green in frame) > 40%"),
        events=str(tmp_path / "events.jsonl"),
        json=str(tmp_path / "frames.jsonl"),
        save=str(tmp_path / "out"),
    )
    assert run(options) == 0
    events = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    told = {event["rule"]: event for event in events}
    assert set(told) == {"red in left for 0.5s", "coverage(green) > 40%"}
    assert told["red in left for 0.5s"]["camera"] == "shed"
    assert told["red in left for 0.5s"]["kind"] == "started"
    assert told["red in left for 0.5s"]["seconds"] == pytest.approx(0.9, abs=0.11)
    lines = [json.loads(line) for line in (tmp_path / "frames.jsonl").read_text().splitlines()]
    assert "tracks" not in lines[0]
    assert {(track["id"], track["class"]) for track in lines[-1]["tracks"]} == {(1, "red"), (2, "green")}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"rule": ("red in attic",)}, "the command line: rule 'red in attic': there is no zone 'attic'"),
        ({"rule": ("red",)}, "the command line: rule 'red': it ends"),
        ({"mqtt": "broker"}, "the command line: [mqtt] url is"),
        ({"events": "-", "json": "-"}, "--events and --json are both standard output"),
        ({"zones": Path("no/where/zones.toml")}, "can neither be read nor made: its folder is not there"),
        ({"zones": Path(LONG)}, "cannot read"),  # a name that the system does not take
        ({"json": LONG}, "cannot write"),
        ({"events": LONG}, f"events cannot be written to {LONG} (File name too long); choose another file"),
        ({"events": "."}, "events cannot be written to ., a folder; give a name such as events.jsonl"),
        ({"model": Path(LONG)}, "no bundle at"),
        ({"example": (f"cup=photo.jpg#{LONG}",)}, "is no file and no numbers"),
    ],
)
def test_bad_options_are_one_clear_line(
    tiny_bundle: Path, tmp_path: Path, changes: dict[str, object], said: str
) -> None:
    given = {"classes": "red", "source": clip(tmp_path / "clip.avi", 2), "model": tiny_bundle, **changes}
    with pytest.raises(OvsError) as refused:
        run(RunOptions(**given))  # type: ignore[arg-type]
    assert said in str(refused.value)


def test_events_are_an_output(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    zones = tmp_path / "zones.toml"
    zones.write_text(f'[json_lines]\npath = "{tmp_path / "in_file.jsonl"}"\n')
    source, rule = clip(tmp_path / "clip.avi"), ("red in frame",)

    def told(**options: object) -> tuple[str, str]:
        made = RunOptions(classes="red", source=source, model=tiny_bundle, rule=rule, show=False, **options)  # type: ignore[arg-type]
        assert run(made) == 0
        captured = capfd.readouterr()
        return captured.out, captured.err

    out, err = told(events=str(tmp_path / "events.jsonl"))
    assert out.endswith(f": events in {tmp_path / 'events.jsonl'}\n")
    assert "no output" not in err
    out, err = told(zones=zones, json=str(tmp_path / "out.jsonl"))
    assert out.endswith(f": {tmp_path / 'out.jsonl'}, events in {tmp_path / 'in_file.jsonl'}\n")
    out, err = told(events="-")
    assert [json.loads(line)["rule"] for line in out.splitlines()] == ["red in frame"]  # and nothing for people
    assert err.endswith(": events on standard output\n")
    out, err = told(track=True)
    assert out.endswith(": nothing saved (--save out, --json out.jsonl)\n")
    assert "note: no output is selected" in err
    zones.write_text('[json_lines]\npath = "-"\n')
    with pytest.raises(UsageError, match="events and --json are both standard output"):
        told(zones=zones, json="-")


def test_a_file_of_zones_that_is_not_there_is_refused_unless_a_page_makes_it(
    tiny_bundle: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "zones.toml").write_text("")
    (tmp_path / "zones").mkdir()  # a folder is not meant
    (tmp_path / "loop.toml").symlink_to("loop.toml")
    source, new = clip(tmp_path / "clip.avi", 2), tmp_path / "zone.toml"

    def told(zones: Path, **options: object) -> str:
        made = RunOptions(classes="red", model=tiny_bundle, zones=zones, show=False, max_frames=1, **options)  # type: ignore[arg-type]
        assert run(made) == 0
        return capfd.readouterr().err

    several = ("a=http://127.0.0.1:1/x", "b=http://127.0.0.1:1/y")
    for options in ({"source": source}, {"camera": several, "web": "127.0.0.1:0", "max_frames": None}):
        for path, said in (
            (new, f"--zones {new} is not there; did you mean {tmp_path / 'zones.toml'}?"),
            (tmp_path / "hedge", f"--zones {tmp_path / 'hedge'} is not there; check the name"),
        ):
            with pytest.raises(UsageError) as refused:
                run(RunOptions(classes="red", model=tiny_bundle, zones=path, show=False, **options))  # type: ignore[arg-type]
            assert str(refused.value).startswith(said)
    note = f"note: {new} is new, and is written when zones are saved on the page; did you mean {tmp_path}/zones.toml?\n"
    assert note in told(new, source=source, web="127.0.0.1:0")
    assert not new.exists()
    new.write_text("")
    assert "is new" not in told(new, source=source, web="127.0.0.1:0")


@pytest.mark.parametrize("display", [True, False])
def test_events_on_standard_output_open_neither_page_nor_window(
    tiny_bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    *,
    display: bool,
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr("ovs_edge.runtime.run.missing_window", lambda: None if display else "there is no display")
    source, rule = clip(tmp_path / "clip.avi"), ("red in frame",)
    options = RunOptions(classes="red", camera=(source,), model=tiny_bundle, rule=rule, events="-", max_frames=8)
    assert run(options) == 0
    captured = capfd.readouterr()
    events = [json.loads(line) for line in captured.out.splitlines()]
    assert [(event["rule"], event["kind"]) for event in events] == [
        ("red in frame", "started"),
        ("red in frame", "ended"),
    ]
    assert events[1]["value"] is None  # nobody looks any more
    assert "viewer" not in captured.err
    assert captured.err.endswith(": events on standard output\n")


def test_ways_in_a_file_of_zones_are_read_as_those_of_cameras(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TOKEN", "t0k")
    zones = tmp_path / "folder" / "zones.toml"
    zones.write_text(
        """
        [rules]
        seen = "red in frame"
        [webhook]
        url = "http://127.0.0.1:1/${TOKEN}"
        headers = {Authorization = "Bearer ${TOKEN}"}
        secret_file = "secret"
        [command]
        run = "./tell '${TOKEN}'"
        [json_lines]
        path = "events.jsonl"
        [spool]
        folder = "waiting/"
        """
    )
    (tmp_path / "folder" / "secret").write_text("abc")
    _, ways, _ = read_watch(WatchRequest(Path("folder/zones.toml"), mqtt="mqtt://${TOKEN}"))
    folder = str(tmp_path / "folder")
    assert ways.webhook is not None
    assert (ways.webhook.url, ways.webhook.secret) == ("http://127.0.0.1:1/t0k", "abc")
    assert ways.webhook.headers == {"Authorization": "Bearer t0k"}
    assert ways.command is not None
    assert ways.command.run == (f"{folder}/tell", "${TOKEN}")
    assert ways.json_lines is not None
    assert (ways.json_lines.path, ways.spool.folder) == (f"{folder}/events.jsonl", f"{folder}/waiting/")
    zones.write_text('[webhook]\nurl = "http://127.0.0.1:1/${NO_SUCH_THING}"\n')
    with pytest.raises(UsageError, match=r"zones\.toml: \[webhook\] url names .* NO_SUCH_THING, which is not set$"):
        read_watch(WatchRequest(Path("folder/zones.toml")))


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ('[json_lines]\npath = "events/"', "is a folder's name; give a file, such as events.jsonl"),
        ('[spool]\nfolder = ""', r"\[spool\] folder is empty; give a folder, or leave it out"),
    ],
)
def test_places_that_are_none_are_refused(tmp_path: Path, table: str, said: str) -> None:
    zones = tmp_path / "zones.toml"
    zones.write_text(table)
    with pytest.raises(UsageError, match=said):
        read_watch(WatchRequest(zones))
