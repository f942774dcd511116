"""A real MQTT broker, and a subscriber that remembers everything."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

PROGRAM = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
MISSING = "no mosquitto here; on Debian: apt-get install mosquitto"


def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    """Return once `condition` is true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.01)


class Broker:
    """mosquitto on a free port, which can be killed and started again."""

    def __init__(self, folder: Path, *lines: str, lasting: bool = False) -> None:
        """`lasting`: what it holds for others is on disk at once, and outlives a kill."""
        assert PROGRAM is not None
        folder.mkdir()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._config = folder / "mosquitto.conf"
        disk = (
            "persistence true",
            f"persistence_location {folder}/",
            "autosave_interval 1",
            "autosave_on_changes true",
        )
        self._config.write_text(
            "\n".join(
                (
                    f"listener {self.port} 127.0.0.1",
                    "user root",
                    "max_queued_messages 0",
                    "log_dest none",
                    "set_tcp_nodelay true",
                    *(disk if lasting else ()),
                    *(lines or ("allow_anonymous true",)),
                    "",
                )
            )
        )
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        assert PROGRAM is not None
        self._process = subprocess.Popen([PROGRAM, "-c", str(self._config)], stderr=subprocess.PIPE)
        until(self._answers)

    def kill(self) -> None:
        """End it at once."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def _answers(self) -> bool:
        assert self._process is not None and self._process.poll() is None, self._process.communicate()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


class Subscriber:
    """Gets everything below a topic, also what comes while its connection is broken: its session is kept."""

    def __init__(self, port: int, topic: str = "#", user: tuple[str, str] | None = None) -> None:
        self.messages: list[tuple[str, bytes, bool]] = []  # topic, payload, retained
        self._topic = topic
        self._ready = threading.Event()
        self._client = Client(CallbackAPIVersion.VERSION2, client_id=f"subscriber-{port}", clean_session=False)
        if user is not None:
            self._client.username_pw_set(*user)
        self._client.on_connect = lambda client, *rest: client.subscribe(topic, qos=1)
        self._client.on_subscribe = lambda *rest: self._ready.set()
        self._client.on_message = self._on_message
        self._client.reconnect_delay_set(1, 1)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        assert self._ready.wait(20)

    def _on_message(self, client: Client, userdata: object, message: MQTTMessage) -> None:
        self.messages.append((message.topic, message.payload, message.retain))

    def of(self, topic: str) -> list[bytes]:
        """Payloads that came on `topic`."""
        return [payload for found, payload, _ in list(self.messages) if found == topic]

    def statuses(self) -> list[bytes]:
        """Payloads of all processes' `ovs-edge/status/PROCESS`, in their order."""
        return [payload for found, payload, _ in list(self.messages) if found.startswith("ovs-edge/status/")]

    def close(self) -> None:
        """Disconnect."""
        self._client.disconnect()
        self._client.loop_stop()


def retained(port: int) -> dict[str, bytes]:
    """What a broker holds for new subscribers, by topic."""
    found: dict[str, bytes] = {}
    complete = threading.Event()

    def on_message(client: Client, userdata: object, message: MQTTMessage) -> None:
        if message.topic == "end":
            complete.set()
        elif message.retain:
            found[message.topic] = message.payload

    client = Client(CallbackAPIVersion.VERSION2)
    client.on_connect = lambda client, *rest: client.subscribe("#", qos=1)
    client.on_subscribe = lambda client, *rest: client.publish("end", qos=1)  # retained messages come before it
    client.on_message = on_message
    client.connect("127.0.0.1", port)
    client.loop_start()
    assert complete.wait(20)
    client.disconnect()
    client.loop_stop()
    return found
