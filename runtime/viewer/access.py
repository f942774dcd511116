"""Access control of the web viewer and of `ovs-serve`, from the headers of a request alone.

Pictures are private, and the viewer's page can change what runs. Three attacks matter: a stranger on the network (a
token is required wherever other machines can connect), a web site that the user happens to visit and that posts to
this machine (Origin, and JSON, which a foreign page cannot send without permission), and a web site whose name is made
to resolve to this machine, so that its origin looks right (Host must be an address or a name of this machine).
"""

from __future__ import annotations

import hmac
import ipaddress
import re
import secrets
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ...bundle.errors import UsageError

DEFAULT_ADDRESS = "127.0.0.1:8080"
_JSON = "application/json"
_SHORTEST_TOKEN = 8  # characters a user may choose; a made one has 22
_HOST = re.compile(r"(?:\[([0-9a-fA-F:.]+)\]|([A-Za-z0-9_.-]+))(?::(\d{1,5}))?")


@dataclass(frozen=True)
class Refusal:
    """Why a request is refused."""

    status: int  # of HTTP
    reason: str  # one line, for people


@dataclass(frozen=True)
class Address:
    """Where a server listens."""

    host: str  # a name or an address, IPv6 without brackets
    port: int  # 0 lets the system choose

    @property
    def loopback(self) -> bool:
        """Whether only this machine can connect."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def url(self, port: int, token: str | None = None) -> str:
        """The address for a browser; `port` is the one that was bound."""
        host = self.host
        if host in ("0.0.0.0", "::"):  # every address of this machine: name one that others can reach
            host = _outward_address() or socket.gethostname()
        shown = f"[{host}]" if ":" in host else host
        return f"http://{shown}:{port}/" + (f"?token={token}" if token else "")


def parse_address(text: str) -> Address:
    """`HOST:PORT`, `HOST` or `PORT`; what is left out comes from 127.0.0.1:8080. Raises `UsageError`."""
    default = Address("127.0.0.1", 8080)
    if text.isascii() and text.isdigit():
        text = f"{default.host}:{text}"
    found = _HOST.fullmatch(text)
    port = int(found[3]) if found and found[3] else default.port
    if found is None or port > 65535:
        raise UsageError(
            f"the address to listen at is {text[:80]!r}, expected HOST:PORT such as {DEFAULT_ADDRESS} or "
            "0.0.0.0:8080, with a port below 65536"
        )
    return Address(found[1] or found[2], port)


class Guard:
    """Accepts or refuses requests. `token` is None where none is required."""

    def __init__(
        self,
        address: Address,
        token: str | None = None,
        bodies: Sequence[str] = (_JSON,),
        names: Sequence[str] = (),
    ) -> None:
        """Without a `token`, one is generated if other machines can connect. Raises `UsageError`.

        `bodies` are the media types of a POST; "image/*" stands for all of a kind. `names` are further names by which
        clients reach this machine, such as that of a reverse proxy.
        """
        if token is not None and not (len(token) >= _SHORTEST_TOKEN and re.fullmatch(r"[\w.~-]+", token, re.ASCII)):
            raise UsageError(
                f"the token has {len(token)} characters, expected {_SHORTEST_TOKEN} or more, each of "
                "a-z A-Z 0-9 . _ ~ -; leave it out and one is generated"
            )
        self.token = token if token is not None or address.loopback else secrets.token_urlsafe(16)
        name = socket.gethostname().lower()
        self._bodies = tuple(bodies)
        self._names = {"localhost", name, f"{name}.local", address.host.lower(), *map(str.lower, names)}

    def check(
        self, method: str, headers: Mapping[str, str], query_token: str | None, cookie_token: str | None
    ) -> Refusal | None:
        """None to accept. `headers` is case-insensitive, or lower-case."""
        host = headers.get("host", "")
        if not self._is_own_host(host):
            return Refusal(421, "the Host header is not a name of this machine; connect by its address")
        origin = headers.get("origin")
        if origin is not None and origin.lower() not in (f"http://{host.lower()}", f"https://{host.lower()}"):
            return Refusal(403, "the request comes from another site")
        if method == "POST" and not self._is_accepted(headers.get("content-type", "")):
            what = "is not JSON; send it" if self._bodies == (_JSON,) else "is not announced as an image; send it"
            return Refusal(415, f"the body {what} with Content-Type: {' or '.join(self._bodies)}")
        if self.token is not None:
            scheme, _, bearer = headers.get("authorization", "").partition(" ")
            given = (query_token, cookie_token, bearer.strip() if scheme.lower() == "bearer" else None)
            if not any(self._is_token(text) for text in given):
                return Refusal(401, "the token is missing or wrong; open the address that was printed at the start")
        return None

    def _is_accepted(self, content_type: str) -> bool:
        kind = content_type.partition(";")[0].strip().lower()
        return any(kind == one or (one.endswith("/*") and kind.startswith(one[:-1])) for one in self._bodies)

    def _is_token(self, text: str | None) -> bool:
        # In constant time: a comparison that ends at the first difference tells how much was right.
        return hmac.compare_digest((text or "").encode("utf-8", "replace"), (self.token or "").encode())

    def _is_own_host(self, host: str) -> bool:
        found = _HOST.fullmatch(host)
        if found is None:
            return False
        name = (found[1] or found[2]).lower()
        try:
            ipaddress.ip_address(name)  # an address cannot be made to resolve elsewhere
        except ValueError:
            return name in self._names
        return True


def _outward_address() -> str | None:
    """The address of this machine in its network. Nothing is sent: connecting a datagram socket only picks a route."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect(("192.0.2.1", 9))  # a network reserved for documentation
            return str(probe.getsockname()[0])
    except OSError:
        return None
