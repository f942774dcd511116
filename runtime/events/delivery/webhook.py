"""Events by HTTP POST, signed as https://www.standardwebhooks.com describes.

    webhook-id: ID                    the event's id: a receiver that has seen it drops the request
    webhook-timestamp: SECONDS        of this attempt, since 1970
    webhook-signature: v1,BASE64      HMAC-SHA256 of "ID.SECONDS.BODY" with the secret; only where there is one

A secret that begins with `whsec_` is base64 after that; any other is taken as it is (`WebhookOptions.signing_key`).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import json
import time
from collections.abc import Callable
from urllib.parse import unquote_to_bytes, urlsplit

from .exchange import Exchange, HttpConnection
from .options import WebhookOptions
from .receiver import Refused, Undelivered, without_login
from .spool import SpooledEvent

_PASSING = frozenset({408, 409, 425, 429})  # statuses below 500 that another attempt may cure


class WebhookReceiver:
    """One connection for all requests, opened again where it broke."""

    def __init__(self, options: WebhookOptions) -> None:
        self._options = options
        parts = urlsplit(options.url)
        self._target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        own = {"Content-Type": "application/json", "User-Agent": "ovs-edge"}
        if parts.username is not None:
            login = unquote_to_bytes(parts.username) + b":" + unquote_to_bytes(parts.password or "")
            own["Authorization"] = "Basic " + base64.b64encode(login).decode()
        given = {name.lower() for name in options.headers}  # capitals make no other header
        self._headers = {name: own[name] for name in own if name.lower() not in given} | dict(options.headers)
        self._key = options.signing_key
        self._connection: HttpConnection | None = None
        self.key = "webhook-" + hashlib.sha256(without_login(options.url).encode()).hexdigest()[:16]
        self.name = f"webhook {options.shown}"

    def deliver(self, event: SpooledEvent, stopped: Callable[[], bool]) -> None:
        """Send one request. Statuses 2xx are success; 5xx, 408, 409, 425 and 429 are tried again, others refused.

        From the name server's answer to the last byte it takes at most `timeout` seconds.
        """
        body = event.text
        if self._options.snapshots and event.snapshot is not None:
            picture = base64.b64encode(event.snapshot).decode()
            body = json.dumps({**json.loads(body), "snapshot": picture}, ensure_ascii=False)
        data = body.encode("utf-8", "replace")
        number = str(json.loads(event.text)["id"])
        moment = str(int(time.time()))
        headers = self._headers | {"webhook-id": number, "webhook-timestamp": moment}
        if self._key is not None:
            headers["webhook-signature"] = signature(self._key, number, moment, data)
        if self._connection is None:
            self._connection = HttpConnection(self._options.url, self._options.timeout)
        exchange = Exchange(self._connection, self._target, data, headers)
        if not exchange.wait(self._options.timeout, stopped):
            self._connection = None  # the exchange closes it once it can
            if exchange.status is None:
                raise Undelivered(self._reason(TimeoutError()))
        if exchange.error is not None:
            self.close()
            if exchange.status is None:
                raise Undelivered(self._reason(exchange.error)) from exchange.error
        status = exchange.status
        assert status is not None
        if status >= 500 or status in _PASSING:
            raise Undelivered(f"status {status}")
        if not 200 <= status < 300:
            raise Refused(f"status {status}")

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _reason(self, error: Exception) -> str:
        if isinstance(error, TimeoutError):
            return f"no answer within {self._options.timeout:g} s"
        if isinstance(error, http.client.RemoteDisconnected):
            return "no answer; it closes the connection"
        if isinstance(error, http.client.HTTPException):
            return f"its answer is not HTTP ({type(error).__name__})"
        return f"no answer ({getattr(error, 'strerror', None) or error or type(error).__name__})"


def signature(key: bytes, number: str, moment: str, data: bytes) -> str:
    """The value of `webhook-signature`."""
    digest = hmac.new(key, f"{number}.{moment}.".encode() + data, hashlib.sha256).digest()
    return "v1," + base64.b64encode(digest).decode()
