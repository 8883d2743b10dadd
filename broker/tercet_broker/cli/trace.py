"""What `tercet serve --trace` prints: one line a frame."""

from __future__ import annotations

import struct
from contextlib import suppress
from typing import TextIO

import msgspec

from ..printable import printable

MAX_SHOWN = 1000
"""Bytes of a payload that are shown."""

_ARROWS = {"in": "<-", "out": "->"}


def describe(connection: str, direction: str, opcode: str, payload: bytes) -> str:
    """Return one frame as one printable line, as in `c7 <- text 13 {"op":"ping"}`.

    The number is the payload's length in bytes. Of a long payload the first
    `MAX_SHOWN` bytes are shown; bytes that are not UTF-8 are escaped.
    """
    arrow = _ARROWS.get(direction, direction)
    line = f"{connection} {arrow} {opcode.lower()} {len(payload)}"
    if opcode.lower() == "close" and len(payload) >= 2:  # noqa: PLR2004 - RFC 6455, 5.5.1: a code, then a reason
        (code,) = struct.unpack_from("!H", payload)
        return printable(f"{line} {code} {_text(payload[2:])}".rstrip())
    if direction == "in" and _may_hold_token(opcode.lower(), payload):
        return f"{line} (not shown: it may hold a token)"
    return printable(f"{line} {_text(payload)}".rstrip())


def _may_hold_token(opcode: str, payload: bytes) -> bool:
    """Tell whether a frame is a `connect` with a token or an `authenticate`, or a part of a message that may be.

    What is one object and has no such key has none, however that would be
    spelt; what is no whole object, a fragment or a mistake, may be anything.
    """
    if opcode not in {"text", "binary", "continuation"} or not payload:
        return False
    try:
        decoded = msgspec.json.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return b"{" in payload or opcode == "continuation"
    return isinstance(decoded, dict) and "token" in decoded


def _text(payload: bytes) -> str:
    shown = payload[:MAX_SHOWN]
    rest = len(payload) - len(shown)
    # A character that the cut has split is not the peer's mistake.
    text = shown.decode("utf-8", "ignore" if rest and _splits_character(shown) else "backslashreplace")
    return f"{text}… and {rest} more bytes" if rest else text


def _splits_character(shown: bytes) -> bool:
    try:
        shown.decode()
    except UnicodeDecodeError as error:
        return error.reason == "unexpected end of data"
    return False


class Trace:
    """A daemon's `tracer` that writes to `stream` until that breaks."""

    def __init__(self, stream: TextIO) -> None:
        self._stream: TextIO | None = stream

    def __call__(self, connection: str, direction: str, opcode: str, payload: bytes) -> None:
        """Write one frame. It never raises: a reader who went away must not end a connection."""
        if self._stream is None:
            return
        try:
            self._stream.write(describe(connection, direction, opcode, payload) + "\n")
            self._stream.flush()
        except (OSError, ValueError):
            with suppress(OSError, ValueError):
                self._stream.close()
            self._stream = None
