"""Checks that a certificate and its key can be used, before a listener needs them."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

from ..runtime.settings import TlsSettings

MAX_PEM = 1024 * 1024  # bytes; the longest chains have some ten thousand


class _EncryptedKeyError(Exception):
    """The key has a passphrase, which OpenSSL would ask for on the terminal."""


def check_pair(tls: TlsSettings) -> Iterator[tuple[str, str]]:
    """Yield what is wrong: (`certificate` or `key`, a sentence)."""
    certificate_problem = _check_pem(tls.certificate, "CERTIFICATE-----", "certificate")
    key_problem = _check_pem(tls.key, "PRIVATE KEY-----", "private key")
    if certificate_problem is not None:
        yield "certificate", certificate_problem
    if key_problem is not None:
        yield "key", key_problem
    if tls.client_ca is not None:
        authority_problem = _check_pem(tls.client_ca, "CERTIFICATE-----", "certificate")
        if authority_problem is not None:
            yield "client_ca", authority_problem
    if certificate_problem is None and key_problem is None:
        yield from _check_together(tls)


def _check_pem(path: Path, label: str, what: str) -> str | None:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_PEM + 1)
    except OSError as error:
        return f"'{path}' cannot be read: {error.strerror}"
    found = [line.strip() for line in content.splitlines() if line.startswith(b"-----BEGIN ")]
    if any(line.endswith(label.encode()) for line in found) and len(content) <= MAX_PEM:
        return None
    holds = found[0].decode("ascii", "replace").removeprefix("-----BEGIN ").rstrip("-") if found else None
    instead = f"; it holds a {holds.lower()}" if holds else ""
    return f"'{path}' holds no {what} in PEM form{instead}"


def _check_together(tls: TlsSettings) -> Iterator[tuple[str, str]]:
    def refuse() -> str:
        raise _EncryptedKeyError

    # A context of its own: one that refused a pair is broken from then on.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(tls.certificate, tls.key, password=refuse)
    except _EncryptedKeyError:
        yield "key", f"'{tls.key}' is encrypted; the broker needs a key without a passphrase"
    except ssl.SSLError as error:
        # OpenSSL says the last where the two are of different kinds, RSA and EC.
        if error.reason in {"KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED"}:
            yield "key", f"'{tls.key}' is not the key of the certificate '{tls.certificate}'"
        else:
            reason = (error.reason or "not understood").lower().replace("_", " ")
            yield "certificate", f"'{tls.certificate}' and '{tls.key}' cannot be used: {reason}"
    except OSError as error:
        yield "certificate", f"'{tls.certificate}' and '{tls.key}' cannot be read: {error.strerror}"
