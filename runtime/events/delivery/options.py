"""Where events go, as TOML: one table for each way; a way without its table is not taken.

[mqtt]
url = "mqtts://user@broker.local:8883"      # mqtt:// or mqtts:// (TLS)
password_env = "OVS_MQTT_PASSWORD"          # or password = "…", or password_file = "…"

[webhook]
url = "https://example.org/hook"
secret_env = "OVS_WEBHOOK_SECRET"

[command]
run = ["notify-send", "ovs-edge"]

[json_lines]
path = "events.jsonl"

[spool]
most_events = 10000
"""

from __future__ import annotations

import base64
import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, unquote, urlsplit

from ....bundle.addresses import redact, shown_text
from ....bundle.errors import UsageError
from ....bundle.files import read_bounded
from ....bundle.strict import is_integer
from ..config import unknown_keys
from .mqtt.certificates import tls_context

TABLES = ("mqtt", "webhook", "command", "json_lines", "spool")  # that `parse_delivery` reads
_VARIABLES = {"mqtt": "OVS_MQTT_PASSWORD", "webhook": "OVS_WEBHOOK_SECRET"}  # where the table says nothing
_LONGEST_SECRET = 4096  # bytes
_LONGEST_TEXT = 65_535  # bytes of a text in MQTT (3.1.1, section 1.5.3)
_LONGEST_PREFIX = 1_000  # bytes: a topic is a text, too, and names of cameras and rules follow
_BASE64 = "whsec_"  # a webhook's secret that begins so is base64 after that
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # a token of RFC 9110, section 5.6.2
_OWN_HEADERS = frozenset(
    {"content-length", "transfer-encoding", "webhook-id", "webhook-timestamp", "webhook-signature"}
)


@dataclass(frozen=True)
class MqttOptions:
    """Events to an MQTT broker."""

    url: str  # mqtt://[user@]host[:port], or mqtts:// for TLS
    password: str | None = field(default=None, repr=False)
    prefix: str = "ovs-edge"  # first part of every topic
    client_id: str | None = None  # None: another one in each run, which begins with the machine's name
    ca_file: str | None = None  # PEM file with the certificates that the broker's is checked by; None: the system's
    cert_file: str | None = None  # PEM files of this client's certificate and key, where the broker asks for one
    key_file: str | None = None
    discovery: str | None = "homeassistant"  # prefix of Home Assistant's discovery topics; None (false): none
    snapshots: bool = False  # whether the picture goes to PREFIX/CAMERA/snapshot

    def __post_init__(self) -> None:
        parts = _address(self.url, ("mqtt", "mqtts"), "[mqtt] url", "mqtt://broker.local:1883")
        if parts.path.strip("/") or parts.query:
            raise UsageError(f"[mqtt] url is {redact(self.url)!r}, expected no path; topics begin with prefix = ")
        if self.password and parts.username is None:
            raise UsageError(
                "[mqtt] has a password (password, or the variable OVS_MQTT_PASSWORD), and its url no user; write the user "
                "and @ before the host"
            )
        texts = {"the user in url": unquote(parts.username or ""), "client_id": self.client_id or ""}
        for name, text in texts.items():
            if not text.isprintable() or len(text.encode()) > _LONGEST_TEXT:
                raise UsageError(
                    f"[mqtt] {name} is {text[:40]!r}, expected at most {_LONGEST_TEXT} bytes, all printable"
                )
        if (
            max(len(parts.password or ""), len((self.password or "").encode("utf-8", "surrogateescape")))
            > _LONGEST_TEXT
        ):
            raise UsageError(f"[mqtt] the password is longer than {_LONGEST_TEXT} bytes, the most that MQTT can send")
        for name, topic in (("prefix", self.prefix), ("discovery", self.discovery)):
            if topic is not None and not _is_prefix(topic):
                off = ", or false for no discovery" if name == "discovery" else ""
                raise UsageError(
                    f"[mqtt] {name} is {topic[:80]!r}, expected a topic without + # $ and outer slashes{off}; printable, "
                    f"and at most {_LONGEST_PREFIX} bytes"
                )
        if (self.cert_file is None) != (self.key_file is None):
            raise UsageError("[mqtt] cert_file and key_file go together; give both or none")


@dataclass(frozen=True)
class WebhookOptions:
    """Events by HTTP POST, one request each."""

    url: str  # http:// or https://, with a login as http://USER:PASSWORD@host, percent-encoded
    secret: str | None = field(default=None, repr=False)  # key of the signature; None: requests are not signed
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)  # further headers of every request
    timeout: float = 10.0  # seconds for one request
    snapshots: bool = False  # whether the picture is in the event, as "snapshot" in base64

    def __post_init__(self) -> None:
        parts = _address(self.url, ("http", "https"), "[webhook] url", "https://example.org/hook")
        if not 0.1 <= self.timeout <= 600:
            raise UsageError(f"[webhook] timeout is {self.timeout:g}, expected 0.1 to 600 seconds")
        for part in (parts.path, parts.query):
            if not part.isascii():
                found = re.search(r"[^\x00-\x7f]", part)
                assert found is not None
                raise UsageError(
                    f"[webhook] url has {found[0]!r} after the host, expected ASCII; write {quote(found[0])} for it"
                )
        for name, value in self.headers.items():
            if not isinstance(value, str) or not _HEADER.fullmatch(name) or not value.isprintable():
                raise UsageError(f"[webhook] headers has {name!r}, expected names without blanks and printable values")
            try:
                value.encode("latin-1")
            except UnicodeEncodeError as error:
                raise UsageError(
                    f"[webhook] the header {name} has {value[error.start]!r}, which HTTP cannot send; expected Latin-1"
                ) from error
            if name.lower() in _OWN_HEADERS:
                raise UsageError(f"[webhook] headers has {name}, which every request gets by itself; leave it out")
        names = [name.lower() for name in self.headers]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise UsageError(f"[webhook] headers has {twice!r} twice, once in other letters; give it once")
        if parts.username is not None and "authorization" in names:
            raise UsageError("[webhook] has a login in url and the header authorization; give one of them")
        if ":" in unquote(parts.username or ""):
            raise UsageError("[webhook] url has a user's name with a colon, which no login by HTTP can hold; change it")
        self.signing_key  # noqa: B018 - raises for a secret that is none

    @property
    def signing_key(self) -> bytes | None:
        """What requests are signed with. Raises `UsageError` for a secret that is empty, or not what it says."""
        if self.secret is None:
            return None
        if not self.secret.startswith(_BASE64):
            key = self.secret.encode("utf-8", "surrogateescape")  # of the environment, which may hold any bytes
        else:
            try:
                key = base64.b64decode(self.secret[len(_BASE64) :], validate=True)
            except ValueError as error:
                raise UsageError(
                    f"[webhook] the secret begins with {_BASE64}, but no base64 follows; copy it again"
                ) from error
        if not key:
            raise UsageError("[webhook] the secret is empty, so anybody could sign; give one, or leave it out")
        return key

    @property
    def shown(self) -> str:
        """The address without its path, which is the secret of many services (/services/T0/B0/KEY)."""
        parts = urlsplit(self.url)
        host = f"[{parts.hostname}]" if ":" in str(parts.hostname) else parts.hostname
        return f"{parts.scheme}://{host}{'' if parts.port is None else f':{parts.port}'}"


@dataclass(frozen=True)
class CommandOptions:
    """A program started for each event, which gets the event as JSON on standard input. No shell reads it."""

    run: tuple[str, ...]  # program and arguments
    timeout: float = 30.0  # seconds after which it is ended, and the event counts as delivered

    def __post_init__(self) -> None:
        if not self.run or not self.run[0]:
            raise UsageError(
                '[command] run is empty, expected a program and its arguments: run = ["notify-send", "hi"]'
            )
        if any("\0" in word for word in self.run):
            raise UsageError("[command] run holds a NUL character, which no program can be given; remove it")
        if not 0.1 <= self.timeout <= 3600:
            raise UsageError(f"[command] timeout is {self.timeout:g}, expected 0.1 to 3600 seconds")


@dataclass(frozen=True)
class JsonLinesOptions:
    """Events appended to a file, one JSON object a line."""

    path: str  # "-" is standard output

    def __post_init__(self) -> None:
        if not self.path:
            raise UsageError("[json_lines] path is empty; give a name such as events.jsonl, or - for standard output")
        if self.path.endswith("/"):
            raise UsageError(f"[json_lines] path {self.path!r} is a folder's name; give a file, such as events.jsonl")


@dataclass(frozen=True)
class SpoolOptions:
    """Where events wait until they are delivered."""

    folder: str | None = None  # None: ovs-edge/spool in the user's state folder (XDG_STATE_HOME, ~/.local/state)
    most_events: int = 10_000  # that wait for one receiver; the oldest are dropped past that
    most_megabytes: int = 64  # likewise, snapshots included

    def __post_init__(self) -> None:
        if self.folder == "":
            raise UsageError("[spool] folder is empty; give a folder, or leave it out")
        if not 1 <= self.most_events <= 10_000_000 or not 1 <= self.most_megabytes <= 100_000:
            raise UsageError(
                f"[spool] keeps {self.most_events} events and {self.most_megabytes} MB, expected 1 to 10,000,000 events "
                "and 1 to 100,000 MB"
            )

    @property
    def place(self) -> Path:
        """The folder. Raises `UsageError` where none is given and the user has no home."""
        if self.folder is not None:
            return Path(self.folder)
        base = os.environ.get("XDG_STATE_HOME", "")
        if not base.startswith("/"):
            try:
                base = str(Path.home() / ".local" / "state")
            except RuntimeError as error:  # HOME is not set, and the user has no entry in /etc/passwd
                raise UsageError("this user has no home where events can wait; give [spool] folder = …") from error
        return Path(base) / "ovs-edge" / "spool"


@dataclass(frozen=True)
class DeliveryConfig:
    """All ways that events go; with none of them they are not delivered."""

    mqtt: MqttOptions | None = None
    webhook: WebhookOptions | None = None
    command: CommandOptions | None = None
    json_lines: JsonLinesOptions | None = None
    spool: SpoolOptions = field(default_factory=SpoolOptions)
    origin: str | None = (
        None  # absolute path of the file it is from, which tells one process from others; None: no file
    )

    @property
    def any(self) -> bool:
        """Whether events go anywhere."""
        return any((self.mqtt, self.webhook, self.command, self.json_lines))

    @property
    def waits(self) -> bool:
        """Whether events wait on disk; those for standard output do not."""
        elsewhere = self.json_lines is not None and self.json_lines.path != "-"
        return elsewhere or any((self.mqtt, self.webhook, self.command))

    @property
    def snapshots(self) -> bool:
        """Whether somebody wants the picture with an event."""
        return bool((self.mqtt and self.mqtt.snapshots) or (self.webhook and self.webhook.snapshots))


def parse_delivery(table: Mapping[str, Any], where: str) -> DeliveryConfig:
    """The tables `mqtt`, `webhook`, `command`, `json_lines` and `spool` of `table`; others are not read.

    `where` says in errors where the table stands. `password` and `secret` may stand in an environment variable
    (`password_env`) or a file (`password_file`) instead, or in `OVS_MQTT_PASSWORD` and `OVS_WEBHOOK_SECRET`.
    Files of certificates are read here. Raises `UsageError`.
    """
    try:
        command = _entry(table, "command")
        if command is not None and "run" in command:
            command = {**command, "run": command_words(command["run"])}
        return DeliveryConfig(
            mqtt=_mqtt(table),
            webhook=_made(WebhookOptions, _secret(table, "webhook", "secret"), "webhook", ("url",)),
            command=_made(CommandOptions, command, "command", ("run",)),
            json_lines=_made(JsonLinesOptions, _entry(table, "json_lines"), "json_lines", ("path",)),
            spool=_made(SpoolOptions, _entry(table, "spool"), "spool", ()) or SpoolOptions(),
        )
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from error


def _is_prefix(topic: str) -> bool:
    """Whether topics can begin with `topic`; a broker may close the connection at a control character."""
    forbidden = not topic.isprintable() or any(sign in topic for sign in "+#$")
    return bool(topic) and topic.strip("/") == topic and not forbidden and len(topic.encode()) <= _LONGEST_PREFIX


Options = TypeVar("Options")
_TYPES: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "str | None": (str,),
    "bool": (bool,),
    "int": (int,),
    "float": (int, float),
    "Mapping[str, str]": (Mapping,),
    "tuple[str, ...]": (tuple,),
}


def _made(kind: type[Options], entry: Mapping[str, Any] | None, name: str, needed: tuple[str, ...]) -> Options | None:
    if entry is None:
        return None
    known = {one.name: _TYPES[str(one.type)] for one in fields(kind)}  # type: ignore[arg-type]
    unknown_keys(entry, tuple(known), f"[{name}]")
    for key in needed:
        if key not in entry:
            raise UsageError(f"[{name}] has no {key}, expected {key} = …")
    for key, value in entry.items():
        if not isinstance(value, known[key]) or (isinstance(value, bool) and bool not in known[key]):
            expected = known[key][-1].__name__
            raise UsageError(f"[{name}] {key} is {type(value).__name__}, expected {expected}")
        if isinstance(value, int) and not isinstance(value, bool) and not is_integer(value):
            raise UsageError(f"[{name}] {key} is an integer of more than 64 bits, expected a smaller number")
        if isinstance(value, str) and "\0" in value:
            raise UsageError(f"[{name}] {key} holds a NUL character, which no name, address or secret has; remove it")
    return kind(**{key: float(value) if known[key] == (int, float) else value for key, value in entry.items()})


def _mqtt(table: Mapping[str, Any]) -> MqttOptions | None:
    entry = _secret(table, "mqtt", "password")
    if entry is None:
        return None
    discovery = entry.get("discovery")
    if isinstance(discovery, bool):  # true is the default prefix, and TOML has no null
        entry = {key: value for key, value in entry.items() if key != "discovery"}
    made = _made(MqttOptions, entry, "mqtt", ("url",))
    assert made is not None
    if (made.ca_file, made.cert_file) != (None, None):
        tls_context(made.ca_file, made.cert_file, made.key_file)
    return replace(made, discovery=None) if discovery is False else made


def _entry(table: Mapping[str, Any], name: str) -> Mapping[str, Any] | None:
    entry = table.get(name)
    if entry is not None and not isinstance(entry, Mapping):
        raise UsageError(f"{name} is {type(entry).__name__}, expected a table [{name}]")
    return entry


def _secret(table: Mapping[str, Any], name: str, key: str) -> Mapping[str, Any] | None:
    """The table `name` with `key` read from where `key`_env or `key`_file says, or else from its own variable."""
    entry = _entry(table, name)
    if entry is None:
        return None
    given = [one for one in (key, f"{key}_env", f"{key}_file") if one in entry]
    if len(given) > 1:
        raise UsageError(f"[{name}] has {' and '.join(given)}; give one of them")
    if not given and (variable := _VARIABLES[name]) in os.environ:
        return {**entry, key: os.environ[variable]}
    rest = {one: value for one, value in entry.items() if one not in (f"{key}_env", f"{key}_file")}
    for source in given:
        value = entry[source]
        if not isinstance(value, str):
            raise UsageError(f"[{name}] {source} is {type(value).__name__}, expected text")
        if source == f"{key}_env":
            if value not in os.environ:
                raise UsageError(f"[{name}] {source} names the environment variable {value}, which is not set")
            rest[key] = os.environ[value]
        elif source == f"{key}_file":
            try:
                rest[key] = read_bounded(Path(value), _LONGEST_SECRET).decode("utf-8").strip()
            except (OSError, ValueError) as error:
                raise UsageError(f"[{name}] {source}: cannot read {value} ({error})") from error
    return rest


def command_words(run: object) -> tuple[str, ...]:
    """The words of a command that is a text, as a shell splits it, or a list. Raises `UsageError`."""
    if isinstance(run, str):
        try:
            return tuple(shlex.split(run))
        except ValueError as error:
            raise UsageError(f"[command] run is {run!r}, which cannot be split into words ({error})") from error
    if isinstance(run, list) and all(isinstance(word, str) for word in run):
        return tuple(run)
    raise UsageError(f'[command] run is {run!r}, expected a list of words: run = ["notify-send", "hi"]')


def _address(url: str, schemes: tuple[str, ...], what: str, example: str) -> Any:
    try:
        parts = urlsplit(url)
        sound = parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
        (parts.hostname or "").encode("idna")  # as it is looked up; ValueError for what no host is called
    except ValueError:
        sound = False
    if odd := next((sign for sign in url if sign == " " or not sign.isprintable()), None):
        raise UsageError(f"{what} holds '{shown_text(odd)}', expected printable characters without blanks")
    if not sound:
        found = re.match(r"([^/?#]*://)?[^/?#]*/?", redact(url))  # a path may be a secret, too
        assert found is not None
        raise UsageError(f"{what} is {found[0]!r}, expected such as {example}")
    return parts
