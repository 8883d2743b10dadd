"""One subscription as the client keeps it: between the broker's events and the application."""

from __future__ import annotations

import enum
from collections.abc import Callable

import trio
from attrs import define, field

from tercet_protocol import Filter, GapReason, Position, PositionEvent, Subscribe, Subscribed
from tercet_protocol import Gap as GapEvent

from ._buffer import Buffer
from ._errors import TercetError
from ._message import Gap, Live, Message
from ._track import Track

# A reader that finds something every time still lets other tasks run this often.
_RUN_LENGTH = 16


class Stage(enum.Enum):
    """Where a subscription stands with the broker.

    WAITING → REQUESTED → REPLAYING → LIVE      and on disconnection back to WAITING
                              ↓         ↓
                            PAUSED ←────┘       stepped back; → WAITING once there is room
    any → ENDED
    """

    WAITING = enum.auto()
    REQUESTED = enum.auto()
    REPLAYING = enum.auto()
    LIVE = enum.auto()
    PAUSED = enum.auto()
    ENDED = enum.auto()


@define(eq=False)
class Feed:
    """The state of one subscription. Its owner, the registry, talks to the broker for it."""

    filter: Filter
    _since: Position | None
    _last: int | None
    _retained: bool | None
    buffer: Buffer
    _on_room: Callable[[Feed], None]
    stage: Stage = field(default=Stage.WAITING, init=False)
    id: int = field(default=0, init=False)  # of the current request; 0: none
    position: Position | None = field(default=None, init=False)  # handed to the application
    gaps: int = field(default=0, init=False)
    entered: trio.Event = field(factory=trio.Event, init=False)
    _was_live: bool = field(default=False, init=False)
    _track: Track = field(init=False)
    _readers: trio.lowlevel.ParkingLot = field(factory=trio.lowlevel.ParkingLot, init=False)
    _error: Callable[[], TercetError] | None = field(default=None, init=False)
    _run: int = field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        self.position = self._since
        self._track = Track(self.filter.namespace, self._since)

    # The broker's side, all sync

    @property
    def is_pressed(self) -> bool:
        """Whether more than half of its buffer is in use, and more may come."""
        return self.stage in (Stage.REPLAYING, Stage.LIVE) and not self.buffer.is_half_empty

    def request(self, id_: int) -> Subscribe:
        """Return the request that begins or resumes it under `id_`."""
        self.id = id_
        self.stage = Stage.REQUESTED
        text, reached = self.filter.text, self._track.reached
        if reached is not None:
            return Subscribe(id=id_, filter=text, since=reached, retained=self._retained)
        return Subscribe(id=id_, filter=text, last=self._last, retained=self._retained)

    def subscribed(self, event: Subscribed) -> None:
        """Take in that the broker accepted the request."""
        self._track.subscribed(event)
        self.stage = Stage.REPLAYING
        if self.filter.namespace is None and self._was_live:
            self._tell(Gap(None, None, None, None, None, GapReason.RECONNECTED), None)
        if event.live:
            self.went_live(event.seq or 0)
        self.entered.set()

    def went_live(self, seq: int) -> None:
        """Take in that the replay ended at `seq`."""
        self._bridge(seq)
        self.stage = Stage.LIVE
        self._was_live = True
        self.buffer.put_live(Live(self._track.went_live(seq)))
        self._readers.unpark()

    def replayed(self, message: Message) -> bool:
        """Take in a message of the replay; return False if there is no room for it."""
        if self._track.is_repeat(message.seq):
            return True
        if not self.buffer.fits(message):
            return False
        if not message.retained:
            self._bridge(message.seq - 1)
        position = self._track.replayed(message.seq, retained=message.retained)
        self.buffer.put(message, position)
        self._readers.unpark()
        return True

    def delivered(self, message: Message) -> bool:
        """Take in a live message; return False if there is no room for it."""
        if self._track.is_repeat(message.seq):
            return True
        if not self.buffer.fits(message):
            if self.filter.namespace is not None:
                return False
            # It cannot resume, so it cannot step back.
            self._tell(Gap(None, None, None, None, 1, GapReason.OVERFLOW), None)
            return True
        self.buffer.put(message, self._track.delivered(message.seq))
        self._readers.unpark()
        return True

    def lost(self, event: GapEvent) -> bool:
        """Take in a gap; return False if so many came that it must step back."""
        if event.sub is None and self.stage is Stage.REPLAYING:
            # It speaks of live messages. Ours are still being replayed, and
            # the place in the replay must not jump.
            return True
        gap, position = self._track.lost(event)
        if self.filter.namespace is None and self.buffer.is_full:
            gap = Gap(None, None, None, None, event.dropped, GapReason.OVERFLOW)
        self._tell(gap, position)
        return self.filter.namespace is None or not self.buffer.is_full

    def noticed(self, event: PositionEvent) -> None:
        """Take in a notice of a position."""
        position = self._track.noticed(event)
        if position is None:
            return
        if self.buffer:
            self.buffer.put_notice(position)
        else:
            self.position = position

    @property
    def epoch(self) -> str | None:
        """The epoch of what arrives now; None on a filter that spans namespaces."""
        return None if self.filter.namespace is None else self._track.epoch

    def detach(self) -> None:
        """Take in that the connection has ended."""
        self.id = 0
        if self.stage not in (Stage.PAUSED, Stage.ENDED):
            self.stage = Stage.WAITING

    def pause(self) -> None:
        """Take nothing more until the application has drained half of the buffer."""
        self.id = 0
        self.stage = Stage.PAUSED

    def end(self, error: Callable[[], TercetError]) -> None:
        """Let readers have what is buffered and then `error()`; the first call counts."""
        if self._error is None:
            self._error = error
        self.id = 0
        self.stage = Stage.ENDED
        self.entered.set()
        self._readers.unpark_all()

    def close(self, error: Callable[[], TercetError]) -> None:
        """Let readers have `error()` at once."""
        self.buffer.clear()
        self._error = error
        self.end(error)

    def _bridge(self, seq: int) -> None:
        gap = self._track.bridge(seq)
        if gap is not None:
            self._tell(gap, None)  # some of what it covers may still come

    def _tell(self, gap: Gap, position: Position | None) -> None:
        self.gaps += 1
        self.buffer.put_gap(gap, position)
        self._readers.unpark()

    # The application's side

    def check_entered(self) -> None:
        """Raise why it was not subscribed, if it was not."""
        if self._error is not None:
            raise self._error()

    async def next(self) -> Message | Gap | Live:
        """Return the next thing for the application, waiting for it.

        Cancelled while it waits, it has taken nothing out.
        """
        self._run = (self._run + 1) % _RUN_LENGTH
        if self._run:
            await trio.lowlevel.checkpoint_if_cancelled()
        else:
            await trio.lowlevel.checkpoint()
        while True:
            event = self._take()
            if event is not None:
                return event
            if self._error is not None:
                raise self._error()
            await self._readers.park()

    def _take(self) -> Message | Gap | Live | None:
        while self.buffer:
            was_pressed = not self.buffer.is_half_empty
            entry = self.buffer.pop()
            if entry.position is not None:
                self.position = entry.position
            if self.buffer.is_half_empty and (was_pressed or self.stage is Stage.PAUSED):
                self._on_room(self)
            if entry.event is not None:
                return entry.event
        return None
