"""Whether a broker or a webhook can be reached, found out without a message that others see."""

from __future__ import annotations

import socket
import threading
from urllib.parse import unquote, urlsplit

from ....bundle.errors import OvsError, UsageError, require
from .mqtt import tls_context
from .options import MqttOptions, WebhookOptions
from .webhook import WebhookReceiver

PATIENCE = 8.0  # seconds for an answer


def broker_problem(options: MqttOptions) -> str | None:
    """Connect, sign in and leave; None, or why that fails. Raises `MissingExtraError` without paho-mqtt."""
    mqtt, enums = require("paho.mqtt.client", "events"), require("paho.mqtt.enums", "events")
    parts = urlsplit(options.url)
    answered, answers = threading.Event(), []

    def on_connect(client: object, userdata: object, flags: object, reason: object, properties: object) -> None:
        answers.append(reason)
        answered.set()

    # Neither the service's name, which would end its connection, nor its last will.
    client = mqtt.Client(enums.CallbackAPIVersion.VERSION2)
    client.on_connect = on_connect
    if parts.username is not None:
        inside = None if parts.password is None else unquote(parts.password)
        client.username_pw_set(unquote(parts.username), options.password or inside)
    try:
        if parts.scheme == "mqtts":
            client.tls_set_context(tls_context(options))
        client.connect_timeout = PATIENCE
        client.connect(parts.hostname, parts.port or (8883 if parts.scheme == "mqtts" else 1883))
        client.loop_start()
        if not answered.wait(PATIENCE):
            return f"no answer within {PATIENCE:g} s"
        return str(answers[0]) if getattr(answers[0], "is_failure", False) else None
    except (OSError, ValueError, OvsError) as error:
        return str(error)
    finally:
        client.disconnect()
        client.loop_stop()


def webhook_problem(options: WebhookOptions) -> str | None:
    """Look at the secret, connect to the host and leave, without a request; None, or why that fails."""
    parts = urlsplit(options.url)
    try:
        WebhookReceiver(options)
    except UsageError as error:
        return str(error)
    try:
        socket.create_connection(
            (parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)), PATIENCE
        ).close()
    except OSError as error:
        return str(error)
    return None
