"""The stream that trio-websocket is given: it stands between it and the real one.

It does three things that trio-websocket alone would not:

- *One writer.* Whatever is sent, trio-websocket's own frames included, goes
  through one queue of whole frames that one task writes. A cancelled
  `send_message` would leave half a frame behind; a cancelled publish cannot.
  What one scheduler pass has queued goes out in one write.
- *The lane.* Whole, unfragmented text frames, which is all that a Tercet broker
  sends, are handed straight to the session. The first frame of another kind of
  data closes the lane for good, so that nothing can overtake anything.
  Handshake, control frames and errors are trio-websocket's.
- *The guard.* The response head, the length a frame declares and the number of
  a message's fragments are bounded before they are buffered.
"""

from __future__ import annotations

import random
import struct
from collections import deque
from collections.abc import Awaitable, Callable

import trio
from attrs import define, field

from tercet_protocol import CloseCode, Opcode, apply_mask, is_sendable_close_code

MAX_MESSAGE_SIZE = 16 * 2**20  # bytes of one message from the broker

_MAX_HEAD = 64 * 2**10  # bytes of the handshake's response, body included
_MAX_FRAGMENTS = 4096
_RECEIVE_BYTES = 64 * 2**10
_WRITE_BYTES = 64 * 2**10  # joined into one write, about
_ENGINE_MARK = 2**20  # bytes queued, beyond which trio-websocket's pongs wait
_END_OF_HEAD = b"\r\n\r\n"
_SWITCHING = b"HTTP/1.1 101"
_WHOLE_TEXT = 0x80 | Opcode.TEXT


def _frame(payload: bytes, key: bytes, first: int = _WHOLE_TEXT) -> bytes:
    size = len(payload)
    if size <= 125:  # noqa: PLR2004 - RFC 6455, 5.2
        head = bytes((first, 0x80 | size))
    elif size <= 0xFFFF:  # noqa: PLR2004 - RFC 6455, 5.2
        head = struct.pack("!BBH", first, 0x80 | 126, size)
    else:
        head = struct.pack("!BBQ", first, 0x80 | 127, size)
    return b"%b%b%b" % (head, key, apply_mask(payload, key))


@define(eq=False)
class Wire(trio.abc.Stream):
    """See above. The callbacks are called by the task that reads; all but the last are sync."""

    _stream: trio.abc.Stream
    _entropy: random.Random
    _on_text: Callable[[bytes], None]
    _on_heard: Callable[[], None]
    _on_end: Callable[[], None]
    _on_violation: Callable[[int, str], None]
    _before_reading: Callable[[], Awaitable[None]]
    _queue: deque[tuple[bool, bytes]] = field(factory=deque, init=False)  # (is it a text to frame, bytes)
    queued: int = field(default=0, init=False)  # bytes
    _writing: bool = field(default=False, init=False)
    is_broken: bool = field(default=False, init=False)  # nothing can be written any more
    _wanted: trio.Event = field(factory=trio.Event, init=False)
    _written: trio.lowlevel.ParkingLot = field(factory=trio.lowlevel.ParkingLot, init=False)
    _rest: bytearray = field(factory=bytearray, init=False)  # received, not yet a whole frame
    _need: int = field(default=2, init=False)  # bytes of it that are worth a look
    _framed: bool = field(default=False, init=False)  # the handshake's response is past
    _refused: bool = field(default=False, init=False)  # it was no 101: its body follows
    _head_size: int = field(default=0, init=False)
    _passed: deque[bytes] = field(factory=deque, init=False)  # whole frames for trio-websocket
    is_closed_by_peer: bool = field(default=False, init=False)  # a proper Close has come
    _lane: bool = field(default=True, init=False)
    _fragments: int = field(default=0, init=False)
    _held: bool = field(default=False, init=False)  # what is left of `_rest` waits
    _closing: bool = field(default=False, init=False)
    _garbled: bool = field(default=False, init=False)  # where the next frame begins is not known

    # Out

    def send_text(self, payload: bytes) -> None:
        """Queue one text message. After the Close nothing may follow, so then it is dropped."""
        if not self._closing:
            self._put(True, payload)

    def send_close(self, code: int, reason: str) -> None:
        """Queue a Close; for when trio-websocket has given up without one."""
        payload = struct.pack("!H", code) + reason.encode()
        self._put(False, _frame(payload, self._entropy.randbytes(4), 0x80 | Opcode.CLOSE))

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Queue what trio-websocket sends: always whole frames, or the request.

        Where nothing can be written any more it is dropped: to raise would keep
        trio-websocket from telling the Close that may have been received.
        """
        await trio.lowlevel.checkpoint()
        while self.queued > _ENGINE_MARK and not self.is_broken:
            await self._written.park()
        self._put(False, bytes(data))

    async def wait_send_all_might_not_block(self) -> None:
        """Part of the interface; trio-websocket does not use it."""
        await trio.lowlevel.checkpoint()

    def _put(self, is_text: bool, data: bytes) -> None:
        if not self.is_broken:
            self._queue.append((is_text, data))
            self.queued += len(data)
            self._wanted.set()

    async def write(self) -> None:
        """Write what is queued, until cancelled or until the stream takes no more."""
        try:
            while True:
                await self._wanted.wait()
                self._wanted = trio.Event()
                while self._queue:
                    await self._write_some()
                self._writing = False
                self._written.unpark_all()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            # Only sending is over: a Close that tells why may still be read.
            # If nothing comes, the liveness deadline ends it.
            pass
        finally:
            self._writing = False
            self.is_broken = True
            self._queue.clear()
            self._written.unpark_all()

    async def _write_some(self) -> None:
        parts: list[bytes] = []
        size = 0
        while self._queue and size < _WRITE_BYTES:
            is_text, data = self._queue.popleft()
            self.queued -= len(data)
            size += len(data)
            parts.append(_frame(data, self._entropy.randbytes(4)) if is_text else data)
        self._writing = True
        await self._stream.send_all(b"".join(parts))
        self._written.unpark_all()

    async def flush(self) -> None:
        """Wait until everything that is queued was written, or cannot be."""
        while (self._queue or self._writing) and not self.is_broken:
            await self._written.park()

    # In

    def hold(self) -> None:
        """Hand out nothing more before `before_reading` was asked again."""
        self._held = True

    def stop_listening(self) -> None:
        """Our Close is next: let only the peer's through from now on, and send no more text.

        A ping while a Close is pending would end trio-websocket's reader (its issue #184).
        """
        self._closing = True

    async def receive_some(self, max_bytes: int | None = None) -> bytes:  # noqa: ARG002 - the interface
        """Return what trio-websocket is to see of what was received; b"" at the end."""
        while True:
            if self._framed:
                self._sort()
                frame = await self._next_passed()
                if frame is not None:
                    return frame
            await self._before_reading()
            if self._held:
                self._held = False
                continue
            try:
                data = await self._stream.receive_some(_RECEIVE_BYTES)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                self._on_end()
                raise
            if not data:
                self._on_end()
                return b""
            self._on_heard()
            if self._garbled:
                continue
            self._rest += data
            if not self._framed:
                head = self._take_head()
                if head:
                    return head

    async def _next_passed(self) -> bytes | None:
        """Return the next frame for trio-websocket, if there is one.

        One at a time: it answers a ping before it asks again, and so never
        after our Close.
        """
        while self._passed:
            await trio.lowlevel.checkpoint()
            frame = self._passed.popleft()
            if not self._closing or frame[0] & 0x0F == Opcode.CLOSE:
                return frame
        return None

    def _take_head(self) -> bytes:
        """Return the response once its head is whole, and what follows it if it was a refusal."""
        self._head_size += len(self._rest)
        if self._head_size > _MAX_HEAD:
            self._on_end()
            raise trio.BrokenResourceError("the response to the handshake is too long")
        head = bytes(self._rest)
        if not self._refused:
            end = head.find(_END_OF_HEAD)
            if end < 0:
                self._head_size = 0  # it is looked at again as a whole
                return b""
            if head.startswith(_SWITCHING):
                self._framed = True
                head = head[: end + len(_END_OF_HEAD)]
            self._refused = not self._framed
        del self._rest[: len(head)]
        return head

    def _sort(self) -> None:
        """Hand whole texts to the session; keep the other whole frames for trio-websocket."""
        if len(self._rest) < self._need:
            return
        data = bytes(self._rest)
        place, size = 0, len(data)
        while True:
            start, length = _read_head(data, place, size)
            if length < 0:
                self._need = size - place + 1
                break
            if length > MAX_MESSAGE_SIZE:
                self._violate(CloseCode.MESSAGE_TOO_BIG, "the broker sent a frame that is too long")
                break
            end = start + length
            if end > size:
                self._need = end - place
                break
            self._sort_frame(data[place:end], start - place)
            place = end
            if self._held:
                self._need = 2
                break
        del self._rest[:place]

    def _sort_frame(self, frame: bytes, start: int) -> None:
        if self._lane and frame[0] == _WHOLE_TEXT and not frame[1] & 0x80:
            if not self._closing:
                self._on_text(frame[start:])
        elif self._passes(frame[0]):
            self._passed.append(frame)
            if frame[0] & 0x0F == Opcode.CLOSE:
                self.is_closed_by_peer = _is_proper_close(frame[start:])

    def _passes(self, first: int) -> bool:
        """Tell whether trio-websocket is to have a frame; keep count of fragments."""
        opcode = first & 0x0F
        if opcode >= Opcode.CLOSE:
            return True
        self._lane = False
        self._fragments = 0 if first & 0x80 else self._fragments + 1
        if self._fragments > _MAX_FRAGMENTS:
            self._violate(CloseCode.MESSAGE_TOO_BIG, "the broker sent a message in too many fragments")
            return False
        return True

    def _violate(self, code: CloseCode, reason: str) -> None:
        self._closing = self._garbled = True
        self._on_violation(code, reason)

    async def aclose(self) -> None:
        """Close the real stream at once; what must be said was flushed before."""
        await trio.aclose_forcefully(self._stream)


def _is_proper_close(payload: bytes) -> bool:
    """Tell whether a Close says what a Close may say; else its code is trio-websocket's verdict."""
    try:
        payload[2:].decode()
    except UnicodeDecodeError:
        return False
    return not payload or (len(payload) > 1 and is_sendable_close_code(int.from_bytes(payload[:2])))


def _read_head(data: bytes, place: int, size: int) -> tuple[int, int]:
    """Return where the payload of the frame at `place` begins and its length; -1: more is needed."""
    if size - place < 2:  # noqa: PLR2004 - RFC 6455, 5.2
        return 0, -1
    length = data[place + 1] & 0x7F
    mask = 4 if data[place + 1] & 0x80 else 0  # a server must not; trio-websocket will say so
    start = place + 2
    if length == 126:  # noqa: PLR2004 - RFC 6455, 5.2
        if size - start < 2:  # noqa: PLR2004
            return 0, -1
        length = int.from_bytes(data[start : start + 2])
        start += 2
    elif length == 127:  # noqa: PLR2004 - RFC 6455, 5.2
        if size - start < 8:  # noqa: PLR2004
            return 0, -1
        length = int.from_bytes(data[start : start + 8])
        start += 8
    return start + mask, length
