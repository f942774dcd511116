"""Whether events can get to where they go, found out without a message that others see."""

from __future__ import annotations

import socket
import ssl
import threading
from urllib.parse import urlsplit

from ....bundle.errors import UsageError, require
from .json_lines import JsonLinesReceiver
from .mqtt.broker import address, cause, sign_in, unanswered
from .mqtt.certificates import tls_failure
from .options import JsonLinesOptions, MqttOptions, WebhookOptions

PATIENCE = 8.0  # seconds for an answer


def broker_problem(options: MqttOptions) -> str | None:
    """Connect, sign in and leave; None, or why that fails. Raises `MissingExtraError` without paho-mqtt."""
    mqtt, enums = require("paho.mqtt.client", "events"), require("paho.mqtt.enums", "events")
    answered = threading.Event()
    answers: list[str | None] = []

    def answer(problem: str | None) -> None:
        answers.append(problem)
        answered.set()

    # Neither the service's name, which would end its connection, nor its last will.
    client = mqtt.Client(enums.CallbackAPIVersion.VERSION2)
    client.on_connect = lambda client, userdata, flags, reason, *rest: answer(
        f"it refuses the connection: {str(reason).lower()}" if reason.is_failure else None
    )
    client.on_disconnect = lambda *rest: answer(unanswered(options))
    client.connect_timeout = PATIENCE
    try:
        sign_in(client, options)
        client.connect(*address(options))
        client.loop_start()
        return answers[0] if answered.wait(PATIENCE) else unanswered(options, silent=True)
    except OSError as error:
        return cause(error, options)
    except UsageError as error:
        return str(error)
    finally:
        client.disconnect()
        client.loop_stop()


def webhook_problem(options: WebhookOptions) -> str | None:
    """Connect to the host, with TLS where the address says so, and leave without a request; None, or why that fails."""
    parts = urlsplit(options.url)
    host, secure = parts.hostname or "", parts.scheme == "https"
    try:
        with socket.create_connection((host, parts.port or (443 if secure else 80)), PATIENCE) as connection:
            if secure:
                ssl.create_default_context().wrap_socket(connection, server_hostname=host).close()
    except ssl.SSLCertVerificationError as error:
        return f"its certificate is not accepted ({error.verify_message.rstrip('.')})"
    except (ssl.SSLError, ConnectionResetError) as error:
        if not secure:
            return str(error)
        return f"no TLS ({tls_failure(error)}); the address of a port without TLS begins with http://"
    except OSError as error:
        return str(error)
    return None


def lines_problem(options: JsonLinesOptions) -> str | None:
    """Look at the file and its folder, without writing; None, or why events cannot be written there."""
    try:
        JsonLinesReceiver(options)
    except UsageError as error:
        return str(error)
    return None
