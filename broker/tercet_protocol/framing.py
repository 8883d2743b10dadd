"""WebSocket frames as a server writes them (RFC 6455, section 5.2): unmasked and whole."""

from __future__ import annotations

import enum
import struct

from .codes import CloseCode

MAX_CONTROL_PAYLOAD = 125  # bytes; RFC 6455, 5.5
_FIN = 0x80
_TEXT = _FIN | 0x1
_HEAD_16 = struct.Struct("!BBH")
_MAX_SHORT = 125
_MAX_MEDIUM = 0xFFFF


class Opcode(enum.IntEnum):
    """What a frame is (RFC 6455, 5.2 and 11.8)."""

    CONTINUATION = 0x0
    TEXT = 0x1
    BINARY = 0x2
    CLOSE = 0x8
    PING = 0x9
    PONG = 0xA


def encode_frame(opcode: Opcode, payload: bytes) -> bytes:
    """Return an unfragmented server frame."""
    size = len(payload)
    if size <= _MAX_SHORT:
        return bytes((_FIN | opcode, size)) + payload
    if size <= _MAX_MEDIUM:
        return struct.pack("!BBH", _FIN | opcode, 126, size) + payload
    return struct.pack("!BBQ", _FIN | opcode, 127, size) + payload


def encode_text_frame(payload: bytes) -> bytes:
    """Return `payload`, which is UTF-8, as one text frame."""
    size = len(payload)
    if _MAX_SHORT < size <= _MAX_MEDIUM:  # the frame that is made by the million
        return _HEAD_16.pack(_TEXT, 126, size) + payload
    return encode_frame(Opcode.TEXT, payload)


def encode_close_frame(code: CloseCode, reason: str = "") -> bytes:
    """Return a Close frame; a reason that is too long for one is cut at a character."""
    text = reason.encode()[: MAX_CONTROL_PAYLOAD - 2].decode("utf-8", "ignore").encode()
    return encode_frame(Opcode.CLOSE, struct.pack("!H", code) + text)


def is_sendable_close_code(code: int) -> bool:
    """Tell whether a peer may put `code` into a Close frame (RFC 6455, 7.4).

    1004 to 1006 and 1015 are reserved; 1012 to 1014 were registered later.
    """
    return 1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999  # noqa: PLR2004
