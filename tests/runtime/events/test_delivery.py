"""Webhook, command, JSON lines, and the queue on disk behind them all."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.events import event
from support.hooks import Hook
from support.mosquitto import until

from ovs_edge.bundle.errors import SinkError, UsageError
from ovs_edge.runtime.events.delivery import lane
from ovs_edge.runtime.events.delivery.dispatcher import EventDispatcher
from ovs_edge.runtime.events.delivery.options import DeliveryConfig, parse_delivery
from ovs_edge.runtime.events.delivery.spool import Spool
from ovs_edge.runtime.events.delivery.webhook import WebhookReceiver


@pytest.fixture
def hook() -> Iterator[Hook]:
    server = Hook()
    yield server
    server.end()


def config(folder: Path, **tables: Any) -> DeliveryConfig:
    return parse_delivery({**tables, "spool": {"folder": str(folder / "spool")}}, "test")


def address(hook: Hook, path: str = "/hook") -> str:
    return f"http://127.0.0.1:{hook.server_address[1]}{path}"


def test_a_webhook_gets_every_event_once_in_order_and_signed(hook: Hook, tmp_path: Path) -> None:
    secret = "whsec_" + base64.b64encode(b"a key").decode()
    sender = EventDispatcher(
        config(tmp_path, webhook={"url": address(hook), "secret": secret, "headers": {"X-A": "b"}})
    )
    sender.publish([event(number) for number in range(1, 51)])
    sender.close()
    assert hook.numbers == list(range(1, 51))
    headers, body = hook.got[6]
    assert json.loads(body) == event(7).to_dict()
    assert (headers["Content-Type"], headers["X-A"], headers["webhook-id"]) == ("application/json", "b", event(7).id)
    # Checked as https://www.standardwebhooks.com tells receivers to.
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.new(b"a key", signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"


def test_a_webhook_that_is_busy_is_asked_again_and_one_that_refuses_is_not(
    hook: Hook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lane, "_FIRST_WAIT", 0.05)
    hook.statuses = [503, 429, 204, 400, 204]
    told: list[str] = []
    sender = EventDispatcher(config(tmp_path, webhook={"url": address(hook)}), tell=told.append)
    sender.publish([event(1), event(2), event(3)])
    until(lambda: hook.numbers == [1, 3])
    sender.close()
    assert [json.loads(body)["number"] for _, body in hook.got] == [1, 1, 1, 2, 3]
    assert sender.states[0].dropped == 1
    assert told == [
        f"webhook {address(hook, '')}: status 503; events wait on disk",
        f"webhook {address(hook, '')}: events arrive again; 2 still wait",
        f"webhook {address(hook, '')}: an event is dropped: status 400",
    ]


def test_a_webhook_that_was_away_gets_all_later(tmp_path: Path) -> None:
    hook = Hook()
    port = hook.server_address[1]
    hook.end()
    told: list[str] = []
    sender = EventDispatcher(config(tmp_path, webhook={"url": address(hook), "timeout": 1}), tell=told.append)
    sender.publish([event(number) for number in range(1, 11)])
    until(lambda: len(told) == 1)
    hook = Hook(port=port)
    until(lambda: hook.numbers == list(range(1, 11)))
    sender.close()
    hook.end()


def test_a_login_is_percent_encoded_and_no_header_is_sent_twice(hook: Hook, tmp_path: Path) -> None:
    url = address(hook).replace("//", "//us%C3%A9r:p%40s%2Fs%25@")
    own = {"content-type": "application/cloudevents+json", "USER-AGENT": "mine"}
    sender = EventDispatcher(config(tmp_path, webhook={"url": url, "headers": own}))
    sender.publish([event(1)])
    sender.close()
    headers = {name.lower(): value for name, value in hook.got[0][0].items()}
    assert base64.b64decode(headers["authorization"].removeprefix("Basic ")).decode() == "usér:p@s/s%"
    assert [headers[name.lower()] for name in own] == list(own.values())
    assert len(headers) == len(hook.got[0][0])


def test_a_snapshot_goes_along_where_it_is_asked_for(hook: Hook, tmp_path: Path) -> None:
    sender = EventDispatcher(config(tmp_path, webhook={"url": address(hook), "snapshots": True}))
    sender.publish([event(1)], np.full((32, 48, 3), 90, np.uint8))
    sender.close()
    picture = base64.b64decode(json.loads(hook.got[0][1])["snapshot"])
    assert picture[:3] == b"\xff\xd8\xff"


def test_passwords_in_addresses_are_not_told(tmp_path: Path) -> None:
    told: list[str] = []
    table = {"url": "http://user:hunter2@127.0.0.1:9/hook?token=hunter3", "timeout": 1}
    sender = EventDispatcher(config(tmp_path, webhook=table), tell=told.append)
    sender.publish([event(1)])
    until(lambda: bool(told))
    sender.close(drain=0)
    assert "hunter" not in " ".join([*told, sender.states[0].name])


def test_lines_are_appended_whole(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text('{"id": "half')  # a kill, once
    sender = EventDispatcher(config(tmp_path, json_lines={"path": str(path)}))
    sender.publish([event(1), event(2)])
    sender.close()
    lines = path.read_text().splitlines()
    assert lines[0] == '{"id": "half'
    assert [json.loads(line) for line in lines[1:]] == [event(1).to_dict(), event(2).to_dict()]


def test_a_command_gets_the_event_and_no_shell_reads_it(tmp_path: Path) -> None:
    program = "import json, sys; open(sys.argv[1], 'a').write(json.dumps([sys.argv[2], json.load(sys.stdin)]) + '\\n')"
    path = tmp_path / "got"
    table = {"run": [sys.executable, "-c", program, str(path), "$(touch hurt); *"]}
    sender = EventDispatcher(config(tmp_path, command=table))
    sender.publish([event(1, rule="$(touch hurt)"), event(2)])
    sender.close(drain=30)
    got = [json.loads(line) for line in path.read_text().splitlines()]
    assert got == [
        ["$(touch hurt); *", event(1, rule="$(touch hurt)").to_dict()],
        ["$(touch hurt); *", event(2).to_dict()],
    ]
    assert not list(tmp_path.glob("**/hurt"))


@pytest.mark.parametrize(
    ("run", "said"),
    [
        ([sys.executable, "-c", "import sys; sys.exit('no lamp')"], "an event is dropped: exit code 1: no lamp"),
        (["program"], "it cannot be started (No such file or directory); events wait on disk"),
        ([sys.executable, "-c", "import time; time.sleep(60)"], "an event is dropped: it was ended after 0.5 s"),
    ],
)
def test_a_command_that_fails_is_told(tmp_path: Path, run: list[str], said: str) -> None:
    told: list[str] = []
    removed = tmp_path / run[0]  # while events are awaited
    if not removed.exists():
        removed.write_text("#!/bin/sh")
        removed.chmod(0o755)
        run = [str(removed)]
    sender = EventDispatcher(
        config(tmp_path, command={"run": run, "timeout": 0.5 if "sleep" in run[-1] else 30}), tell=told.append
    )
    if removed.is_relative_to(tmp_path):
        removed.unlink()
    sender.publish([event(1)])
    until(lambda: bool(told))
    sender.close(drain=0)
    assert said in told[0]


def test_a_command_that_goes_on_in_the_background_has_ended(tmp_path: Path) -> None:
    sender = EventDispatcher(config(tmp_path, command={"run": ["sh", "-c", "sleep 5 & exit 0"]}))
    start = time.monotonic()
    sender.publish([event(1), event(2)])
    sender.close(drain=4)
    assert sender.states[0].delivered == 2
    assert time.monotonic() - start < 4


def test_what_goes_on_in_the_background_costs_neither_thread_nor_descriptor(tmp_path: Path) -> None:
    said = tmp_path / "said"
    run = ["sh", "-c", f"(sleep 0.4; echo late >&2 && echo $? >> {said}) & exit 0"]
    sender = EventDispatcher(config(tmp_path, command={"run": run}))
    before = threading.active_count(), len(os.listdir("/proc/self/fd"))
    sender.publish([event(number) for number in range(1, 9)])
    until(lambda: sender.states[0].delivered == 8)
    assert (threading.active_count(), len(os.listdir("/proc/self/fd"))) == before
    sender.close()
    until(lambda: said.exists() and said.read_text() == "0\n" * 8)  # each could still say something


def test_a_command_is_ended_with_the_run_and_all_that_it_has_started(tmp_path: Path) -> None:
    started = tmp_path / "started"
    told: list[str] = []
    run = ["sh", "-c", f"sleep 60 & echo $! > {started}.part && mv {started}.part {started}; wait"]
    sender = EventDispatcher(config(tmp_path, command={"run": run}), tell=told.append)
    sender.publish([event(1)])
    until(started.exists)
    sender.close(drain=0)
    state = Path(f"/proc/{started.read_text().strip()}/stat")
    until(lambda: not state.exists() or state.read_text().split(") ")[1][0] in "ZX")
    assert told == ["command sh: 1 events wait on disk; the next run delivers them"]


def test_of_what_a_command_says_the_end_alone_is_kept(tmp_path: Path) -> None:
    told: list[str] = []
    flood = "import os, sys\nfor _ in range(500): os.write(2, b'x' * 65536)\nsys.exit('\\nthe end')"
    sender = EventDispatcher(config(tmp_path, command={"run": [sys.executable, "-c", flood]}), tell=told.append)
    tracemalloc.start()
    try:
        sender.publish([event(1)])
        until(lambda: bool(told))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    sender.close(drain=0)
    assert told == [f"command {sys.executable}: an event is dropped: exit code 1: the end"]
    assert peak < 2**21


@contextmanager
def piped() -> Iterator[int]:
    """Standard output is a pipe, of which this is the reading end."""
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as output, redirect_stdout(output):
        yield reading


def test_standard_output_that_nobody_reads_does_not_hold_the_end(tmp_path: Path) -> None:
    told: list[str] = []
    tables = config(tmp_path, json_lines={"path": "-"})
    with piped() as reading:
        sender = EventDispatcher(tables, tell=told.append)
        sender.publish([event(number) for number in range(1, 1001)])
        until(lambda: sender.states[0].delivered > 100)
        start = time.monotonic()
        sender.close(drain=0.1)
        assert time.monotonic() - start < 2
        (left,) = (state.waiting for state in sender.states)
        again = EventDispatcher(tables)  # what was for another reader is gone
        assert again.states[0].waiting == 0
        again.close()
        os.set_blocking(reading, False)
        lines = os.read(reading, 1 << 20).splitlines()
        os.close(reading)
    assert told == [f"events on standard output: {left} events are lost: they were not taken in time"]
    assert [json.loads(line)["number"] for line in lines[: 1000 - left]] == list(range(1, 1001 - left))
    assert len(lines) <= 1001 - left


def test_a_reader_of_standard_output_that_leaves_ends_the_run(tmp_path: Path) -> None:
    told: list[str] = []
    path = tmp_path / "events.jsonl"
    tables = {"json_lines": {"path": "-"}, "command": {"run": ["sh", "-c", f"cat >> {path}"]}}
    with piped() as reading:
        sender = EventDispatcher(config(tmp_path, **tables), tell=told.append)
        sender.publish([event(1)])
        assert json.loads(os.read(reading, 1 << 16)) == event(1).to_dict()
        os.close(reading)
        number = 1
        with pytest.raises(BrokenPipeError):  # soon, though an event may come before that is seen
            while number < 1000:
                number += 1
                sender.publish([event(number)])
                time.sleep(0.01)
        sender.close(drain=20)
    assert path.read_text().count('"id"') == number  # the other way has all
    assert told == []


def test_what_was_published_outlives_a_kill(hook: Hook, tmp_path: Path) -> None:
    program = (
        "import os, sys; sys.path[:0] = {path!r}\n"
        "from support.events import event\n"
        "from ovs_edge.runtime.events.delivery.dispatcher import EventDispatcher\n"
        "from ovs_edge.runtime.events.delivery.options import parse_delivery\n"
        "sender = EventDispatcher(parse_delivery({table!r}, 'test'))\n"
        "sender.publish([event(number) for number in range(1, 101)])\n"
        "os.kill(os.getpid(), 9)\n"
    )
    table = {"webhook": {"url": "http://127.0.0.1:9/hook"}, "spool": {"folder": str(tmp_path / "spool")}}
    program = program.format(path=[str(Path(__file__).parents[2])], table=table)
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, timeout=60)
    assert done.returncode == -signal.SIGKILL, done.stderr
    (kept,) = (tmp_path / "spool").glob("*.sqlite3")
    spool = Spool(tmp_path / "spool", kept.name.removesuffix("-0.sqlite3"), 1000, 10**6)
    assert len(spool) == 100
    spool.close()


def test_a_folder_that_cannot_be_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("a file")
    with pytest.raises(SinkError, match="events cannot wait in .*; choose another folder"):
        EventDispatcher(config(tmp_path, json_lines={"path": "x"}))


@pytest.mark.parametrize(
    ("tables", "said"),
    [
        ({"webhook": {"url": "ftp://x"}}, "[webhook] url is 'ftp://x'"),
        ({"webhook": {"url": "https://x:99999/S3cret?S3cret#S3cret"}}, "[webhook] url is 'https://x:99999/', expected"),
        ({"webhook": {"url": "user:S3cret@x/S3cret"}}, "[webhook] url is 'user:***@x/', expected"),
        ({"command": {"run": "no-such-program x"}}, "there is no program 'no-such-program'"),
        ({"webhook": {"url": "http://x", "secret": "whsec_?"}}, "no base64 follows"),
        ({"webhook": {"url": "http://x", "secret": "whsec_ä"}}, "no base64 follows"),
        ({"webhook": {"url": "http://x", "secret": "whsec_"}}, "[webhook] the secret is empty"),
        ({"webhook": {"url": "http://x", "secret": ""}}, "[webhook] the secret is empty"),
        ({"webhook": {"url": "http://x", "headers": {"A-b": "1", "a-B": "2"}}}, "headers has 'a-b' twice"),
        ({"webhook": {"url": "http://u:p@x", "headers": {"authorization": "Bearer t"}}}, "give one of them"),
        ({"webhook": {"url": "http://u%3Aser:S3cret@x"}}, "[webhook] url has a user's name with a colon"),
        ({"webhook": {"url": "http://x/S3cret\udcff"}}, r"[webhook] url holds '\xff', expected printable characters"),
        ({"command": {"run": "echo 'a"}}, "cannot be split into words"),
        ({"command": {"run": []}}, "[command] run is empty"),
        ({"json_lines": {}}, "[json_lines] has no path"),
        ({"json_lines": "x"}, "json_lines is str, expected a table [json_lines]"),
        ({"webhook": {"url": "http://x", "timeout": True}}, "[webhook] timeout is bool, expected float"),
        ({"webhook": {"url": "http://x/tür"}}, "[webhook] url has 'ü' after the host, expected ASCII; write %C3%BC"),
        ({"webhook": {"url": f"http://{'a' * 64}.org/S3cret"}}, f"[webhook] url is 'http://{'a' * 64}.org/', expected"),
        ({"webhook": {"url": "http://x", "headers": {"X Y": "a"}}}, "[webhook] headers has 'X Y', expected names"),
        ({"webhook": {"url": "http://x", "headers": {"X-Y": "é😀"}}}, "[webhook] the header X-Y has '😀'"),
        ({"webhook": {"url": "http://x", "headers": {"Content-length": "3"}}}, "leave it out"),
        ({"mqtt": {"url": "mqtt://a..b"}}, "[mqtt] url is 'mqtt://a..b', expected such as"),
        ({"json_lines": {"path": "nodir/e.jsonl"}}, "nodir/e.jsonl: there is no folder nodir; make it"),
    ],
)
def test_options_that_cannot_be_are_refused(tables: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as refused:
        EventDispatcher(config(tmp_path, **tables))
    assert said in str(refused.value)


@pytest.mark.parametrize("content", [b"\x89PNG\r\n", b"my notes", b'{"name": "mine"}', b"[zones.a]", b"\n", None])
def test_events_are_added_to_no_file_of_others(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "mine"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=r"mine.*choose another name|mine, a folder; give a name"):
        EventDispatcher(config(tmp_path, json_lines={"path": str(path)}))
    assert path.is_dir() if content is None else path.read_bytes() == content


def test_no_thread_or_descriptor_stays(hook: Hook, tmp_path: Path) -> None:
    threads = threading.active_count()

    def once() -> int:
        tables = {
            "webhook": {"url": address(hook)},
            "json_lines": {"path": str(tmp_path / "lines")},
            "command": {"run": "true"},
        }
        sender = EventDispatcher(config(tmp_path, **tables))
        sender.publish([event(1)])
        sender.close(drain=20)
        until(lambda: threading.active_count() <= threads)
        return len(os.listdir("/proc/self/fd"))

    once()
    assert once() == once()


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://user:S3cret@host:8443/services/S3cret?key=S3cret", "https://host:8443"),
        ("http://[::1]/S3cret", "http://[::1]"),
    ],
)
def test_of_a_webhook_the_host_alone_is_shown(url: str, shown: str) -> None:
    webhook = parse_delivery({"webhook": {"url": url}}, "test").webhook
    assert webhook is not None
    assert webhook.shown == shown


def test_a_corrected_password_leaves_what_waits_where_it_is() -> None:
    wrong, right, other = (
        parse_delivery({"webhook": {"url": f"https://{login}example.org/{place}"}}, "test").webhook
        for login, place in (("u:wrong@", "hook"), ("u:right@", "hook"), ("", "elsewhere"))
    )
    keys = [WebhookReceiver(options).key for options in (wrong, right, other) if options is not None]
    assert len(keys) == 3
    assert keys[0] == keys[1] != keys[2]
