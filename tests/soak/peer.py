"""A client in as little code as possible, so that thousands of them fit beside the daemon."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Iterator
from typing import Any

import trio
from attrs import define, field

_UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
_TEXT, _CLOSE, _PING, _PONG = 0x1, 0x8, 0x9, 0xA


class GoneError(Exception):
    """The connection has ended; `code` is that of the broker's Close, or None."""

    def __init__(self, code: int | None = None) -> None:
        super().__init__(code)
        self.code = code


def frame(opcode: int, payload: bytes) -> bytes:
    """Return a frame with a mask of zeros."""
    size = len(payload)
    if size < 126:
        return bytes((0x80 | opcode, 0x80 | size, 0, 0, 0, 0)) + payload
    return struct.pack("!BBHI", 0x80 | opcode, 0xFE, size, 0) + payload


@define(eq=False)
class Peer:
    """One connection."""

    stream: trio.SocketStream
    _buffer: bytearray = field(factory=bytearray, repr=False)

    async def send(self, *requests: dict[str, object]) -> None:
        data = b"".join(frame(_TEXT, json.dumps(one).encode()) for one in requests)
        try:
            await self.stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise GoneError from error

    async def more(self, size: int = 65536) -> None:
        try:
            data = await self.stream.receive_some(size)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise GoneError from error
        if not data:
            raise GoneError
        self._buffer += data

    async def connect(self) -> None:
        await self.stream.send_all(_UPGRADE)
        while b"\r\n\r\n" not in self._buffer:
            await self.more()
        end = self._buffer.index(b"\r\n\r\n") + 4
        if not self._buffer.startswith(b"HTTP/1.1 101 "):
            raise GoneError
        del self._buffer[:end]
        await self.send({"op": "connect", "id": 1})

    async def messages(self) -> list[dict[str, Any]]:
        """Return the next messages, one at least; answer pings."""
        while True:
            found: list[dict[str, Any]] = []
            for opcode, payload in self._frames():
                if opcode == _TEXT:
                    found.append(json.loads(payload))
                elif opcode == _PING:
                    await self.stream.send_all(frame(_PONG, payload))
                elif opcode == _CLOSE:
                    raise GoneError(int.from_bytes(payload[:2], "big"))
            if found:
                return found
            await self.more()

    def _frames(self) -> Iterator[tuple[int, bytes]]:
        buffer, at = self._buffer, 0
        while len(buffer) - at >= 2:
            size, start = buffer[at + 1], at + 2
            if size >= 126:
                start += 2 if size == 126 else 8
                if len(buffer) < start:
                    break
                size = int.from_bytes(buffer[at + 2 : start], "big")
            if len(buffer) < start + size:
                break
            yield buffer[at] & 0x0F, bytes(buffer[start : start + size])
            at = start + size
        del buffer[:at]

    async def leave(self) -> None:
        """Say goodbye, and wait for the end."""
        await self.stream.send_all(frame(_CLOSE, b"\x03\xe8"))
        while await self.stream.receive_some(65536):
            pass

    def reset(self) -> None:
        """Be gone without a word."""
        self.stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.stream.socket.close()
