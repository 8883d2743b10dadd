"""The link: between a socket and trio-websocket, with trio-websocket's public API only.

trio-websocket accepts any Trio stream. This is the one it gets, and it owns
the wire below:

- *Guard*: every frame is checked before anything else sees it (frames.py),
  and a broken rule closes with the right code.
- *Lane*: whole data frames go straight to the endpoint. Control frames,
  fragments and everything odd go to trio-websocket, one frame at a time, and
  nothing behind such a frame is served until what it completed was received:
  so there is one order, as if all had gone one way. With the lane off, all of
  it does.
- *Outbox*: whatever leaves, trio-websocket's own frames included, goes
  through one bounded queue (sending.py).

A Close that we begin is written here, and ends the reading: trio-websocket is
told the end of the stream. A Close that the peer begins is trio-websocket's to
answer. Either way `goodbye` does the rest, in bounded time.
"""

from __future__ import annotations

import trio
from attrs import define, field

from tercet_protocol import CloseCode, Opcode, encode_close_frame

from .frames import Frame, FrameError, FrameReader
from .meter import AbuseError, Meter
from .sending import Ending, Sending, SendingHalf

_READ = 64 * 1024  # bytes asked of the wire at once
_SERVED = 512  # frames served before others have their turn …
_SERVED_SECONDS = 0.005  # … or as long as that took: what a frame asks for may cost a thousand times another
_SERVED_AT_ONCE = 8  # frames served between two looks at the clock
_HANDED_OVER = 32  # frames for trio-websocket, which takes them without a checkpoint, before the same
_LAST_WAIT = 1.0  # seconds for the peer's end of stream, once both Closes have been said
_EMPTY_PONG = b"\x8a\x80"  # its header, masked as a client's is; the key follows
_EMPTY_PONG_BYTES = 6
_DISCARDED = 4 * 1024 * 1024  # bytes a peer may still send once we have said goodbye


@define(eq=False, kw_only=True)
class Link(SendingHalf, trio.abc.Stream):
    """The stream that trio-websocket is given.

    Attributes:
        meter: how much the peer may ask for.
        lane: whether whole data frames bypass trio-websocket.
        heard: how often the peer has sent anything.
        heard_at: when the peer last sent anything, in Trio's time.
        is_paused: whether it is not read from for a moment, because the peer asks too fast.
    """

    reader: FrameReader = field(repr=False)
    meter: Meter = field(repr=False)
    lane: bool = True
    heard: int = 0
    heard_at: float = field(factory=trio.current_time)
    is_paused: bool = False
    _greeting: bytes = field(default=b"", repr=False)  # the request, until trio-websocket has it
    _is_refusing: bool = False  # what is served now came too fast, and has waited for too long
    _passed_over: int = 0  # control frames and parts among what is served now, which are no requests
    _handed_over: int = 0  # frames, since the last checkpoint for their sake
    _is_hungry: bool = False  # all that was received has been served
    _is_held: bool = False  # trio-websocket has a request or a message that was not received yet
    _listening: trio.CancelScope | None = field(default=None, repr=False)

    def greet(self, request: bytes, trailing: bytes) -> None:
        """Give trio-websocket the checked request to read first, and the frames that came behind it."""
        self._greeting = request
        self._is_held = True
        self.reader.feed(trailing)

    # The stream that trio-websocket reads from and writes to

    async def receive_some(self, max_bytes: int | None = None) -> bytes:  # noqa: ARG002 - one frame, however long
        """Serve what comes until there is a frame for trio-websocket, and return that; b"" is the end."""
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._greeting:
            request, self._greeting = self._greeting, b""
            return request
        with trio.CancelScope() as self._listening:
            try:
                frame = await self._serve_until_frame()
                if frame is not None:
                    return self._hand_over(frame)
            except FrameError as error:
                self.close(error.code, error.reason)
            except AbuseError as error:
                self.close(CloseCode.POLICY_VIOLATION, str(error))
            except trio.BrokenResourceError:
                self.break_off()
        return b""

    async def _serve_until_frame(self) -> Frame | None:
        """Serve what comes until there is a frame for trio-websocket; None if the connection ends first."""
        while self.ending is None:
            if self._is_held or self.outbox.is_congested:
                await self._wait_until_served()
            self._is_refusing = False
            if pause := self.meter.pause(trio.current_time()):
                await self._wait_for_rate(pause)
            frame = self._serve_frames()
            if frame is not None:
                self._handed_over = (self._handed_over + 1) % _HANDED_OVER
                if not self._handed_over:
                    await trio.lowlevel.checkpoint()
                return frame
            if self._is_hungry:
                data = await self.wire.receive(_READ)
                while self._is_lone_pong(data):
                    data = await self.wire.receive(_READ)
                self._take(data)
            else:
                await trio.lowlevel.checkpoint()
        return None

    def _is_lone_pong(self, data: bytes) -> bool:
        """Serve all that an idle client ever sends, an empty pong, in fewer steps; return whether it was that.

        Raises:
            AbuseError: there are too many.
        """
        if len(data) != _EMPTY_PONG_BYTES or not data.startswith(_EMPTY_PONG):
            return False
        if self.tracer is not None or not self.reader.is_between_frames:
            return False
        self._note_heard(data)
        self.meter.odd_frame(self.heard_at)
        return True

    def _note_heard(self, data: bytes) -> None:
        self.heard += 1
        self.heard_at = trio.current_time()
        self.meter.read(len(data), self.heard_at)

    def _take(self, data: bytes) -> None:
        self._note_heard(data)
        self.reader.feed(data)
        if not data:
            self.break_off()

    async def _wait_for_rate(self, pause: float) -> None:
        """Wait while the peer is over its rate; but what has waited for too long is refused at once."""
        meter = self.meter
        while self.ending is None and pause:
            if not self._is_hungry and meter.is_overdue(trio.current_time()):
                self._is_refusing = True
                return
            self.is_paused = True
            await trio.sleep(pause)
            self.is_paused = False
            pause = meter.pause(trio.current_time())

    async def _wait_until_served(self) -> None:
        """Wait while trio-websocket has a message of ours, or the peer does not take what it asked for."""
        while self.ending is None and (self._is_held or self._is_congested()):
            await self.wait_for_release()

    def _is_congested(self) -> bool:
        if self.outbox.is_congested:
            self.flush(trio.current_time())
            # The flush may have found the peer gone: then nobody will release who parks now.
            return self.ending is None and self.outbox.is_congested
        return False

    def _serve_frames(self) -> Frame | None:
        """Serve frames by the lane, as many as is fair; return the first one that is not the lane's."""
        endpoint, outbox = self.endpoint, self.outbox
        receive = self._refuse if self._is_refusing else endpoint.receive
        self._is_hungry = False
        enough = endpoint.look_at_clock() + _SERVED_SECONDS
        left = room = _SERVED if self._is_refusing else self.meter.room(_SERVED)
        self._passed_over = 0
        try:
            while left > 0:
                for payload in self.reader.texts() if self.lane and self.tracer is None else ():
                    left -= 1
                    try:
                        receive(payload, is_text=True)
                    except Exception as error:  # noqa: BLE001 - as in `deliver`, which would be a call more
                        self._fail_to_serve(error)
                    if self.ending is not None or ((outbox.size or outbox.is_held) and outbox.is_congested):
                        return None
                    if not left % _SERVED_AT_ONCE and (not left or endpoint.look_at_clock() > enough):
                        return None
                left -= 1
                frame = self._next_odd_frame()
                if frame is not None or self._is_hungry:
                    return frame
                if self.ending is not None or outbox.is_congested or endpoint.look_at_clock() > enough:
                    return None
        finally:
            # Charged by the batch: a message costs nothing here.
            served = room - left - self._passed_over
            if served and not self._is_refusing:
                self.meter.served(served, trio.current_time())
        return None

    def _next_odd_frame(self) -> Frame | None:
        """Look at the next frame, and return it if trio-websocket is to have it; otherwise it has been served."""
        frame = self.reader.next_frame()
        if frame is None:
            self._is_hungry = True
            self._passed_over += 1
            return None
        if self.tracer is not None:
            self.tracer.received(frame)
        if not frame.is_last:
            self._passed_over += 1
        if not frame.is_whole:
            self.meter.odd_frame(trio.current_time())
        if frame.opcode == Opcode.PONG:
            return None  # that it came is all it says
        if not (frame.is_whole and self.lane):
            return frame
        self.deliver(frame.payload, is_text=frame.opcode == Opcode.TEXT)
        return None

    def deliver(self, payload: bytes, *, is_text: bool) -> None:
        """Give the endpoint a message. What goes wrong in there ends this connection and no other."""
        try:
            if self._is_refusing:
                self._refuse(payload, is_text=is_text)
            else:
                self.endpoint.receive(payload, is_text=is_text)
        except Exception as error:  # noqa: BLE001 - the boundary of a connection
            self._fail_to_serve(error)

    def _refuse(self, payload: bytes, *, is_text: bool) -> None:  # noqa: ARG002 - it is not looked into
        self.endpoint.refuse(payload, self.meter.refuse(trio.current_time()))

    def _fail_to_serve(self, error: Exception) -> None:
        if isinstance(error, AbuseError):
            self.close(CloseCode.POLICY_VIOLATION, str(error))
        else:
            self.fault(error)

    def fault(self, error: Exception) -> None:
        """End this connection, and no other, for a bug that showed while it was served."""
        self.endpoint.fault(error)
        self.close(CloseCode.INTERNAL_ERROR, "internal error")

    def _hand_over(self, frame: Frame) -> bytes:
        if frame.is_last:
            self._is_held = True
        elif frame.opcode == Opcode.CLOSE:
            self._heard_close = True
            self.ending = Ending(True, *_parse_close(frame.payload))
        return frame.raw

    def received(self) -> None:
        """Note that the request was accepted, or a message received: what follows it is served now."""
        self._is_held = False
        self.release()

    async def aclose(self) -> None:
        """Do nothing yet: trio-websocket has finished, `goodbye` has not begun."""
        await trio.lowlevel.checkpoint()

    # The end

    def close(self, code: CloseCode, reason: str) -> None:
        """Begin to close (`Carrier.close`): a Close behind what is queued, and nothing is read any more."""
        if self.ending is not None:
            return
        self.ending = Ending(False, code, reason)
        outbox = self.outbox
        outbox.notify(encode_close_frame(code, reason))
        outbox.seal()
        self._stop_reading()

    def break_off(self) -> None:
        """Note that the wire is of no more use."""
        if self.ending is None:
            self.ending = Ending(True, CloseCode.ABNORMAL, "the connection was cut")
        self.become(Sending.BROKEN)
        self._stop_reading()

    def _stop_reading(self) -> None:
        if self._listening is not None:
            self._listening.cancel()
        self.release()

    def end(self) -> None:
        """Hear that the connection has ended. The flusher may still have it on its list, and must not touch it."""
        self._listening = None
        self.become(Sending.BROKEN)

    async def goodbye(self) -> None:
        """Flush, hear the peer's Close, see its end, and close the wire.

        The caller bounds the time and sees to it that trio-websocket reads no
        more. The wire is closed even if this is cancelled.
        """
        try:
            self.outbox.seal()
            self.flush(trio.current_time())
            while self._sending is Sending.DRAINING:
                await self.wait_for_release()
            if self._sending is not Sending.BROKEN:
                if not self._heard_close:
                    await self._discard_until_close()
                await self.wire.send_eof()
                # Both have said all there is to say; the peer's end is waited for so that nothing is reset.
                with trio.move_on_after(_LAST_WAIT):
                    await self._discard_until_end()
        except trio.BrokenResourceError:
            pass  # it has gone first, or is not worth waiting for
        finally:
            await self.wire.aclose()

    async def _discard_until_close(self) -> None:
        """Wait for the peer's Close; in vain where it has broken the frames' rules and no frame can be told."""
        budget = _DISCARDED
        while budget > 0:
            try:
                frame = self.reader.next_frame()
            except FrameError:
                return
            if frame is None:
                data = await self.wire.receive(_READ)
                if not data:
                    return
                budget -= len(data)
                self.reader.feed(data)
            elif frame.opcode == Opcode.CLOSE:
                return

    async def _discard_until_end(self) -> None:
        budget = _DISCARDED
        while budget > 0 and (data := await self.wire.receive(_READ)):
            budget -= len(data)


def _parse_close(payload: bytes) -> tuple[int, str]:
    """Return the code and reason of a Close that passed the guard."""
    if not payload:
        return CloseCode.NO_STATUS, ""
    return int.from_bytes(payload[:2], "big"), payload[2:].decode()
