"""The options that say where the broker is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

DEFAULT_URL = "ws://127.0.0.1:8080"

Decorated = Callable[..., Any]


def connection_options(command: Decorated) -> Decorated:
    """Add `--url` and `--ca` to a command."""
    url = click.option(
        "--url",
        metavar="URL",
        envvar="TERCET_URL",
        default=DEFAULT_URL,
        show_default=True,
        show_envvar=True,
        callback=_check_url,
        help="Where the broker is, ws:// or wss://.",
    )
    ca = click.option(
        "--ca",
        metavar="FILE",
        type=click.Path(path_type=Path),
        help="With wss://, trust the certificate authority in this PEM file, and no other.",
    )
    return url(ca(command))


def _check_url(_: click.Context, __: click.Parameter, url: str) -> str:
    scheme, separator, rest = url.partition("://")
    if not separator or scheme.lower() not in {"ws", "wss"} or not rest.strip("/"):
        raise click.BadParameter(f"{url!r} is no address of a broker: write {DEFAULT_URL} or wss://HOST:PORT")
    return url
