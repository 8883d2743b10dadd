"""The options that say where the broker is, and who we are."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from attrs import frozen

DEFAULT_URL = "ws://127.0.0.1:8080"

Decorated = Callable[..., Any]


@frozen
class Endpoint:
    """The broker that a command talks to.

    Attributes:
        url: where it is.
        ca: the certificate authority to trust, or None for the system's.
        certificate: what we show over TLS, or None.
        key: its private key; None where `certificate` holds that too.
        token_file: where our token is, or None.
    """

    url: str
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    token_file: Path | None = None


def connection_options(command: Decorated) -> Decorated:
    """Add `--url`, `--ca`, `--certificate`, `--key` and `--token-file` to a command, which gets an `endpoint`."""
    url = click.option(
        "--url",
        metavar="URL",
        envvar="TERCET_URL",
        default=DEFAULT_URL,
        show_default=True,
        show_envvar=True,
        help="Where the broker is: ws://HOST:PORT, wss://HOST:PORT or ws+unix:///PATH.",
    )
    ca = _file_option("--ca", "With wss://, trust the certificate authority in this PEM file, and no other.")
    certificate = _file_option("--certificate", "With wss://, show this certificate to a broker that asks for one.")
    key = _file_option("--key", "Its private key; not needed if --certificate holds that too.")
    # Never the token itself: the arguments of a process are everybody's to read.
    token_file = _file_option(
        "--token-file",
        "Read the token from here; or set TERCET_TOKEN to the token itself.",
        envvar="TERCET_TOKEN_FILE",
        show_envvar=True,
    )

    @functools.wraps(command)
    def with_endpoint(
        *,
        url: str,
        ca: Path | None,
        certificate: Path | None,
        key: Path | None,
        token_file: Path | None,
        **rest: object,
    ) -> object:
        if key is not None and certificate is None:
            raise click.UsageError("--key goes with --certificate")
        return command(endpoint=Endpoint(url, ca, certificate, key, token_file), **rest)

    return url(ca(certificate(key(token_file(with_endpoint)))))


def _file_option(name: str, text: str, **more: Any) -> Callable[[Decorated], Decorated]:
    return click.option(name, metavar="FILE", type=click.Path(path_type=Path), help=text, **more)
