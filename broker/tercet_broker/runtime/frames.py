"""The frames that a client sends, checked one by one before anything believes them (RFC 6455, 5).

trio-websocket is lenient where it should close, and closes without telling
the peer why. So every rule about a single frame, and about the sequence of
them, stands here; what passes is a frame that trio-websocket cannot choke on.
The rules and their close codes:

    reserved bits, unknown opcode, unmasked          1002
    control frame fragmented or over 125 bytes       1002
    length not in its shortest form, or over 2^63    1002
    continuation of nothing; message within message  1002
    Close payload: one byte; a code nobody may send  1002   (not UTF-8: 1007)
    text that is not UTF-8, known at once            1007
    message over the limit, by its declared length   1009
    very many tiny fragments                         1008
"""

from __future__ import annotations

import codecs
import struct
from collections.abc import Iterator

from attrs import define, field, frozen

from tercet_protocol import CloseCode, Opcode, apply_mask, is_sendable_close_code

_FIN = 0x80
_RESERVED = 0x70
_OPCODE = 0x0F
_MASKED = 0x80
_LENGTH = 0x7F
_LENGTH_16 = 126
_LENGTH_64 = 127
_MAX_MEDIUM = 0xFFFF
_MAX_SHORT = 125
_CONTROL = 0x8  # this bit of the opcode marks control frames
_KEY_BYTES = 4
_OPCODES = frozenset(Opcode)
_WHOLE_TEXT = _FIN | Opcode.TEXT

# How many fragments a message may have however small they are, and how small
# they may be on the average beyond that: each costs us far more than a byte.
_FREE_FRAGMENTS = 256
_MIN_FRAGMENT = 16


class FrameError(Exception):
    """Theirs: the peer broke a rule. The connection is to be closed with `code`."""

    def __init__(self, code: CloseCode, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason


@frozen
class Frame:
    """One frame that passed.

    Attributes:
        opcode: what it is.
        is_whole: whether it is a whole data message, not a fragment or a control frame.
        is_last: whether it is, or completes, a data message.
        payload: unmasked.
        raw: the bytes as they came, header and mask included.
    """

    opcode: Opcode
    is_whole: bool
    is_last: bool
    payload: bytes
    raw: bytes = field(repr=False)


@define(eq=False)
class FrameReader:
    """Turns bytes into frames. Sans I/O; after an error it must not be used.

    Attributes:
        max_message: bytes that a message may have, all its fragments together.
    """

    max_message: int
    _data: bytes = field(default=b"", repr=False)  # frames, the first of which begins at …
    _start: int = 0
    _partial: bytearray = field(factory=bytearray, repr=False)  # the beginning of a frame, until it has …
    _needed: int = 0  # … so many bytes
    _opcode: Opcode | None = None  # of the message whose fragments are coming
    _size: int = 0  # of it, so far
    _fragments: int = 0
    _text: codecs.IncrementalDecoder | None = field(default=None, repr=False)

    def feed(self, data: bytes) -> None:
        """Add what was received. What is held is bounded by `max_message` and one such chunk."""
        if self._start < len(self._data):  # fed although there are frames left
            self._partial += self._data[self._start :]
            self._data, self._start = b"", 0
        if not self._partial:
            self._data, self._start = data, 0
            return
        self._partial += data
        if len(self._partial) >= self._needed:
            self._data, self._start = bytes(self._partial), 0
            self._partial.clear()
            self._needed = 0

    @property
    def is_between_frames(self) -> bool:
        """Whether nothing has come of the next frame."""
        return not self._partial and self._start >= len(self._data)

    @property
    def arrived(self) -> int | None:
        """How many bytes have come of a message that has begun and not ended; None where there is none.

        The beginning of a control frame is no message; it has 125 bytes at most.
        """
        if self._opcode is None and (not self._partial or self._partial[0] & _CONTROL):
            return None
        return self._size + len(self._partial)

    def texts(self) -> Iterator[bytes]:
        """Yield the payloads of the frames that are next, as long as each is a whole text message and nothing odd.

        What comes behind them is `next_frame`'s. This does the same as that
        in fewer steps, for the one kind of frame that comes by the thousand.
        It may be left at any time, but not gone on with after a `feed`.

        Raises:
            FrameError: a text is not UTF-8.
        """
        data, start = self._data, self._start
        most, have = self.max_message, len(data) - 2
        while start <= have and data[start] == _WHOLE_TEXT and self._opcode is None:
            size, body = data[start + 1] - _MASKED, start + 6
            if size >= _LENGTH_16:
                body += 2
                if size != _LENGTH_16 or start > have - 2:
                    return
                size = data[start + 2] << 8 | data[start + 3]
                if size <= _MAX_SHORT:
                    return
            end = body + size
            if not 0 <= size <= most or end > have + 2:
                return
            payload = apply_mask(data[body:end], data[body - _KEY_BYTES : body])
            if not payload.isascii():
                _check_utf8(payload)
            self._start = start = end
            yield payload

    def next_frame(self) -> Frame | None:
        """Return the next whole frame, or None until more is fed.

        Raises:
            FrameError: the peer broke a rule; as early as it can be known.
        """
        data, begin = self._data, self._start
        if len(data) - begin < 2:  # noqa: PLR2004 - the shortest header
            self._wait_for(2)
            return None
        first, second = data[begin], data[begin + 1]
        opcode = self._check_head(first, second)
        length, start = second & _LENGTH, begin + 2
        if length > _MAX_SHORT:
            start += 2 if length == _LENGTH_16 else 8
            if len(data) < start:
                self._wait_for(start - begin)
                return None
            length = self._read_length(data[begin + 2 : start])
        if not opcode & _CONTROL:
            self._check_size(length, is_last=bool(first & _FIN))
        body = start + _KEY_BYTES
        end = body + length
        if len(data) < end:
            self._wait_for(end - begin)
            return None
        self._start = end
        payload = apply_mask(data[body:end], data[start:body])
        return self._accept(opcode, payload, data[begin:end], is_final=bool(first & _FIN))

    def _wait_for(self, needed: int) -> None:
        """Keep the beginning of a frame until so many bytes are there: then it is looked at again."""
        if self._start == len(self._data):
            return  # nothing has come since
        self._partial += self._data[self._start :]
        self._data, self._start, self._needed = b"", 0, needed

    def _check_head(self, first: int, second: int) -> Opcode:
        """Apply the rules on the first two bytes."""
        if first & _RESERVED:
            raise FrameError(CloseCode.PROTOCOL_ERROR, "reserved bits are set, and no extension was agreed on")
        opcode = first & _OPCODE
        if opcode not in _OPCODES:
            raise FrameError(CloseCode.PROTOCOL_ERROR, f"unknown opcode {opcode}")
        if not second & _MASKED:
            raise FrameError(CloseCode.PROTOCOL_ERROR, "a client must mask its frames")
        if opcode & _CONTROL:
            if not first & _FIN:
                raise FrameError(CloseCode.PROTOCOL_ERROR, "a control frame must not be fragmented")
            if second & _LENGTH > _MAX_SHORT:
                raise FrameError(CloseCode.PROTOCOL_ERROR, "a control frame may have 125 bytes at most")
        elif opcode == Opcode.CONTINUATION:
            if self._opcode is None:
                raise FrameError(CloseCode.PROTOCOL_ERROR, "a continuation without a message to continue")
        elif self._opcode is not None:
            raise FrameError(CloseCode.PROTOCOL_ERROR, "a new message within a fragmented one")
        return Opcode(opcode)

    @staticmethod
    def _read_length(data: bytes) -> int:
        if len(data) == struct.calcsize("!H"):
            (length,) = struct.unpack("!H", data)
            is_shortest = length > _MAX_SHORT
        else:
            (length,) = struct.unpack("!Q", data)
            is_shortest = _MAX_MEDIUM < length < 2**63
        if not is_shortest:
            raise FrameError(CloseCode.PROTOCOL_ERROR, "a frame's length is not in its shortest form")
        return int(length)

    def _check_size(self, length: int, *, is_last: bool) -> None:
        """Refuse a message as soon as it is known to become too large, before it is buffered."""
        if self._size + length > self.max_message:
            raise FrameError(CloseCode.MESSAGE_TOO_BIG, f"a frame or message over {self.max_message} bytes")
        count = self._fragments + 1
        if not is_last and count > _FREE_FRAGMENTS and self._size + length < count * _MIN_FRAGMENT:
            raise FrameError(CloseCode.POLICY_VIOLATION, f"{count} fragments of so few bytes")

    def _accept(self, opcode: Opcode, payload: bytes, raw: bytes, *, is_final: bool) -> Frame:
        """Apply the rules on whole frames and their order."""
        if opcode & _CONTROL:
            if opcode == Opcode.CLOSE:
                _check_close(payload)
            return Frame(opcode, is_whole=False, is_last=False, payload=payload, raw=raw)
        if is_final and self._opcode is None:
            if opcode == Opcode.TEXT and not payload.isascii():
                _check_utf8(payload)
            return Frame(opcode, is_whole=True, is_last=True, payload=payload, raw=raw)
        if self._opcode is None:
            self._opcode = opcode
            self._text = codecs.getincrementaldecoder("utf-8")() if opcode == Opcode.TEXT else None
        self._size += len(payload)
        self._fragments += 1
        if self._text is not None:
            try:
                self._text.decode(payload, is_final)
            except UnicodeDecodeError as error:
                raise FrameError(CloseCode.INVALID_PAYLOAD, "text that is not UTF-8") from error
        if is_final:
            self._opcode, self._text, self._size, self._fragments = None, None, 0, 0
        return Frame(opcode, is_whole=False, is_last=is_final, payload=payload, raw=raw)


def _check_utf8(payload: bytes) -> None:
    try:
        payload.decode()
    except UnicodeDecodeError as error:
        raise FrameError(CloseCode.INVALID_PAYLOAD, "text that is not UTF-8") from error


def _check_close(payload: bytes) -> None:
    if not payload:
        return
    if len(payload) == 1:
        raise FrameError(CloseCode.PROTOCOL_ERROR, "a Close with half a code")
    (code,) = struct.unpack_from("!H", payload)
    if not is_sendable_close_code(code):
        raise FrameError(CloseCode.PROTOCOL_ERROR, f"close code {code} may not be sent")
    _check_utf8(payload[2:])
