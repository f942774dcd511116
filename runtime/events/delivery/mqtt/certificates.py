"""The files of certificates of a connection by TLS: read, and refused with the option that names them."""

from __future__ import annotations

import ssl

from .....bundle.errors import UsageError
from .....bundle.files import refuse_pipe


def tls_context(ca_file: str | None, cert_file: str | None, key_file: str | None) -> ssl.SSLContext:
    """What a connection needs: the certificates that the broker's is checked by, and this client's own with its key.

    Each is a PEM file; without `ca_file` the broker's certificate is checked by those of the system. Raises `UsageError`
    for a file that cannot be read or holds something else.
    """
    for option, path in (("ca_file", ca_file), ("cert_file", cert_file), ("key_file", key_file)):
        if path is not None:
            _refuse_unreadable(option, path)
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except (OSError, ValueError) as error:
        raise UsageError(f"[mqtt] ca_file: {ca_file} holds no certificate, expected a PEM file ({error})") from error
    if cert_file is None:
        return context

    def passphrase() -> str:  # OpenSSL would ask for it on the terminal, and a service would wait for ever
        raise UsageError(f"[mqtt] key_file: {key_file} has a passphrase, expected a key without one")

    try:
        context.load_cert_chain(cert_file, key_file, passphrase)
    except (OSError, ValueError) as error:
        raise UsageError(
            f"[mqtt] cert_file, key_file: {cert_file} and {key_file} are no certificate and its key, expected PEM files "
            f"({error})"
        ) from error
    return context


def tls_failure(error: OSError) -> str:
    """Why a handshake failed, in OpenSSL's words."""
    why = getattr(error, "reason", None) or error.strerror or type(error).__name__
    return str(why).replace("_", " ").lower()


def _refuse_unreadable(option: str, path: str) -> None:
    refuse_pipe(path, f"[mqtt] {option}")
    try:
        with open(path, "rb") as stream:
            stream.read(1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"[mqtt] {option}: cannot read {path} ({reason})") from error
