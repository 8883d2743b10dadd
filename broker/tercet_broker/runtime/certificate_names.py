"""The name in a client's certificate, which becomes the user."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# What of the subjectAltName is a name (RFC 5280, 4.2.1.6): one of a service, a person, a workload. An address is none.
_NAMES = frozenset({"DNS", "email", "URI"})
_MAX_NAME = 255


class UnnamedError(Exception):
    """Theirs: the certificate is right, and says no name that a user can have."""


def name_of(certificate: Mapping[str, Any] | None) -> str | None:
    """Return the first name of the subjectAltName, else the subject's common name; None without a certificate.

    `certificate` is what `ssl.SSLSocket.getpeercert` returns.

    Raises:
        UnnamedError: there is no such name.
    """
    if certificate is None:
        return None
    names = [value for kind, value in certificate.get("subjectAltName", ()) if kind in _NAMES]
    if not names:
        names = [value for part in certificate.get("subject", ()) for key, value in part if key == "commonName"]
    for name in names:
        if name and len(name) <= _MAX_NAME and name.isprintable():
            return str(name)
    raise UnnamedError(
        "the certificate has neither a subjectAltName (DNS, email, URI) nor a common name to call you by"
    )
