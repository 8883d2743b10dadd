"""What a WebSocket client writes: the upgrade request, and masked frames, built once and sent many times."""

from __future__ import annotations

import base64
import struct

# Any key but zero, with which a broker could skip the work. One for all frames:
# brokers cannot tell, and the load builds its frames before it measures.
_MASK = bytes.fromhex("a35c7e91")
_KEY = base64.b64encode(bytes(range(16))).decode()
_FIN = 0x80
_MASKED = 0x80
_MAX_SHORT = 125
_MAX_MEDIUM = 0xFFFF

TEXT = 0x1
BINARY = 0x2
PING = 0x9
PONG = 0xA


def upgrade_request(host: str, subprotocol: str | None = None) -> bytes:
    lines = [
        "GET / HTTP/1.1",
        f"Host: {host}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {_KEY}",
        "Sec-WebSocket-Version: 13",
    ]
    if subprotocol is not None:
        lines.append(f"Sec-WebSocket-Protocol: {subprotocol}")
    return "\r\n".join([*lines, "", ""]).encode()


def client_frame(opcode: int, payload: bytes) -> bytes:
    """Return a whole, masked frame (RFC 6455, 5.2 and 5.3)."""
    size = len(payload)
    if size <= _MAX_SHORT:
        head = struct.pack("!BB", _FIN | opcode, _MASKED | size)
    elif size <= _MAX_MEDIUM:
        head = struct.pack("!BBH", _FIN | opcode, _MASKED | 126, size)
    else:
        head = struct.pack("!BBQ", _FIN | opcode, _MASKED | 127, size)
    key = (_MASK * (size // len(_MASK) + 1))[:size]
    masked = int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")
    return head + _MASK + masked.to_bytes(size, "big")


def server_frame(opcode: int, payload: bytes) -> bytes:
    """Return an unmasked frame of medium length, as a broker would write it."""
    return struct.pack("!BBH", _FIN | opcode, 126, len(payload)) + payload
