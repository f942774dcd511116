"""A connection to an MQTT broker that comes back by itself, and why it is not there."""

from __future__ import annotations

import socket
import ssl
import sys
import threading
import time
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, unquote_to_bytes, urlsplit

from .....bundle.addresses import redact
from .....bundle.errors import require
from ..options import MqttOptions
from .certificates import tls_context, tls_failure

if TYPE_CHECKING:
    from paho.mqtt.client import Client, MQTTMessageInfo

_KEEPALIVE = 15  # seconds between two signs of life; a broker that is gone without a word is missed after these
_RECONNECT = (1, 15)  # seconds, least and most, between two attempts to connect
_UNWANTED = (15, 60)  # likewise, once the broker has ended several connections right after they came about
_SHORT, _MOST_SHORT = 10.0, 3  # seconds of a connection that was short; how many of them in a row are told
_FAULT = (1.0, 60.0)  # seconds, least and most, until it is tried again after an exception; doubled each time
_GOODBYE = 1.0  # seconds for the last message, and for the thread to end
_NO_SIGN_OF_LIFE = 0x8D  # MQTT 5.0, 3.14.2.1: keep alive timeout


class BrokerConnection:
    """Held by paho-mqtt's thread from the start until `close`. Notes tell each cause of a failure once.

    An exception in that thread, be it of a callback or of paho itself at a packet that is none, ends the connection,
    not the thread.
    """

    def __init__(
        self,
        options: MqttOptions,
        will: tuple[str, str],
        connected: Callable[[], None],
        lost: Callable[[], None],
        tell: Callable[[str], None],
    ) -> None:
        """`will` is the topic and the payload of the last will, retained.

        `connected` and `lost` are called in paho's thread, at once when there is a connection and when there is none.

        Raises `UsageError` for certificates that cannot be read, `MissingExtraError` without paho-mqtt.
        """
        self.name = f"MQTT broker {redact(options.url)}"
        self.reason = "not connected yet"  # why there is no connection
        self._options = options
        self._connected, self._lost, self._tell = connected, lost, tell
        self._closed = threading.Event()
        self._since: float | None = None  # time.monotonic() of the connection; None without one
        self._answered = False  # whether the broker has answered this attempt, be it with a refusal
        self._told: str | None = None  # the reason that was told last; None once there was a connection again
        self._short = 0  # connections in a row that were short
        self._fault: str | None = None  # the exception that was told; None once a connection was not short
        self._pause = _FAULT[0]  # seconds until it is tried again after the next exception
        client_id = options.client_id or f"ovs-edge-{socket.gethostname()[:20]}-{uuid.uuid4().hex[:8]}"
        mqtt, enums = require("paho.mqtt.client", "events"), require("paho.mqtt.enums", "events")
        self._client: Client = mqtt.Client(enums.CallbackAPIVersion.VERSION2, client_id=client_id)
        sign_in(self._client, options)
        self._client.will_set(*will, qos=1, retain=True)
        self._client.max_inflight_messages_set(1)  # so that a connection that comes back does not change the order
        self._client.reconnect_delay_set(*_RECONNECT)
        self._client.on_socket_open = _without_delay
        self._client.on_pre_connect = self._on_pre_connect
        self._client.on_connect = self._on_connect
        self._client.on_connect_fail = self._on_connect_fail
        self._client.on_disconnect = self._on_disconnect
        self._client.loop_forever = self._last  # what paho's thread runs
        self._client.connect_async(*address(options), _KEEPALIVE)

    def start(self) -> None:
        """Begin to connect; returns at once."""
        self._client.loop_start()

    def publish(self, topic: str, payload: str | bytes, *, retain: bool) -> MQTTMessageInfo:
        """Send a message at quality of service 1; after a break it is sent again."""
        info = self._client.publish(topic, payload, qos=1, retain=retain)
        if info.rc == info.rc.MQTT_ERR_NO_CONN:  # paho has it, and sends it with the next connection
            info.rc = info.rc.MQTT_ERR_SUCCESS
        return info

    def close(self) -> None:
        """Disconnect, and let go of everything; nothing is published after that."""
        self._closed.set()
        self._client.disconnect()
        # An attempt to connect may take longer than anybody wants to wait; its thread then ends by itself.
        ending = threading.Thread(target=self._client.loop_stop, daemon=True)
        ending.start()
        ending.join(_GOODBYE)
        del self._client  # and its sockets with it, which a cycle of references would keep for long

    # -- in paho's thread --------------------------------------------------------------------------------------------

    def _last(self, **options: Any) -> None:
        """paho's loop, begun anew where an exception ends it."""
        client = self._client  # which `close` lets go of
        while True:
            try:
                type(client).loop_forever(client, **options)
                return
            except Exception as error:  # noqa: BLE001 - nobody else would connect again
                self._on_fault(error)
            if self._closed.wait(self._pause):
                return
            self._pause = min(_FAULT[1], 2 * self._pause)
            client.connect_async(*address(self._options), _KEEPALIVE)

    def _on_fault(self, error: Exception) -> None:
        if self._since is not None and time.monotonic() - self._since >= _SHORT:
            self._fault, self._pause = None, _FAULT[0]
        self._since = None
        self._lost()
        self.reason = f"the connection was ended by {type(error).__name__}: {error}"
        if self.reason != self._fault:
            self._fault = self.reason
            self._report(self.reason)

    def _on_pre_connect(self, client: Client, userdata: object) -> None:
        self._answered = False

    def _on_connect(self, client: Client, userdata: object, flags: object, reason: Any, properties: object) -> None:
        self._answered = True
        if reason.is_failure:
            self._report(f"it refuses the connection: {str(reason).lower()}")
            return
        if self._closed.is_set():
            client.disconnect()
            return
        self._since = time.monotonic()
        self._connected()
        if self._told is not None:
            self._told = None
            self._tell(f"{self.name}: connected")

    def _on_disconnect(self, client: Client, userdata: object, flags: object, reason: Any, properties: object) -> None:
        if self._since is not None:
            self.reason = "the connection is lost"
            self._lost()
            self._count(client, time.monotonic() - self._since)
            self._since = None
        elif not self._answered:
            self._report(unanswered(self._options, silent=reason.value == _NO_SIGN_OF_LIFE))

    def _on_connect_fail(self, client: Client, userdata: object) -> None:
        error = sys.exc_info()[1]  # paho calls this while it handles the error, which it does not hand over
        self._report(cause(error, self._options) if isinstance(error, OSError) else "no connection")

    def _report(self, reason: str) -> None:
        self.reason = reason
        if reason != self._told and not self._closed.is_set():
            self._told = reason
            self._tell(f"{self.name}: {reason}; events wait on disk")

    def _count(self, client: Client, seconds: float) -> None:
        """Tell of a broker that ends connections right after they came about, once."""
        if self._closed.is_set() or self._short >= _MOST_SHORT:
            return
        self._short = self._short + 1 if seconds < _SHORT else 0
        if self._short == _MOST_SHORT:
            client.reconnect_delay_set(*_UNWANTED)
            own = self._options.client_id
            other = "" if own is None else f"another client has the same client_id {own!r}, or "
            self._tell(
                f"{self.name} ends the connection again and again right after it came about: {other}"
                "it forbids a message (its log tells which)"
            )


def sign_in(client: Client, options: MqttOptions) -> None:
    """Give `client` name, password and certificates. Raises `UsageError`."""
    parts = urlsplit(options.url)
    if parts.username is not None:
        inside = None if parts.password is None else unquote_to_bytes(parts.password)
        given = None if options.password is None else options.password.encode("utf-8", "surrogateescape")
        client.username_pw_set(unquote(parts.username), given or inside)  # type: ignore[arg-type]  # any bytes
    if is_secure(options):
        client.tls_set_context(tls_context(options.ca_file, options.cert_file, options.key_file))


def is_secure(options: MqttOptions) -> bool:
    """Whether the connection is by TLS."""
    return urlsplit(options.url).scheme == "mqtts"


def address(options: MqttOptions) -> tuple[str, int]:
    """Host and port of the broker."""
    parts = urlsplit(options.url)
    assert parts.hostname is not None
    return parts.hostname, parts.port or (8883 if is_secure(options) else 1883)


def cause(error: OSError, options: MqttOptions) -> str:
    """Why a connection could not be made, for people."""
    host, port = address(options)
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"the broker's certificate is not accepted ({error.verify_message.rstrip('.')}); "
            "[mqtt] ca_file names the file of certificates that are"
        )
    if isinstance(error, ssl.SSLError) or (is_secure(options) and isinstance(error, ConnectionResetError)):
        return (
            f"no TLS with {host}:{port} ({tls_failure(error)}); the address of a port without TLS begins with mqtt://"
        )
    if isinstance(error, socket.gaierror):
        return f"the address of the host {host!r} is not found ({error.strerror})"
    if isinstance(error, ConnectionRefusedError):
        return f"connection refused by {host}:{port}; is the broker running, and is this its port?"
    if isinstance(error, TimeoutError):
        return f"no answer from {host}:{port}"
    return f"no connection to {host}:{port} ({error.strerror or error})"


def unanswered(options: MqttOptions, *, silent: bool = False) -> str:
    """Why a connection that was made has come to nothing."""
    host, port = address(options)
    if silent:
        return f"{host}:{port} takes the connection and does not answer; is it an MQTT broker?"
    hint = (
        "does it ask for a certificate of this client ([mqtt] cert_file and key_file)?"
        if is_secure(options)
        else "the address of a port with TLS begins with mqtts://"
    )
    return f"{host}:{port} closes the connection without an answer; {hint}"


def _without_delay(client: Client, userdata: object, connection: Any) -> None:
    """Send small messages at once: the next one waits for the acknowledgement of this one."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
