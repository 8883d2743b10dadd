"""The sending half of a link: out of the outbox, into the wire.

Whatever leaves, trio-websocket's own frames included, goes through one
bounded queue. While the socket takes bytes a flush is one non-blocking write,
and what finds the queue empty does not even stand in it; only when the socket
does not, or a replay is not through, is the drainer started, a task that
lives until that is over.
"""

from __future__ import annotations

import enum
from abc import abstractmethod
from typing import Protocol

import trio
from attrs import define, field, frozen

from tercet_protocol import CloseCode, Opcode, encode_frame

from ..core.outbox import Outbox, take_nothing
from .flusher import Flusher
from .tracing import LinkTracer
from .turns import Turns
from .wire import Wire

_WRITE = 256 * 1024  # bytes offered to the wire at once, whole frames that begin before that
_PING = encode_frame(Opcode.PING, b"")


class Endpoint(Protocol):
    """What a link carries messages to: a session, or an echo."""

    @property
    def outbox(self) -> Outbox:
        """The queue of what is to be sent."""

    def look_at_clock(self) -> float:
        """Return the time, Trio's; what is received until the next look happens at that moment."""

    def receive(self, payload: bytes, *, is_text: bool) -> None:
        """Serve one message."""

    def refuse(self, payload: bytes, retry_after: float) -> None:
        """Answer a message that came faster than it may, without serving it."""

    def advance(self) -> None:
        """Queue the next page of what was too much to be queued at once (`Outbox.is_behind`)."""

    def fault(self, error: Exception) -> None:
        """Hear of a bug that showed while this endpoint was served."""


class Sending(enum.Enum):
    """What becomes of the outbox."""

    NOT_YET = enum.auto()  # the request was not answered
    DIRECT = enum.auto()  # a flush writes it
    DRAINING = enum.auto()  # the drainer does, for the socket is full or a replay not through
    BROKEN = enum.auto()  # nobody does: the wire is of no more use


@frozen
class Ending:
    """Who ended a connection, and how."""

    by_peer: bool
    code: int
    reason: str


@define(eq=False, kw_only=True)
class SendingHalf(trio.abc.SendStream):
    """What trio-websocket and the broker write to.

    Attributes:
        nursery: where the drainer runs, the connection's own.
        turns: when replays for the peer go on.
        write_timeout: seconds that the peer may take for …
        write_bytes: … so many bytes, or for all there is, before it counts as gone.
        ending: how the connection ends; None while it does not.
        outbox: the endpoint's.
    """

    wire: Wire = field(repr=False)
    endpoint: Endpoint = field(repr=False)
    flusher: Flusher = field(repr=False)
    nursery: trio.Nursery = field(repr=False)
    turns: Turns = field(repr=False)
    write_timeout: float
    write_bytes: int = 1
    tracer: LinkTracer | None = field(default=None, repr=False)
    ending: Ending | None = None
    outbox: Outbox = field(init=False, repr=False)
    _sending: Sending = Sending.NOT_YET
    _heard_close: bool = False
    _released: trio.lowlevel.ParkingLot | None = field(default=None, repr=False)  # where somebody waits, or has

    def __attrs_post_init__(self) -> None:
        """Have the outbox flushed whenever something is in it."""
        self.outbox = self.endpoint.outbox
        self.outbox.wake = self.wake
        self.outbox.sent_at = trio.current_time()

    @abstractmethod
    def fault(self, error: Exception) -> None:
        """End this connection, and no other, for a bug that showed while it was served."""

    @abstractmethod
    def break_off(self) -> None:
        """Note that the wire is of no more use."""

    # What trio-websocket writes

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Queue trio-websocket's bytes. They are bounded: the reader, which causes them, stops for the outbox."""
        await trio.lowlevel.checkpoint()
        if self._sending is Sending.BROKEN:
            raise trio.BrokenResourceError("the peer is gone")
        if self._sending is Sending.NOT_YET:
            # What the broker had to say meanwhile (that it drains, say) goes behind the response.
            self.become(Sending.DIRECT)
            self.outbox.put_first(bytes(data))
            self.flusher.add(self)
            return
        self.outbox.notify(bytes(data))
        if self._heard_close:
            self.outbox.seal()  # this was the answer to the peer's Close, and no frame may follow it (RFC 6455, 5.5.1)

    async def wait_send_all_might_not_block(self) -> None:
        """Return: the outbox takes what is sent."""
        await trio.lowlevel.checkpoint()

    # What the broker writes

    def ping(self, now: float) -> None:
        """Send a WebSocket ping; any frame of the peer will do as the answer."""
        self.outbox.notify_now(_PING, now)

    def wake(self) -> None:
        """Have the outbox, in which something is now, flushed soon."""
        self.flusher.add(self)

    def become(self, sending: Sending) -> None:
        """Enter a phase, and let the outbox be written past its queue in the one in which it may."""
        self._sending = sending
        if sending is not Sending.DIRECT:
            self.outbox.write = take_nothing
        else:
            self.outbox.write = (self.wire.direct if self.tracer is None else None) or self._write_now

    def _write_now(self, data: bytes) -> int:
        """Write what the socket takes now, past the empty outbox (`Outbox.write`)."""
        taken = 0
        try:
            taken = self.wire.try_send(data)
            if taken and self.tracer is not None:
                self.tracer.sent(data[:taken])
        except Exception as error:  # noqa: BLE001 - the boundary of a connection: the caller serves everybody
            self._fail_to_send(error)
            return taken
        if not self.wire.is_flushed:
            self._start_draining()
        return taken

    def flush(self, now: float) -> int:
        """Write what the socket takes now, and return how many bytes that was; start the drainer for the rest."""
        if self._sending is not Sending.DIRECT:
            return 0
        before = self.outbox.bytes_sent
        try:
            is_through = self._write(now)
        except Exception as error:  # noqa: BLE001 - the boundary of a connection: the flusher is everybody's
            self._fail_to_send(error)
        else:
            if not is_through:
                self._start_draining()
        return self.outbox.bytes_sent - before

    def _fail_to_send(self, error: Exception) -> None:
        if not isinstance(error, trio.BrokenResourceError | trio.ClosedResourceError):
            self.endpoint.fault(error)
        self.break_off()

    def _start_draining(self) -> None:
        self.become(Sending.DRAINING)
        self.nursery.start_soon(self._drain)

    def _write(self, now: float) -> bool:
        """Have the wire take what it takes now; return whether nothing is left, and nothing more to come."""
        outbox, wire = self.outbox, self.wire
        while outbox.size:
            data = outbox.peek(_WRITE)
            taken = wire.try_send(data)
            if taken:
                self._note_taken(data, taken, now)
            if taken < len(data):
                return False
        return wire.is_flushed and not outbox.is_behind

    def _note_taken(self, data: bytes, taken: int, now: float) -> None:
        self.outbox.sent_at = now
        self.outbox.sent(taken)
        if self.tracer is not None:
            self.tracer.sent(data[:taken])
        if self._released is not None:
            self._released.unpark_all()

    async def wait_for_release(self) -> None:
        """Wait until something was sent, received or ended."""
        if self._released is None:
            self._released = trio.lowlevel.ParkingLot()
        await self._released.park()

    def release(self) -> None:
        """Have whoever waits look again at what was sent, received or ended."""
        if self._released is not None:
            self._released.unpark_all()

    async def _drain(self) -> None:
        """Write until all is written and every replay is through."""
        outbox = self.outbox
        # The slowest that a peer may be: so many bytes in each such time. A byte now and then is no progress.
        enough, deadline = outbox.bytes_sent + self.write_bytes, trio.current_time() + self.write_timeout
        is_through = False
        try:
            while not is_through:
                if outbox.is_behind:
                    began = trio.current_time()
                    await self.turns.take(self.endpoint.advance)
                    deadline += trio.current_time() - began  # for that time the peer can do nothing
                if outbox.bytes_sent >= enough or (not outbox.size and self.wire.is_flushed):
                    enough, deadline = outbox.bytes_sent + self.write_bytes, trio.current_time() + self.write_timeout
                with trio.move_on_at(deadline) as stall:
                    if outbox.size:
                        await self.wire.wait_writable()
                    else:
                        await self.wire.flush()
                if stall.cancelled_caught:
                    self._stall()
                    return
                # Only now is it certain what there is to write: the outbox may have been cleared meanwhile.
                is_through = self._write(trio.current_time())
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self.break_off()
        except Exception as error:  # noqa: BLE001 - the boundary of a connection
            self.fault(error)
        finally:
            if self._sending is Sending.DRAINING:
                self.become(Sending.DIRECT)
            self.release()

    def _stall(self) -> None:
        """Give up on a peer that takes nothing: nothing can be told to it either."""
        if self.ending is None:
            self.ending = Ending(False, CloseCode.SLOW_CONSUMER, "it took nothing for too long")
        self.break_off()
