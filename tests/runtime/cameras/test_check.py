"""`ovs-doctor --config`: what is sound, and what is not, of everything that a configuration names."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest
from support.cameras import clip

from ovs_edge.bundle.errors import UsageError
from ovs_edge.runtime.cameras import check
from ovs_edge.runtime.cameras.check import check_config
from ovs_edge.runtime.engines.engine import Finding
from ovs_edge.runtime.events.delivery.dispatcher import EventDispatcher
from ovs_edge.runtime.events.delivery.options import parse_delivery


def found(folder: Path, text: str) -> dict[tuple[str, str], Finding]:
    path = folder / "cameras.toml"
    path.write_text(text)
    return {(finding.topic, finding.state): finding for finding in check_config(path)}


def test_everything_is_tried(tiny_bundle: Path, tmp_path: Path) -> None:
    clip(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken, socket.create_server(("127.0.0.1", 0)) as hook:
        port = taken.getsockname()[1]
        findings = found(
            tmp_path,
            f"""
            model.bundle = "{tiny_bundle}"
            web.address = "127.0.0.1:{port}"
            webhook.url = "http://127.0.0.1:{hook.getsockname()[1]}/"
            mqtt.url = "mqtt://127.0.0.1:1"
            command.run = ["no-such-program-here"]
            defaults.classes = "red"
            [cameras.good]
            source = "halves.avi"
            json = "lines/good.jsonl"
            rules = ["rad in frame"]
            [cameras.gone]
            source = "http://user:secret@127.0.0.1:1/stream"
            [cameras.odd]
            source = "halves.avi"
            background = "red"
            [cameras.long]
            source = "{"long" * 99}"
            """,
        )
    assert findings["configuration", "ok"].text.endswith("cameras.toml: good, gone, odd, long")
    assert "did you mean 'red'?" in findings["camera good", "note"].text
    assert "64x48" in findings["camera odd", "ok"].text
    assert findings["camera good", "ok"].text == f"writes {tmp_path / 'lines' / 'good.jsonl'}"
    assert "does not open" in findings["camera gone", "missing"].text
    assert "there is no file" in findings["camera long", "missing"].text
    assert "background" in findings["camera odd", "missing"].text
    assert str(port) in findings["page", "missing"].text
    assert "refused" in findings["MQTT", "missing"].text
    assert findings["webhook", "ok"].text.endswith("answers")
    assert "no-such-program-here" in findings["command", "missing"].text
    assert not any("secret" in finding.text for finding in findings.values())
    assert not (tmp_path / "lines").exists()  # nothing is written


def test_what_would_be_refused_at_the_start_is_told(tiny_bundle: Path, tmp_path: Path) -> None:
    clip(tmp_path)
    (tmp_path / "letter.jsonl").write_text("Dear reader")
    findings = found(
        tmp_path,
        f"""
        model.bundle = "{tiny_bundle}"
        web.token = "short"
        json_lines.path = "events.jsonl"
        spool.folder = "letter.jsonl/spool"
        defaults.source = "halves.avi"
        cameras.letter = {{classes = "red", json = "letter.jsonl"}}
        cameras.preset = {{classes = "red", presets = ["green", "@none.txt"]}}
        """,
    )
    assert "add overwrite = true to use it all the same" in findings["camera letter", "missing"].text
    assert findings["camera preset", "missing"].remedy == "change presets in [cameras.preset]"
    assert "the token has 5 characters" in findings["page", "missing"].text
    assert "letter.jsonl/spool cannot be written" in findings["spool", "missing"].text


def test_recordings_and_the_encryption_of_a_webhook_are_tried(tiny_bundle: Path, tmp_path: Path) -> None:
    clip(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as plain:

        def greet() -> None:
            connection, _ = plain.accept()
            with connection:
                connection.sendall(b"HTTP/1.0 400 Bad Request\r\n\r\n")

        greeting = threading.Thread(target=greet)
        greeting.start()
        findings = found(
            tmp_path,
            f"""
            model.bundle = "{tiny_bundle}"
            web = {{address = "127.0.0.1:0", recordings = "halves.avi/recordings"}}
            webhook.url = "https://127.0.0.1:{plain.getsockname()[1]}/"
            cameras.good = {{source = "halves.avi", classes = "red"}}
            """,
        )
        greeting.join()
    assert "halves.avi/recordings cannot be written" in findings["recordings", "missing"].text
    assert "no TLS (" in findings["webhook", "missing"].text


def test_a_file_of_events_in_a_folder_that_is_not_there(tiny_bundle: Path, tmp_path: Path) -> None:
    clip(tmp_path)
    findings = found(
        tmp_path,
        f"""
        model.bundle = "{tiny_bundle}"
        json_lines.path = "nodir/events.jsonl"
        [cameras.good]
        source = "halves.avi"
        classes = "red"
        """,
    )
    assert "there is no folder" in findings["events", "missing"].text
    assert not (tmp_path / "nodir").exists()


def test_what_cannot_be_examined_is_no_sound_service(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*given: object) -> None:
        raise ValueError("surprise")

    clip(tmp_path)
    text = f"""
        model.bundle = "{tiny_bundle}"
        cameras.a = {{source = "halves.avi", classes = "red", json = "a.jsonl"}}
        webhook.url = "http://127.0.0.1:1/"
        spool.folder = "spool"
        """
    for name, topic in (
        ("read_config", "configuration"),
        ("SharedModel", "model"),
        ("open_camera", "camera a"),
        ("dated", "camera a"),
        ("webhook_problem", "webhook"),
        ("_writable", "spool"),
    ):
        with monkeypatch.context() as patched:
            patched.setattr(check, name, broken)
            findings = found(tmp_path, text)
        assert findings[topic, "missing"].text == "could not be examined (ValueError: surprise)"
        assert name == "read_config" or findings["configuration", "ok"]  # and all the others go on
        assert name in ("read_config", "_writable") or findings["spool", "ok"]


def test_a_user_without_a_home_has_to_name_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", no_home)
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    table = {"command": {"run": "true"}}
    with pytest.raises(UsageError, match=r"this user has no home where events can wait; give \[spool\] folder = …"):
        EventDispatcher(parse_delivery(table, "zones.toml"))
    EventDispatcher(parse_delivery({"json_lines": {"path": "-"}}, "zones.toml")).close()  # waits nowhere
    cameras = 'cameras.a = {source = "none.avi", classes = "red"}\ncommand.run = "true"\nmodel.bundle = "none"'
    assert "no home" in found(tmp_path, cameras)["spool", "missing"].text


def test_a_configuration_that_is_none(tmp_path: Path) -> None:
    findings = found(tmp_path, "[cameras.a]\nsource = 1\n")
    assert list(findings) == [("configuration", "missing")]
    assert "[cameras.a] source is 1, expected a text" in findings["configuration", "missing"].text
