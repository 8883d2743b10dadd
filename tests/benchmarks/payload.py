"""What is published: a text of a given size with a number and a marker at its end.

    xxxxxxxx…xxxxxxxx0000000042~~~~~~~^

The marker stands in nothing else that a broker sends, so that the load can
count deliveries by counting it in the bytes that arrive, whatever protocol
they are of. Its eight bytes let `bytes.count` skip through the rest.
"""

from __future__ import annotations

from attrs import define, field

_FILL = b"~"
MARKER = _FILL * 7 + b"^"
_DIGITS = 10
_SMALLEST = _DIGITS + len(MARKER)
_FILL_BYTE = _FILL[0]


def make_payload(size: int, number: int = 0) -> bytes:
    """Return `size` bytes of ASCII that carry `number`."""
    if size < _SMALLEST:
        raise ValueError(f"a payload has {_SMALLEST} bytes or more, not {size}")
    return b"x" * (size - _SMALLEST) + b"%0*d" % (_DIGITS, number) + MARKER


@define(eq=False)
class Counter:
    """Counts the markers of one connection's bytes, those cut in two by a read included."""

    _tail: bytes = b""

    def count(self, buffer: bytearray, size: int) -> int:
        """Count in the first `size` bytes of `buffer`, which follow those of the last call."""
        if self._tail or buffer[size - 1] == _FILL_BYTE:
            return self._count_cut(bytes(buffer[:size]))
        return buffer.count(MARKER, 0, size)

    def _count_cut(self, data: bytes) -> int:
        data = self._tail + data
        self._tail = data[len(data.rstrip(_FILL)) :]
        return data.count(MARKER)


@define(eq=False)
class NumberReader:
    """Returns the numbers of the payloads that arrive on one connection."""

    _rest: bytes = field(default=b"", repr=False)

    def read(self, buffer: bytearray, size: int) -> list[int]:
        """Read the first `size` bytes of `buffer`, which follow those of the last call."""
        *whole, rest = (self._rest + buffer[:size]).split(MARKER)
        self._rest = rest
        return [int(part[-_DIGITS:]) for part in whole]
