"""Certificates for development and tests, signed by an authority made on the spot.

The authority's own key is thrown away: nobody can sign anything else with it,
and more names mean a new authority.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import trustme
from attrs import frozen

DEFAULT_NAMES = ("localhost", "127.0.0.1", "::1")

CA_FILE = "ca.pem"
CERTIFICATE_FILE = "cert.pem"
KEY_FILE = "key.pem"


@frozen
class DevelopmentCertificate:
    """A certificate authority and a server certificate that it signed, all PEM.

    Attributes:
        ca: what clients trust.
        chain: the server's certificate, and what lies between it and the authority.
        key: the server's private key.
    """

    ca: bytes
    chain: bytes
    key: bytes


def make(names: Iterable[str]) -> DevelopmentCertificate:
    """Return a new certificate for a server of these names and IP addresses.

    Raises:
        ValueError: there is no name, or one that no host can have.
    """
    names = tuple(names)
    if not names:
        raise ValueError("a certificate needs one name at least")
    for name in names:
        # trustme takes any text that IDNA lets pass: "a,b" and "" among them.
        if not name or not name.isprintable() or set(name) & set(" ,/'\"@"):
            raise ValueError(f"{name!r} is neither the name nor the address of a host")
    authority = trustme.CA()
    try:
        server = authority.issue_cert(*names)
    except ValueError as error:  # IDNA's errors are UnicodeErrors, and so ValueErrors
        raise ValueError(f"no certificate can be made for {', '.join(names)}: {error}") from error
    chain = b"".join(blob.bytes() for blob in server.cert_chain_pems)
    return DevelopmentCertificate(authority.cert_pem.bytes(), chain, server.private_key_pem.bytes())


def write(certificate: DevelopmentCertificate, folder: Path, *, force: bool = False) -> None:
    """Write ca.pem, cert.pem and key.pem into `folder`, which is made if need be.

    Only the owner can read key.pem (mode 0600), from its first byte on.

    Raises:
        FileExistsError: one of them is there already and `force` is not
            given; then nothing was written.
        OSError: the folder cannot be made or written to.
    """
    files = {
        folder / CA_FILE: (certificate.ca, 0o644),
        folder / CERTIFICATE_FILE: (certificate.chain, 0o644),
        folder / KEY_FILE: (certificate.key, 0o600),
    }
    for path in files:
        if not force and os.path.lexists(path):
            raise FileExistsError(17, "exists already", str(path))
    folder.mkdir(parents=True, exist_ok=True)
    for path, (content, mode) in files.items():
        _replace(path, content, mode)


def _replace(path: Path, content: bytes, mode: int) -> None:
    """Put a whole new file in place of `path`: an old one keeps neither its mode nor its readers."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with open(descriptor, "wb") as file:  # noqa: PTH123 - of a descriptor
            file.write(content)
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
