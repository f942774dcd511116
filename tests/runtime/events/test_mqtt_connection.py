"""What is told of a broker that cannot be reached, and what a connection leaves behind."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("paho.mqtt.client", reason="paho-mqtt is not installed; it comes with the extra 'events'")
from support.mosquitto import MISSING, PROGRAM, Broker, until

from ovs_edge.bundle.errors import UsageError
from ovs_edge.runtime.events.delivery.mqtt import broker as broker_module
from ovs_edge.runtime.events.delivery.mqtt.announced import AnnouncedTopics
from ovs_edge.runtime.events.delivery.mqtt.broker import BrokerConnection
from ovs_edge.runtime.events.delivery.mqtt.certificates import tls_context
from ovs_edge.runtime.events.delivery.options import MqttOptions, parse_delivery
from ovs_edge.runtime.events.delivery.probe import broker_problem

needs_broker = pytest.mark.skipif(PROGRAM is None, reason=MISSING)
# paho leaves the socket of a handshake that failed to Python, which closes it.
pahos_socket = pytest.mark.filterwarnings("ignore:unclosed <ssl.SSLSocket:ResourceWarning")


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker_module, "_RECONNECT", (0.05, 0.1))
    monkeypatch.setattr(broker_module, "_FAULT", (0.05, 0.1))


class Connection:
    """A connection that counts."""

    def __init__(self, options: MqttOptions, *, faults: int = 0) -> None:
        """The first `faults` connections end by an exception."""
        self.told: list[str] = []
        self.connections = 0
        self._faults = faults
        self._broker = BrokerConnection(options, ("status", "offline"), self._count, lambda: None, self.told.append)
        self._broker.start()

    def _count(self) -> None:
        self.connections += 1
        if self.connections <= self._faults:
            raise PermissionError("surprise")

    def attempts(self, more: int = 2) -> list[str]:
        """What was told once there were `more` attempts to connect, without what every note begins with."""
        client, seen = self._broker._client, []
        client.on_pre_connect = lambda *rest: (self._broker._on_pre_connect(*rest), seen.append(1))
        until(lambda: len(seen) >= more and bool(self.told), 8)
        self._broker.close()
        assert all(note.startswith("MQTT broker mqtt") for note in self.told)
        return [note.split(": ", 1)[1].removesuffix("; events wait on disk") for note in self.told]

    def close(self) -> None:
        self._broker.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def secure(certificates: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    keys = (f"certfile {certificates}/server.pem", f"keyfile {certificates}/server.key")
    found = Broker(tmp_path_factory.mktemp("tls") / "broker", *keys, "allow_anonymous true")
    yield found
    found.kill()


@needs_broker
@pahos_socket
def test_a_certificate_that_is_not_accepted_is_told_once(secure: Broker, certificates: Path) -> None:
    url = f"mqtts://127.0.0.1:{secure.port}"
    right = Connection(MqttOptions(url, ca_file=str(certificates / "ca.pem")))
    until(lambda: right.connections == 1)
    right.close()
    assert right.told == []
    wrong = MqttOptions(url, ca_file=str(certificates / "other.pem"))
    (said,) = Connection(wrong).attempts()
    assert said.startswith("the broker's certificate is not accepted (unable to get local issuer certificate)")
    assert "ca_file" in said
    assert broker_problem(wrong) == said


@needs_broker
@pahos_socket
def test_a_certificate_of_another_host_is_told(secure: Broker, certificates: Path) -> None:
    named = MqttOptions(f"mqtts://localhost:{secure.port}", ca_file=str(certificates / "ca.pem"))
    (said,) = Connection(named).attempts()
    assert "not accepted (Hostname mismatch, certificate is not valid for 'localhost')" in said


@needs_broker
@pahos_socket
def test_with_tls_and_without_are_told_apart(secure: Broker, tmp_path: Path) -> None:
    plain = Broker(tmp_path / "broker")
    try:
        (said,) = Connection(MqttOptions(f"mqtt://127.0.0.1:{secure.port}")).attempts()
        assert said == (
            f"127.0.0.1:{secure.port} closes the connection without an answer; "
            "the address of a port with TLS begins with mqtts://"
        )
        assert broker_problem(MqttOptions(f"mqtt://127.0.0.1:{secure.port}")) == said
        (said,) = Connection(MqttOptions(f"mqtts://127.0.0.1:{plain.port}")).attempts()
        assert said.startswith(f"no TLS with 127.0.0.1:{plain.port} (")
        assert "begins with mqtt://" in said
    finally:
        plain.kill()


def test_a_host_and_a_port_without_a_broker_are_told() -> None:
    port = free_port()
    (said,) = Connection(MqttOptions(f"mqtt://127.0.0.1:{port}")).attempts()
    assert said == f"connection refused by 127.0.0.1:{port}; is the broker running, and is this its port?"
    (said,) = Connection(MqttOptions("mqtt://no-such-host.invalid")).attempts(1)
    assert said.startswith("the address of the host 'no-such-host.invalid' is not found (")


@needs_broker
def test_another_cause_and_the_end_of_it_are_told(tmp_path: Path) -> None:
    broker = Broker(tmp_path / "broker")
    connection = Connection(MqttOptions(f"mqtt://127.0.0.1:{broker.port}"))
    try:
        until(lambda: connection.connections == 1)
        assert connection.told == []
        broker.kill()
        until(lambda: len(connection.told) == 1)
        with socket.create_server(("127.0.0.1", broker.port)) as silent:
            thread = threading.Thread(target=lambda: [silent.accept()[0].close() for _ in range(3)])
            thread.start()
            thread.join()
            until(lambda: len(connection.told) >= 2)
        broker.start()
        until(lambda: connection.connections == 2)
        until(lambda: connection.told[-1].endswith(": connected"))
        causes = [note.split(": ", 1)[1] for note in connection.told]
        assert causes[0].startswith("connection refused by")
        assert causes[1].startswith(f"127.0.0.1:{broker.port} closes the connection without an answer")
    finally:
        connection.close()
        broker.kill()


@needs_broker
def test_two_clients_of_one_client_id_say_so_once(tmp_path: Path) -> None:
    broker = Broker(tmp_path / "broker")
    options = MqttOptions(f"mqtt://127.0.0.1:{broker.port}", client_id="same")
    twins = Connection(options), Connection(options)
    try:
        until(lambda: all(twin.told for twin in twins) or sum(len(twin.told) for twin in twins) == 1)
        (said,) = next(twin.told for twin in twins if twin.told)
        assert "ends the connection again and again" in said
        assert "another client has the same client_id 'same'" in said
    finally:
        for twin in twins:
            twin.close()
        broker.kill()
    assert all(len(twin.told) <= 1 for twin in twins)


@needs_broker
def test_an_exception_ends_the_connection_and_not_its_thread(tmp_path: Path) -> None:
    broker = Broker(tmp_path / "broker")
    connection = Connection(MqttOptions(f"mqtt://127.0.0.1:{broker.port}"), faults=3)
    try:
        until(lambda: connection.connections == 4)
        until(lambda: len(connection.told) == 2)
        ended, connected = (note.split(": ", 1)[1] for note in connection.told)
        assert ended == "the connection was ended by PermissionError: surprise; events wait on disk"
        assert connected == "connected"
    finally:
        connection.close()
        broker.kill()


def test_an_exception_that_comes_again_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    attempts: list[float] = []

    def fail(*given: object) -> None:
        attempts.append(time.monotonic())
        raise ValueError("surprise")

    monkeypatch.setattr(broker_module, "_FAULT", (0.02, 0.08))
    monkeypatch.setattr(BrokerConnection, "_on_pre_connect", fail)
    connection = Connection(MqttOptions(f"mqtt://127.0.0.1:{free_port()}"))
    until(lambda: len(attempts) == 6)
    reason = connection._broker.reason
    connection.close()
    count = len(attempts)
    assert reason == "the connection was ended by ValueError: surprise"
    assert [note.endswith(f": {reason}; events wait on disk") for note in connection.told] == [True]
    assert attempts[5] - attempts[4] > 0.07 > 3 * 0.02  # longer and longer
    time.sleep(0.1)
    assert len(attempts) == count  # its thread has ended


def test_a_message_without_a_connection_waits_for_one() -> None:
    found = Connection(MqttOptions(f"mqtt://127.0.0.1:{free_port()}"))
    info = found._broker.publish("a", "b", retain=False)
    assert not info.is_published()
    info.wait_for_publish(0.01)  # raises nothing
    found.close()


def test_a_lock_that_nobody_may_look_at_counts_as_held(tmp_path: Path) -> None:
    mine = AnnouncedTopics(tmp_path, "broker", "mine")
    (tmp_path / "announced-other-0.json").write_text('{"broker": "broker", "topics": ["a"]}')
    assert mine.elsewhere() == frozenset()
    (tmp_path / "announced-other-0.lock").mkdir()  # cannot be opened, as another user's cannot
    assert mine.elsewhere() == {"a"}
    mine.close()


@needs_broker
def test_a_closed_connection_leaves_no_socket(tmp_path: Path) -> None:
    broker = Broker(tmp_path / "broker")

    def opened_and_closed() -> int:
        connection = Connection(MqttOptions(f"mqtt://127.0.0.1:{broker.port}"))
        until(lambda: connection.connections == 1)
        connection.close()
        return len(os.listdir("/proc/self/fd"))

    try:
        first = opened_and_closed()
        assert [opened_and_closed() for _ in range(4)] == [first] * 4
    finally:
        broker.kill()


def test_a_file_of_certificates_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    missing, other = str(tmp_path / "ca.pem"), str(tmp_path / "other.txt")
    Path(other).write_text("no certificate\n")
    os.mkfifo(pipe := str(tmp_path / "pipe"))
    for files, said in (
        ((missing, None, None), r"\[mqtt\] ca_file: cannot read .*ca\.pem \(No such file or directory\)"),
        ((None, other, missing), r"\[mqtt\] key_file: cannot read .*ca\.pem \(No such file or directory\)"),
        ((None, missing, other), r"\[mqtt\] cert_file: cannot read .*ca\.pem \(No such file or directory\)"),
        ((str(tmp_path), None, None), r"\[mqtt\] ca_file: cannot read .* \(Is a directory\)"),
        ((pipe, None, None), r"\[mqtt\] ca_file: .* is a pipe, expected a file"),
        ((other, None, None), r"\[mqtt\] ca_file: .*other\.txt holds no certificate, expected a PEM file"),
        ((None, other, other), r"\[mqtt\] cert_file, key_file: .*other\.txt and .* are no certificate and its key"),
    ):
        with pytest.raises(UsageError, match=said):
            tls_context(*files)
        names = ("ca_file", "cert_file", "key_file")
        given = {name: value for name, value in zip(names, files, strict=True) if value is not None}
        with pytest.raises(UsageError, match=f"^zones.toml: {said}"):
            parse_delivery({"mqtt": {"url": "mqtts://broker", **given}}, "zones.toml")


def test_a_key_with_a_passphrase_is_refused_and_nobody_is_asked_for_it(certificates: Path, tmp_path: Path) -> None:
    words = ("openssl", "ec", "-aes256", "-passout", "pass:abcd", "-in", "server.key", "-out", str(tmp_path / "key"))
    made = subprocess.run(words, cwd=certificates, check=False, capture_output=True)
    assert made.returncode == 0, made.stderr
    certificate = str(certificates / "server.pem")
    with pytest.raises(UsageError, match=r"key_file: .*key has a passphrase, expected a key without one"):
        tls_context(None, certificate, str(tmp_path / "key"))
    tls_context(str(certificates / "ca.pem"), certificate, str(certificates / "server.key"))
