"""What `--trace` sees: every frame of every connection, in both directions."""

from __future__ import annotations

from typing import Protocol

from attrs import define, field

from tercet_protocol import Opcode

from .frames import Frame

_LENGTH_16 = 126
_LENGTH_64 = 127


class Tracer(Protocol):
    """Receives one call a frame; must not block, and must not raise."""

    def __call__(self, connection: str, direction: str, opcode: str, payload: bytes) -> None:
        """Hear that `connection` received ("in") or was sent ("out") a frame of a kind, such as "text"."""


@define(eq=False)
class LinkTracer:
    """Cuts what one connection is sent into frames again, and reports both directions."""

    tracer: Tracer
    connection: str
    _rest: bytearray = field(factory=bytearray, repr=False)
    _in_head: bool = True  # the HTTP response comes first

    def received(self, frame: Frame) -> None:
        """Report a frame of the client."""
        self.tracer(self.connection, "in", frame.opcode.name.lower(), frame.payload)

    def sent(self, data: bytes) -> None:
        """Report the frames that these bytes complete."""
        rest = self._rest
        rest += data
        if self._in_head:
            end = rest.find(b"\r\n\r\n")
            if end < 0:
                return
            self._in_head = False
            del rest[: end + 4]
        while len(rest) >= 2:  # noqa: PLR2004 - the shortest header
            length, start = rest[1], 2
            if length == _LENGTH_16:
                length, start = int.from_bytes(rest[2:4], "big"), 4
            elif length == _LENGTH_64:
                length, start = int.from_bytes(rest[2:10], "big"), 10
            if len(rest) < start + length:
                return
            opcode = Opcode(rest[0] & 0x0F)
            self.tracer(self.connection, "out", opcode.name.lower(), bytes(rest[start : start + length]))
            del rest[: start + length]
