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
from .connection import Endpoint
from .exits import Failure, InputFailure, first_of

_MAX_TOKEN_FILE = 16 * 1024  # bytes


def ssl_context(endpoint: Endpoint) -> ssl.SSLContext | None:
    """Return a context that trusts the endpoint's authority and shows our certificate, or None for the default one.

    Raises:
        InputFailure: a file cannot be read or does not hold what it should.
    """
    if endpoint.ca is None and endpoint.certificate is None:
        return None
    context = _trusting(endpoint.ca)
    if endpoint.certificate is not None:
        _show(context, endpoint.certificate, endpoint.key)
    return context


def _trusting(ca: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca)
    except ssl.SSLError as error:
        raise InputFailure(f"--ca: '{ca}' holds no certificate in PEM form") from error
    except (OSError, ValueError) as error:
        raise InputFailure(f"--ca: '{ca}' cannot be read: {_reason(error)}") from error


def _show(context: ssl.SSLContext, certificate: Path, key: Path | None) -> None:
    pair = f"'{certificate}'" if key is None else f"'{certificate}' and '{key}'"
    try:
        context.load_cert_chain(certificate, key)
    except ssl.SSLError as error:
        raise InputFailure(f"--certificate, --key: {pair} hold no certificate in PEM form and its key") from error
    except (OSError, ValueError) as error:
        raise InputFailure(f"--certificate, --key: {pair} cannot be read: {_reason(error)}") from error


def _reason(error: OSError | ValueError) -> str:
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)


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
async def connect(endpoint: Endpoint, token: str | None = None) -> AsyncIterator[tercet.Client]:
    """Connect as the options say.

    Raises:
        InputFailure: one of them is wrong.
        tercet.CannotConnectError: there is no broker, or it does not want us.
    """
    async with AsyncExitStack() as stack:
        try:
            connected = await stack.enter_async_context(
                tercet.connect(endpoint.url, token=token, name="tercet", ssl_context=ssl_context(endpoint))
            )
        except ValueError as error:
            # What a program may say to the client, nobody can say here.
            message = str(error).removesuffix(", or say insecure=True")
            raise InputFailure(f"--url: {message}") from error
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
    if "handshake" in message and "answered with HTTP" not in message and url.startswith("ws://"):
        return f"\nIf that listener has TLS, try wss{url.removeprefix('ws')}"
    if "cut during the handshake" in message and url.startswith("wss://"):
        return "\nIf that listener asks for a certificate, show one that it trusts: --certificate, --key"
    if "CERTIFICATE_VERIFY_FAILED" in message:
        return "\nA certificate of your own authority needs --ca ca.pem"
    return ""
