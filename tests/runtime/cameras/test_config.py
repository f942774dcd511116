"""The configuration of several cameras: what it means, and one clear line for everything that is no configuration."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ovs_edge.bundle.errors import UsageError
from ovs_edge.runtime.cameras.config import CameraConfig, CamerasConfig, Sharing, read_config
from ovs_edge.runtime.cameras.run import from_options
from ovs_edge.runtime.options import RunOptions
from ovs_edge.runtime.vocabulary.sensitivity import Sensitivity

WHOLE = """
[model]
threads = 2
sharing = "one-at-a-time"

[web]
address = "0.0.0.0:8080"
token = "${OVS_TEST_TOKEN}"

[defaults]
classes = "person, car|van"
threshold = 0.4

[cameras.yard]
source = "rtsp://user:${OVS_TEST_PASSWORD}@host/stream"
sensitivity = "high"
max_fps = 5

[cameras.door-2]
source = "0"
classes = ["person", "parcel|box"]
threshold = 1
json = "out/door.jsonl"
masks = "rle"
flip = "both"
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "cameras.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_whole_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVS_TEST_TOKEN", "a-secret-token")
    monkeypatch.setenv("OVS_TEST_PASSWORD", "pass")
    config = read_config(written(tmp_path, WHOLE))
    assert list(config.cameras) == ["yard", "door-2"]
    assert (config.model.threads, config.model.sharing, config.model.bundle) == (2, Sharing.ONE_AT_A_TIME, None)
    assert config.web is not None
    assert (config.web.address, config.web.token) == ("0.0.0.0:8080", "a-secret-token")
    assert config.web.recordings == tmp_path / "recordings"
    yard, door = config.cameras.values()
    assert yard.source == "rtsp://user:pass@host/stream"
    assert (yard.classes, yard.threshold, yard.max_fps) == ("person, car|van", 0.4, 5.0)
    assert yard.sensitivity is Sensitivity.HIGH
    assert (door.classes, door.threshold) == (("person", "parcel|box"), 1.0)
    assert door.json == str(tmp_path / "out" / "door.jsonl")
    assert door.capture.flip_code == -1
    other = read_config(written(tmp_path, WHOLE.replace("threshold = 1", "threshold = 0.2"))).cameras["door-2"]
    assert other != door
    assert other.kept == door.kept  # what a running camera can change is left out


def test_the_example_of_the_guide_is_a_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    guide = Path(__file__).parents[3] / "docs" / "guides" / "cameras.md"
    (example,) = re.findall(r"```toml\n(.*?)```", guide.read_text(encoding="utf-8"), re.DOTALL)
    for name in ("OVS_TOKEN", "MQTT_PASSWORD", "DOOR_PASSWORD"):
        monkeypatch.setenv(name, f"{name.lower()}-secret")
    config = read_config(written(tmp_path, example))
    assert list(config.cameras) == ["door", "yard"]
    assert [len(camera.watch.rules) for camera in config.cameras.values()] == [2, 1]
    assert config.delivery.mqtt is not None
    assert config.delivery.mqtt.password == "mqtt_password-secret"


LINES = {  # what is written beside a sound configuration -> the table and key that are told
    'cameras.a.threshold = "high"': '[cameras.a] threshold is "high", expected a number',
    "cameras.a.threshold = 1.5": "[cameras.a] threshold is 1.5, expected a number from 0 to 1",
    "cameras.a.treshold = 0.5": "[cameras.a] treshold is unknown; did you mean threshold?",
    "cameras.a.names = 1": "[cameras.a] names is 1, expected true or false",
    "cameras.a.keyframes = 2.5": "[cameras.a] keyframes is 2.5, expected a whole number",
    'cameras.a.flip = "left"': '[cameras.a] flip is "left", expected "none" or "horizontal" or "vertical" or "both"',
    "cameras.a.classes = [1]": "[cameras.a] classes is a list, expected a text or a list of texts",
    'cameras.a.size = "big"': "[cameras.a] the size is 'big', expected WIDTHxHEIGHT",
    'cameras.a.masks = "rle"': "[cameras.a] masks is for JSON lines",
    'cameras.b.classes = "cat"': "[cameras.b] source is missing",
    'cameras.b.source = "0"': "[cameras.b] classes is missing",
    'cameras."a/b".source = "0"': "[cameras] 'a/b' is no name of a camera",
    "cameras.b = 7": "[cameras] b is 7, expected a table: [cameras.b]",
    'model.provider = "gpu"': '[model] provider is "gpu", expected one of: auto',
    "defaults.opacity = 2": "[defaults] opacity is 2, expected a number from 0 to 1",
    'web.token = "${OVS_NOT_SET}"': "[web] token names the environment variable OVS_NOT_SET, which is not set",
    "camera = 1": "[camera] is unknown; expected the tables",
    'cameras.a.rules = ["person in door"]': "[cameras.a]: rule 'person in door': there is no zone 'door'",
    "cameras.a.zones.door.points = 7": "[cameras.a]: the zone 'door' has no list of points",
    'mqtt.url = "http://broker"': "[mqtt] url is 'http://broker', expected such as mqtt://",
    'cameras.a.classes = ""': "[cameras.a] classes is empty",
    'cameras.a.json = "${}.jsonl"': "[cameras.a] json holds a ${…} that names no environment variable",
    'cameras.a.save = "a${b"': "[cameras.a] save holds a ${…} that names no environment variable",
    'cameras.a.classes = ["cat", "@a.txt"]': "[cameras.a] classes is a list with the file '@a.txt'",
    f"cameras.a.presets = {['x'] * 10}": "[cameras.a] presets has 10 lists, expected at most 9",
    'mqtt.url = "mqtt://${OVS_NOT_SET}"': "[mqtt] url names the environment variable OVS_NOT_SET, which is not set",
    'webhook = {url = "http://h/", headers = {A = "${X Y}"}}': "[webhook] headers holds a ${…} that names no environment",
    'cameras.a.save = "a\\u0000.mp4"': "[cameras.a] save holds a NUL character",
    'cameras.a.classes = ["a", "b\\u0000"]': "[cameras.a] classes holds a NUL character",
    'spool.folder = "a\\u0000"': "[spool] folder holds a NUL character",
    'mqtt = {url = "mqtt://h", client_id = "\\u0000"}': "[mqtt] client_id holds a NUL character",
    'command.run = ["a", "\\u0000"]': "[command] run holds a NUL character",
}


@pytest.mark.parametrize("line", LINES)
def test_every_mistake_is_told_with_file_table_and_key(tmp_path: Path, line: str) -> None:
    sound = ['cameras.a.source = "0"', 'cameras.a.classes = "person"']
    kept = [entry for entry in sound if entry.split(" =")[0] != line.split(" =")[0]]
    path = written(tmp_path, "\n".join([line, *kept]))
    with pytest.raises(UsageError) as refused:
        read_config(path)
    assert str(refused.value).startswith(f"{path}: {LINES[line]}")


def test_every_path_is_relative_to_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "etc"
    folder.mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OVS_TEST_HOST", "broker")
    (folder / "a,b.txt").touch()
    (folder / "password").write_text("of the broker\n")
    (folder / "secret").write_text("of the webhook\n")
    text = """
model = {bundle = "a.ovs", plan = "a.plan"}
web.recordings = "videos"
mqtt = {url = "mqtts://me@${OVS_TEST_HOST}", password_file = "password"}
webhook = {url = "http://host/", secret_file = "secret"}
command.run = ["./bin/do", "./kept", "${kept}"]
json_lines.path = "events.jsonl"
spool.folder = "spool"
[cameras.a]
source = "clip.avi"
classes = "person, @mugs.npz"
background = "@walls.txt"
presets = ["@a,b.txt", "cat, dog"]
save = "all.mp4"
json = "-"
save_masks = "masks/"
[cameras.b]
source = "/dev/video3"
classes = "@a,b.txt"
"""
    config = read_config(written(folder, text))
    assert (config.model.bundle, config.model.plan) == (folder / "a.ovs", folder / "a.plan")
    assert config.web is not None
    assert config.web.recordings == folder / "videos"
    mqtt, webhook, command, lines = (
        getattr(config.delivery, name) for name in ("mqtt", "webhook", "command", "json_lines")
    )
    assert [mqtt.url, mqtt.password, webhook.secret] == ["mqtts://me@broker", "of the broker", "of the webhook"]
    assert [lines.path, config.delivery.spool.folder] == [f"{folder}/{name}" for name in ("events.jsonl", "spool")]
    assert command.run == (f"{folder}/bin/do", "./kept", "${kept}")
    a, b = config.cameras.values()
    assert (a.source, b.source) == (f"{folder}/clip.avi", "/dev/video3")
    assert (a.classes, b.classes) == (f"person, @{folder}/mugs.npz", f"@{folder}/a,b.txt")
    assert (a.background, a.presets) == (f"@{folder}/walls.txt", (f"@{folder}/a,b.txt", "cat, dog"))
    assert (a.save, a.json, a.save_masks) == (f"{folder}/all.mp4", "-", f"{folder}/masks/")
    assert b.class_files == (folder / "a,b.txt",)


def test_secrets_may_be_in_variables_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVS_MQTT_PASSWORD", "of the broker")
    monkeypatch.setenv("OVS_WEBHOOK_SECRET", "of the webhook")
    text = 'cameras.a = {source = "0", classes = "x"}\nmqtt.url = "mqtt://me@h"\nwebhook.url = "http://h"\n'
    for more, password, secret in (
        ("", "of the broker", "of the webhook"),
        ('mqtt.password = "p"', "p", "of the webhook"),
    ):
        delivery = read_config(written(tmp_path, text + more)).delivery
        assert delivery.mqtt is not None and delivery.webhook is not None
        assert (delivery.mqtt.password, delivery.webhook.secret) == (password, secret)


def test_a_program_by_its_name_is_looked_for_on_the_path(tmp_path: Path) -> None:
    config = read_config(
        written(tmp_path, 'command.run = "notify-send hello"\ncameras.a = {source = "0", classes = "x"}')
    )
    assert config.delivery.command is not None
    assert config.delivery.command.run == ("notify-send", "hello")


@pytest.mark.parametrize("key", ["ca_file", "cert_file", "key_file", "password_file"])
def test_a_file_that_is_not_there_is_told_with_its_whole_name(tmp_path: Path, key: str) -> None:
    (tmp_path / "there").touch()
    other = {"cert_file": 'key_file = "there", ', "key_file": 'cert_file = "there", '}.get(key, "")
    mqtt = f'mqtt = {{url = "mqtts://h", {other}{key} = "none"}}'
    path = written(tmp_path, f'{mqtt}\ncameras.a = {{source = "0", classes = "x"}}')
    with pytest.raises(UsageError) as refused:
        read_config(path)
    assert str(refused.value).startswith(f"{path}: [mqtt] {key}")
    assert str(tmp_path / "none") in str(refused.value)
    assert "No such file" in str(refused.value)


def test_two_cameras_do_not_write_one_file(tmp_path: Path) -> None:
    text = "".join(f'[cameras.{name}]\nsource = "0"\nclasses = "cat"\njson = "out.jsonl"\n' for name in "ab")
    with pytest.raises(UsageError, match=r"cameras\] the camera a and the camera b both have one named .*out\.jsonl"):
        read_config(written(tmp_path, text))


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ('json = "x/../clip.avi"', "the camera a: the output .*clip.avi is the input"),
        ('save = "classes.txt"', "the camera a: the output .*classes.txt is the input"),
        ('json = "cameras.toml"', "the camera a: the output .*cameras.toml is the input"),
        ('save_masks = "."', "the camera a: the output .* holds the input"),
        ('json = "linked"', "the camera a: the output .*linked is the input"),
        ('json = "preset.txt"', "the camera a: the output .*preset.txt is the input"),
        ('json = "o.jsonl"\nsave = "./x/../o.jsonl"', "the camera a has two outputs named"),
        ('json = "o.jsonl"\n[json_lines]\npath = "o.jsonl"', r"the camera a and \[json_lines\] both have one named"),
        ('json = "-"\n[json_lines]\npath = "-"', r"the camera a and \[json_lines\] both have standard output"),
    ],
)
def test_no_output_is_a_file_that_is_read_or_written(tmp_path: Path, output: str, said: str) -> None:
    for name in ("clip.avi", "classes.txt", "preset.txt"):
        (tmp_path / name).write_text("cat")
    (tmp_path / "linked").symlink_to("classes.txt")
    own = 'source = "clip.avi"\nclasses = "@classes.txt"\npresets = ["@preset.txt"]'
    with pytest.raises(UsageError, match=rf"cameras\.toml: \[cameras\] {said}"):
        read_config(written(tmp_path, f"[cameras.a]\n{own}\n{output}\n"))


@pytest.mark.parametrize("text", ["", "cameras = {}"])
def test_no_camera_is_an_error(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError, match=r"cameras\.toml: \[cameras\] 0 cameras are given, expected 1 to 64"):
        read_config(written(tmp_path, text))


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (None, "cannot read {} (No such file or directory)"),
        (b"\xff\xfe\x00", "{} is not UTF-8 text"),
        (b"a = " + b"[" * 5000, "{} is no TOML"),
        (b"cameras.a.smooth", "{} is no TOML: Expected '=' after a key in a key/value pair (at"),
        (b"#" * 2**20 + b"#", "{} is larger than 1 MiB"),
    ],
)
def test_files_that_are_no_configuration(tmp_path: Path, data: bytes | None, problem: str) -> None:
    path = tmp_path / "cameras.toml"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(UsageError) as refused:
        read_config(path)
    assert str(refused.value).startswith(problem.format(path))


TABLES = ["model", "web", "defaults", "cameras", "extra"]
KEYS = [
    "source",
    "classes",
    "threshold",
    "smooth",
    "flip",
    "size",
    "json",
    "save",
    "max_fps",
    "presets",
    "zones",
    "x y",
]
SINGLE: st.SearchStrategy[Any] = st.one_of(
    st.text(max_size=12), st.integers(), st.floats(), st.booleans(), st.sampled_from(["0", "person", "${X}"])
)
NESTED = st.one_of(SINGLE, st.lists(SINGLE, max_size=3), st.dictionaries(st.sampled_from(KEYS), SINGLE, max_size=3))
VALUES = st.one_of(SINGLE, st.lists(NESTED, max_size=3), st.dictionaries(st.sampled_from(KEYS), NESTED, max_size=3))
CAMERAS = st.dictionaries(st.text(max_size=6) | st.just("door"), st.dictionaries(st.sampled_from(KEYS), VALUES))


def toml(value: Any) -> str:
    """`value` in TOML, inline."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + "".join("?" if 0xD800 <= ord(sign) <= 0xDFFF else f"\\U{ord(sign):08x}" for sign in value) + '"'
    if isinstance(value, dict):
        return "{" + ", ".join(f"{toml(key)} = {toml(entry)}" for key, entry in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return repr(value)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tables=st.dictionaries(st.sampled_from(TABLES), VALUES, max_size=3), cameras=CAMERAS)
def test_any_table_gives_a_configuration_or_one_line(
    tmp_path: Path, tables: dict[str, Any], cameras: dict[str, Any]
) -> None:
    tables = {**tables, **({"cameras": cameras} if cameras else {})}
    path = written(tmp_path, "\n".join(f"{name} = {toml(value)}" for name, value in tables.items()))
    try:
        config = read_config(path)
    except UsageError as refused:
        line = str(refused)
        assert line.startswith(f"{path}: ")
        assert "\n" not in line
        assert re.match(
            r"(\[|is |(model|web|defaults|cameras) is |\w+ is or holds )", line.removeprefix(f"{path}: ")
        ), line
    else:
        assert isinstance(config, CamerasConfig)
        assert all(isinstance(camera, CameraConfig) for camera in config.cameras.values())


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace")))
def test_any_bytes_give_one_line(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "cameras.toml"
    path.write_bytes(data)
    with pytest.raises(UsageError) as refused:
        read_config(path)
    assert str(refused.value).startswith((f"{path}: ", f"{path} is "))
    assert "\n" not in str(refused.value)


def test_several_camera_options() -> None:
    options = RunOptions(
        "person", camera=("door=rtsp://host/a=b", "1"), save="out/all.mp4", json="-", web="127.0.0.1:0"
    )
    config = from_options(options)
    assert {name: camera.source for name, camera in config.cameras.items()} == {
        "door": "rtsp://host/a=b",
        "camera2": "1",
    }
    assert [camera.save for camera in config.cameras.values()] == ["out/all_door.mp4", "out/all_camera2.mp4"]
    assert {camera.json for camera in config.cameras.values()} == {"-"}
    assert config.web is not None


@pytest.mark.parametrize(
    ("given", "page"),
    [
        ({}, "127.0.0.1:8080"),
        ({"events": "events.jsonl"}, "127.0.0.1:8080"),
        ({"events": "-"}, None),
        ({"json": "-"}, None),
        ({"save": "out"}, None),
        ({"show": False}, None),
        ({"web": "127.0.0.1:0", "events": "-", "show": False}, "127.0.0.1:0"),
    ],
)
def test_several_cameras_have_a_page_where_one_has(given: dict[str, Any], page: str | None) -> None:
    options = RunOptions("person", camera=("0", "1"), **given)
    web = from_options(options).web
    assert (None if web is None else web.address) == page
    assert options.only_watched == (page == "127.0.0.1:8080")


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"camera": ("a=0", "a=1")}, "the camera 'a' is given twice"),
        ({"camera": ("0", "1"), "max_frames": 5}, "--max-frames is for one camera"),
    ],
)
def test_options_that_several_cameras_cannot_have(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        from_options(RunOptions("person", **options))


def test_a_configuration_holds_all_settings() -> None:
    with pytest.raises(UsageError, match=r"--threshold is given besides --config"):
        RunOptions(config=Path("cameras.toml"), threshold=0.5)
    assert RunOptions(config=Path("cameras.toml"), token="a-long-token").classes is None
