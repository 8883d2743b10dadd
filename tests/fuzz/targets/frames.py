"""The frame reader and its fast path, in any pieces, against a reader that sees all bytes at once and is naive."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from tercet_broker.runtime.frames import FrameError, FrameReader

_LIMIT = 400
_SENDABLE = {1000, 1001, 1002, 1003, *range(1007, 1015), *range(3000, 5000)}

Item = tuple[int, bytes] | int  # a frame's first byte and payload, or the code that the connection is closed with

WORDS = [b"\x81\x80\0\0\0\0", b"\x01\x80\0\0\0\0", b"\x80\x80\0\0\0\0", b"\x00\x80", b"\x89\x80\0\0\0\0", b"\x88\x82"]
WORDS += [b"\x81\xfe\x00\x7e", b"\x81\xfe\x00\x7d", b"\x82\xff\0\0\0\0\0\1\0\0", b"\xff" * 4, b"\xc3", b"\x03\xe8"]
SEEDS = [
    b"\x07" + b"\x81\x82\1\2\3\4ab" * 5 + b"\x89\x80\0\0\0\0" + b"\x88\x82\0\0\0\0\x03\xe8",
    b"\x02" + b"\x01\x81\0\0\0\0\xc3\x89\x80\0\0\0\0\x80\x81\0\0\0\0\xa9" + b"\x81\x83\0\0\0\0abc",
    b"\xff" + b"\x81\xfe\0\x80\0\0\0\0" + b"a" * 128 + b"\x82\x81\0\0\0\0\xff",
    b"\x05" + b"\x01\x80\0\0\0\0" + b"\x00\x80\0\0\0\0" * 300,
]


def run(data: bytes) -> None:
    """The first byte says how large the pieces are."""
    if not data:
        return
    size, stream = data[0] or len(data), data[1:]
    expected = list(naive(stream))
    for lane in (True, False):
        for step in {size, len(stream) or 1}:
            found = list(_read(stream, step, lane=lane))
            assert found == expected, (lane, step, found, expected)


def _read(stream: bytes, step: int, *, lane: bool) -> Iterator[Item]:
    reader = FrameReader(_LIMIT)
    try:
        for start in range(0, len(stream), step):
            reader.feed(stream[start : start + step])
            while True:
                if lane:
                    for text in reader.texts():
                        yield 0x81, text
                frame = reader.next_frame()
                if frame is None:
                    break
                yield frame.raw[0], frame.payload
    except FrameError as error:
        yield int(error.code)


def naive(stream: bytes) -> Iterator[Item]:  # noqa: C901 - one sentence of the RFC after the other
    """Read frames as RFC 6455 says it, sentence by sentence; the table at the top of frames.py has the codes."""
    at, opcode, message, count = 0, None, b"", 0
    while len(stream) - at >= 2:
        first, second = stream[at], stream[at + 1]
        kind, final, size, start = first & 15, bool(first & 128), second & 127, at + 2
        wrong = first & 0x70 or kind not in {0, 1, 2, 8, 9, 10} or not second & 128
        if wrong or (kind >= 8 and (not final or size > 125)) or (kind < 8 and (kind == 0) != (opcode is not None)):
            yield 1002
            return
        if size > 125:
            width = 2 if size == 126 else 8
            if len(stream) < start + width:
                return
            length = int.from_bytes(stream[start : start + width], "big")
            if length <= (125 if size == 126 else 65535) or length >= 2**63:
                yield 1002
                return
            size, start = length, start + width
        if kind < 8 and len(message) + size > _LIMIT:
            yield 1009
            return
        if kind < 8 and not final and count + 1 > 256 and len(message) + size < (count + 1) * 16:
            yield 1008
            return
        end = start + 4 + size
        if len(stream) < end:
            return
        mask = stream[start : start + 4]
        payload = bytes(byte ^ mask[i % 4] for i, byte in enumerate(stream[start + 4 : end]))
        at = end
        if kind == 8 and (code := _close(payload)):
            yield code
            return
        if kind < 8:
            opcode = opcode if kind == 0 else kind
            message, count = message + payload, count + 1
            if opcode == 1 and not _utf8(message, final=final):
                yield 1007
                return
            if final:
                opcode, message, count = None, b"", 0
        yield first, payload


def _close(payload: bytes) -> int:
    if not payload:
        return 0
    if len(payload) == 1 or struct.unpack("!H", payload[:2])[0] not in _SENDABLE:
        return 1002
    return 0 if _utf8(payload[2:], final=True) else 1007


def _utf8(data: bytes, *, final: bool) -> bool:
    """Tell whether it is UTF-8, or, if it is not all, whether it can still become that."""
    try:
        data.decode()
    except UnicodeDecodeError as error:
        return not final and error.end == len(data) and error.reason == "unexpected end of data"
    return True
