"""Addresses of cameras and streams as they may be shown: messages, titles and logs are read by others.

An address may hold a password in its user part, in its query, in its path (`/user=admin&password=…`), or in a place
where it does not belong, because the address was mistyped. So nothing is searched for: what is known to be
harmless is kept, and everything else is replaced by `***`.
"""

from __future__ import annotations

import re

HIDDEN = "***"
_SCHEME = re.compile(r"\s*([A-Za-z][A-Za-z0-9+.-]*):/+")
_PLAIN_USER = re.compile(r"[A-Za-z0-9_-]{1,32}")
_HOST = re.compile(r"(?:[\w.-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?")
_PAIR = re.compile(r"([^&;/?#=\s]+)=([^&;/?#]*)")
# Parameters whose values help to understand a message, where they are a plain number or word of a few letters.
_HARMLESS = frozenset(
    [
        "channel",
        "stream",
        "subtype",
        "camera",
        "profile",
        "resolution",
        "width",
        "height",
        "size",
        "fps",
        "rate",
        "quality",
        "compression",
        "mode",
        "latency",
        "timeout",
        "transport",
        "protocol",
        "format",
        "codec",
        "pkt_size",
        "ttl",
    ]
)
_PLAIN_VALUE = re.compile(r"[0-9]{1,5}(?:[x.][0-9]{1,5})?|tcp|udp|main|sub|h26[45]|caller|listener|live")
_SECRET_SEGMENT = re.compile(
    r"(?i)(/(?:[\w-]*(?:pass|pwd|secret|token|key|auth|credential|signature|session)[\w-]*)[/:])([^/?#\s]+)"
)
# In running text: an address ends at a blank, a quote, or the punctuation of the sentence around it.
_IN_TEXT = re.compile(r"""[A-Za-z][A-Za-z0-9+.-]*:/+[^\s"'<>]*[^\s"'<>.,;:)\]]""")
_NO_SCHEME_IN_TEXT = re.compile(r"""(?<![\w/:*.-])[\w.+-]+:[^\s"'<>@]+@[\w.-]+""")
_QUOTED = re.compile(r"""(['"])([^'"]*:[^'"]*@[^'"]*)\1""")  # messages quote an address, so that blanks are seen
_SECRET_IN_TEXT = re.compile(
    r"""(?i)\b(\w*(?:pass|pwd|passphrase|password|secret|token|api_?key|auth)\w*)=(?!\*\*\*)([^\s&;"'<>]+)"""
)


_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_UNDECODED = re.compile(r"[\udc80-\udcff]|\\udc[89a-f][0-9a-f]")  # a byte that is not UTF-8, and the same after repr()


def shown_text(text: str) -> str:
    """`text`, a path say, as it may be printed anywhere: each byte that is not UTF-8 as `\\xff`."""
    return _UNDECODED.sub(_escaped, text)


def shown_line(text: str) -> str:
    """`text`, which others may have written, as one line for a terminal: no address with a secret, nothing that the
    terminal would obey.

    White space becomes a blank each; control characters and those that change the direction of writing are escaped,
    `\\x1b` say.
    """
    return _CONTROL.sub(_escaped, shown_text(redact(" ".join(text.split()))))


def _escaped(found: re.Match[str]) -> str:
    bad = found[0]
    if _CONTROL.fullmatch(bad):
        return f"\\x{ord(bad):02x}" if ord(bad) < 256 else f"\\u{ord(bad):04x}"
    number = ord(bad) if len(bad) == 1 else int(bad.removeprefix("\\u"), 16)
    return f"\\x{number & 0xFF:02x}"


def scheme_of(text: str) -> str | None:
    """The scheme of a URL in lower case, or None for what is no URL."""
    found = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", text)
    return found[1].lower() if found else None


def redact_address(address: str) -> str:
    """`address`, which may be a URL, a mistyped one or a file's name, without anything that may be a secret.

    File names are kept as they are, unless they look like `user:password@host`.
    """
    found = _SCHEME.match(address)
    scheme, rest = (address[: found.end()].strip(), address[found.end() :]) if found else ("", address)
    user, at, after = rest.rpartition("@")
    hidden_user = ""
    if at and (scheme or ":" in user):
        name, colon, _ = user.partition(":")
        # A name alone may be a token.
        hidden_user = f"{name}:{HIDDEN}@" if colon and _PLAIN_USER.fullmatch(name) else f"{HIDDEN}@"
        rest = after
    end = re.search(r"[?#]", rest)
    base, tail = (
        (rest[: end.start()], rest[end.start() :]) if end and (scheme or hidden_user or "=" in rest) else (rest, "")
    )
    if scheme:
        host, slash, path = base.partition("/")
        base = (host if _HOST.fullmatch(host) else _without_pairs(host, otherwise=HIDDEN)) + slash + path
    if scheme or hidden_user:
        base = _SECRET_SEGMENT.sub(rf"\1{HIDDEN}", _without_pairs(base))
    return f"{scheme}{hidden_user}{base}{_without_values(tail)}"


def redact(text: str) -> str:
    """Running text, every address in it redacted, and values of `password=` and the like replaced."""
    text = _QUOTED.sub(lambda found: f"{found[1]}{redact_address(found[2])}{found[1]}", text)
    text = _IN_TEXT.sub(lambda found: redact_address(found[0]), text)
    text = _NO_SCHEME_IN_TEXT.sub(lambda found: redact_address(found[0]), text)
    return _SECRET_IN_TEXT.sub(rf"\1={HIDDEN}", text)


def _without_pairs(text: str, otherwise: str | None = None) -> str:
    """`text` with the values of all `key=value` in it replaced; `otherwise` if there is none."""
    if otherwise is not None and "=" not in text:
        return otherwise
    return _PAIR.sub(lambda found: _pair(found[1], found[2]), text)


def _pair(key: str, value: str) -> str:
    harmless = key.lower() in _HARMLESS and _PLAIN_VALUE.fullmatch(value) is not None
    return f"{key}={value if harmless or not value else HIDDEN}"


def _without_values(tail: str) -> str:
    """A query and fragment, "?a=b&c#d", without values."""
    query, mark, _ = tail.partition("#")
    shown = query[:1]
    for item in re.split(r"([&;])", query[1:]):
        key, equals, value = item.partition("=")
        if item in ("&", ";", "", "listen"):  # FFmpeg's word for waiting to be called
            shown += item
        else:  # what has no name is a value
            shown += _pair(key, value) if equals and re.fullmatch(r"[\w.%-]{1,40}", key) else HIDDEN
    return shown + (mark + HIDDEN if mark else "")
