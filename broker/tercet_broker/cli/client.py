"""What the client commands have in common: where the broker is, and how their errors end."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path

import trio

import tercet

from .exits import Failure, InputFailure, first_of


def ssl_context(ca: Path | None) -> ssl.SSLContext | None:
    """Return a context that trusts `ca` and nothing else, or None for what the system trusts.

    Raises:
        InputFailure: the file cannot be read or holds no certificate.
    """
    if ca is None:
        return None
    try:
        return ssl.create_default_context(cafile=ca)
    except ssl.SSLError as error:
        raise InputFailure(f"--ca: '{ca}' holds no certificate in PEM form") from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise InputFailure(f"--ca: '{ca}' cannot be read: {reason}") from error


def run(command: Callable[[], Awaitable[None]]) -> None:
    """Run an async command to its end.

    Raises:
        Failure: the client or the system reported an error; one sentence.
        BrokenPipeError: nobody reads our output any more.
        KeyboardInterrupt: Ctrl-C.
    """
    try:
        trio.run(command)
    except* KeyboardInterrupt:
        raise KeyboardInterrupt from None
    except* (Failure, BrokenPipeError) as group:
        raise first_of(group) from None
    except* (tercet.TercetError, OSError) as group:
        error = first_of(group)
        raise Failure(str(error) or type(error).__name__) from group
