"""What the client commands have in common: where the broker is, and how their errors end."""

from __future__ import annotations

import logging
import os
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import trio

import tercet

from ..printable import printable
from .exits import Failure, InputFailure, first_of

_MAX_TOKEN_FILE = 16 * 1024  # bytes


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


def read_token(token_file: Path | None) -> str | None:
    """Return the token in `token_file`, or without one the environment's TERCET_TOKEN, or None.

    Raises:
        InputFailure: the file cannot be read or holds no token.
    """
    if token_file is None:
        return os.environ.get("TERCET_TOKEN") or None
    try:
        with token_file.open("rb") as file:
            text = file.read(_MAX_TOKEN_FILE).decode("ascii").strip()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "it holds no token"
        raise InputFailure(f"--token-file: '{token_file}' cannot be read: {reason}") from None
    if not text or any(character.isspace() for character in text):
        raise InputFailure(f"--token-file: '{token_file}' holds no token")
    return text


@asynccontextmanager
async def connect(url: str, ca: Path | None, token: str | None = None) -> AsyncIterator[tercet.Client]:
    """Connect as `--url` and `--ca` say.

    Raises:
        InputFailure: one of them is wrong.
        tercet.CannotConnectError: there is no broker, or it does not want us.
    """
    async with AsyncExitStack() as stack:
        try:
            connected = await stack.enter_async_context(
                tercet.connect(url, token=token, name="tercet", ssl_context=ssl_context(ca))
            )
        except ValueError as error:
            raise InputFailure(f"--url: {error}") from error
        yield connected


class _Line(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return f"tercet: {printable(record.getMessage())}"


def _show_log() -> None:
    """Show on standard error what the client says: that a connection was lost, when it tries again."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Line())
    logger = logging.getLogger("tercet")
    logger.handlers[:] = [handler]
    logger.setLevel(logging.INFO)


def run(command: Callable[[], Awaitable[None]]) -> None:
    """Run an async command to its end.

    Raises:
        Failure: the client or the system reported an error; one sentence.
        BrokenPipeError: nobody reads our output any more.
        KeyboardInterrupt: Ctrl-C.
    """
    _show_log()
    try:
        trio.run(command)
    except* KeyboardInterrupt:
        raise KeyboardInterrupt from None
    except* (Failure, BrokenPipeError) as group:
        raise first_of(group) from None
    except* (tercet.TercetError, OSError) as group:
        error = first_of(group)
        message = str(error) or type(error).__name__
        raise Failure(printable(message) + _hint(message)) from group


def _hint(message: str) -> str:
    """Say what is most likely the matter where a connection could not be made."""
    _, found, rest = message.partition("cannot connect to ")
    url = rest.partition(": ")[0]
    if not found:
        return ""
    if "Connection refused" in message or "No such file" in message:
        return "\nIs the broker running there? `tercet serve` runs one; --url says where"
    if "WRONG_VERSION_NUMBER" in message or "RECORD_LAYER_FAILURE" in message:
        return f"\nThat listener seems to have no TLS: try ws{url.removeprefix('wss')}"
    if "handshake" in message and url.startswith("ws://"):
        return f"\nIf that listener has TLS, try wss{url.removeprefix('ws')}"
    if "CERTIFICATE_VERIFY_FAILED" in message:
        return "\nA certificate of your own authority needs --ca ca.pem"
    return ""
