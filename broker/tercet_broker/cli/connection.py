"""The options that say where the broker is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

DEFAULT_URL = "ws://127.0.0.1:8080"

Decorated = Callable[..., Any]


def connection_options(command: Decorated) -> Decorated:
    """Add `--url`, `--ca` and `--token-file` to a command."""
    url = click.option(
        "--url",
        metavar="URL",
        envvar="TERCET_URL",
        default=DEFAULT_URL,
        show_default=True,
        show_envvar=True,
        help="Where the broker is: ws://HOST:PORT, wss://HOST:PORT or ws+unix:///PATH.",
    )
    ca = click.option(
        "--ca",
        metavar="FILE",
        type=click.Path(path_type=Path),
        help="With wss://, trust the certificate authority in this PEM file, and no other.",
    )
    # Never the token itself: the arguments of a process are everybody's to read.
    token_file = click.option(
        "--token-file",
        metavar="FILE",
        envvar="TERCET_TOKEN_FILE",
        show_envvar=True,
        type=click.Path(path_type=Path),
        help="Read the token from here; or set TERCET_TOKEN to the token itself.",
    )
    return url(ca(token_file(command)))
