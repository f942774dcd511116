"""Events to an MQTT broker, and Home Assistant's discovery.

    PREFIX/status                   "online", or "offline" (last will), retained
    PREFIX/CAMERA/events            every event as JSON, quality of service 1
    PREFIX/CAMERA/rules/RULE        "ON" or "OFF", retained, of a rule whose state lasts; of others each event as JSON,
                                    with "event_type" besides
    PREFIX/CAMERA/snapshot          JPEG, retained, where snapshots are asked for
    DISCOVERY/binary_sensor/NODE/RULE/config, DISCOVERY/event/NODE/RULE/config       for Home Assistant, retained

Cameras and rules are in topics by their `slug`. An event counts as delivered once the broker has acknowledged it.
"""

from __future__ import annotations

import hashlib
import json
import socket
import ssl
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from ....bundle.addresses import redact
from ....bundle.errors import UsageError, require
from ..event import EventKind
from ..rules import Rule
from .discovery import discovery_messages, rule_topic
from .options import MqttOptions
from .receiver import Undelivered
from .spool import SpooledEvent
from .topics import slug

if TYPE_CHECKING:
    from paho.mqtt.client import Client, MQTTMessageInfo

_PATIENCE = 3.0  # seconds without a connection after which it is told
_TICK = 0.02  # seconds between two looks at whether the run has ended
_KEEPALIVE = 15  # seconds between two signs of life; a broker that is gone without a word is missed after these
_RECONNECT = (1, 15)  # seconds, least and most, between two attempts to connect
_GOODBYE = 1.0  # seconds for the last message


class MqttReceiver:
    """One connection to a broker, held by paho-mqtt's thread; it comes back by itself."""

    def __init__(self, options: MqttOptions, cameras: Mapping[str, Mapping[str, Rule]]) -> None:
        """`cameras` are the rules of each camera by their names. Raises `MissingExtraError`, `UsageError`."""
        mqtt = require("paho.mqtt.client", "events")
        enums = require("paho.mqtt.enums", "events")
        self._options = options
        self._cameras = cameras
        self._lock = threading.Lock()
        self._states: dict[str, str] = {}  # topic -> "ON" or "OFF"
        self._configs: set[str] = set()  # topics of discovery that were sent
        self._connected = threading.Event()
        self._reason = "no connection"
        self._lost_at = time.monotonic()
        self._pending: tuple[int, list[MQTTMessageInfo]] | None = None  # the event on its way, and its messages
        parts = urlsplit(options.url)
        assert parts.hostname is not None
        secure = parts.scheme == "mqtts"
        digest = hashlib.sha256(f"{options.url} {options.prefix}".encode()).hexdigest()[:16]
        self.key = f"mqtt-{digest}"
        self.name = f"MQTT broker {redact(options.url)}"
        name = options.client_id or f"ovs-edge-{socket.gethostname()[:20]}-{uuid.uuid4().hex[:8]}"
        self._client: Client = mqtt.Client(enums.CallbackAPIVersion.VERSION2, client_id=name)
        if parts.username is not None:
            inside = None if parts.password is None else unquote(parts.password)
            self._client.username_pw_set(unquote(parts.username), options.password or inside)
        if secure:
            self._client.tls_set_context(tls_context(options))
        self._client.will_set(f"{options.prefix}/status", "offline", qos=1, retain=True)
        self._client.max_inflight_messages_set(1)  # so that a connection that comes back does not change the order
        self._client.reconnect_delay_set(*_RECONNECT)
        self._client.on_socket_open = _without_delay
        self._client.on_connect = self._on_connect
        self._client.on_connect_fail = self._on_connect_fail
        self._client.on_disconnect = self._on_disconnect
        self._client.connect_async(parts.hostname, parts.port or (8883 if secure else 1883), _KEEPALIVE)
        self._client.loop_start()

    def deliver(self, event: SpooledEvent, stopped: Callable[[], bool]) -> None:
        """Publish the event, and wait for the broker's acknowledgements."""
        if self._pending is None or self._pending[0] != event.place:
            while not self._connected.wait(_TICK):
                self._check(stopped)
            self._pending = event.place, [self._client.publish(*message) for message in self._messages(event)]
        for info in self._pending[1]:
            # After a break paho sends the message again by itself.
            while not info.is_published():
                self._check(stopped)
                info.wait_for_publish(_TICK)
        self._pending = None

    def reconfigure(self, cameras: Mapping[str, Mapping[str, Rule]]) -> None:
        """Announce other rules; those that are gone are taken back."""
        with self._lock:
            self._cameras = cameras
        if self._connected.is_set():
            self._announce()

    def close(self) -> None:
        """Say goodbye and disconnect."""
        if self._connected.is_set():
            info = self._client.publish(f"{self._options.prefix}/status", "offline", qos=1, retain=True)
            with suppress(RuntimeError, ValueError):  # the connection broke just now
                info.wait_for_publish(_GOODBYE)
        self._client.disconnect()
        self._client.loop_stop()

    def _check(self, stopped: Callable[[], bool]) -> None:
        if stopped():
            raise Undelivered(self._reason, wait=False)
        if not self._connected.is_set() and time.monotonic() - self._lost_at > _PATIENCE:
            self._lost_at = time.monotonic()
            raise Undelivered(self._reason, wait=False)

    def _messages(self, event: SpooledEvent) -> list[tuple[str, str | bytes, int, bool]]:
        """Topic, payload, quality of service and whether it is retained, of all messages of an event."""
        values: dict[str, Any] = json.loads(event.text)
        camera, kind = values["camera"], EventKind(values["kind"])
        base, topic = f"{self._options.prefix}/{slug(camera)}", rule_topic(self._options.prefix, camera, values["rule"])
        messages: list[tuple[str, str | bytes, int, bool]] = [(f"{base}/events", event.text, 1, False)]
        if kind.lasting:
            with self._lock:
                self._states[topic] = "ON" if kind is EventKind.STARTED else "OFF"
                messages.append((topic, self._states[topic], 1, True))
        else:
            text = json.dumps({"event_type": kind.value, **values}, ensure_ascii=False)
            messages.append((topic, text, 1, False))
        if self._options.snapshots and event.snapshot is not None:
            messages.append((f"{base}/snapshot", event.snapshot, 1, True))
        return messages

    # -- in paho's thread --------------------------------------------------------------------------------------------

    def _on_connect(self, client: Client, userdata: object, flags: object, reason: Any, properties: object) -> None:
        if reason.is_failure:
            self._reason = f"it refuses the connection: {str(reason).lower()}"
            return
        self._announce()
        self._connected.set()

    def _on_connect_fail(self, client: Client, userdata: object) -> None:
        self._reason = "no connection"

    def _on_disconnect(self, client: Client, userdata: object, flags: object, reason: Any, properties: object) -> None:
        if self._connected.is_set():
            self._lost_at = time.monotonic()
            self._reason = "the connection is lost"
        self._connected.clear()

    def _announce(self) -> None:
        """Send what is retained: that this client is there, discovery, and the states."""
        prefix, discovery = self._options.prefix, self._options.discovery
        with self._lock:
            cameras = self._cameras
            lasting = {
                rule_topic(prefix, camera, name)
                for camera, rules in cameras.items()
                for name, rule in rules.items()
                if rule.condition.lasting
            }
            self._states = {topic: self._states.get(topic, "OFF") for topic in sorted(lasting)}
            states = dict(self._states)
        self._client.publish(f"{prefix}/status", "online", qos=1, retain=True)
        found = {} if discovery is None else discovery_messages(discovery, prefix, cameras)
        for topic, payload in found.items():
            self._client.publish(topic, json.dumps(payload, ensure_ascii=False), qos=1, retain=True)
        for topic in self._configs - set(found):
            self._client.publish(topic, "", qos=1, retain=True)
        self._configs = set(found)
        for topic, state in states.items():
            self._client.publish(topic, state, qos=1, retain=True)


def _without_delay(client: Client, userdata: object, connection: Any) -> None:
    """Send small messages at once: the next one waits for the acknowledgement of this one."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def tls_context(options: MqttOptions) -> ssl.SSLContext:
    """The certificates that the broker's is checked by, and this client's own. Raises `UsageError`."""
    try:
        context = ssl.create_default_context(cafile=options.ca_file)
        if options.cert_file is not None:
            context.load_cert_chain(options.cert_file, options.key_file)
    except (OSError, ValueError) as error:
        raise UsageError(
            f"[mqtt] the certificates cannot be read ({error}); check ca_file, cert_file, key_file"
        ) from error
    return context
