"""A connection's bounded queue of whole WebSocket frames, and the only way out to its socket.

Two kinds of frame share it, in one order:

- *deliveries*, which are accounted for and bounded by `outbox_messages` and
  `outbox_bytes`: for the one that does not fit `overflow` is called, which
  does what the policy of its namespace says (docs/design/overload.md);
- *notices*: replies, and what the WebSocket layer has to say (pongs, the
  handshake, a Close). They are always taken and have room of their own:
  beyond `replies` of them the connection's reader stops until some are sent.

A *run* of deliveries, joined once for all who get them, is one item (fanout.py).
It is taken apart where that matters: when not all of it fits, when a part of
it has to go, and when the socket takes a part of it.

In a namespace that conflates, a delivery keeps its place and changes its
content: while one of a topic is queued, and no notice behind it, a newer one
takes its place (`offer_newest`).

Whoever owns the socket asks `peek` for bytes, sends what the socket takes, and
reports that with `sent`. A run that finds nothing queued is written at once
(`pass_run`), as far as the socket takes it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from attrs import define, field

from .accounting import Account, DropReason
from .fanout import FanOut
from .frame_queue import NOTHING, FrameQueue
from .log import Record
from .queued import Delivery, LossNotice, Newest, Notice, ReplayedFrame, Run
from .relief import SHARE, Relief, find_most
from .rules import Grants

if TYPE_CHECKING:
    from .catching_up import Cursor


def take_nothing(_: bytes) -> int:
    """Be the `write` of an outbox that cannot be written for now."""
    return 0


@define(eq=False)
class Outbox(FrameQueue):
    """The queue of one connection, and what may come into it. All methods are synchronous and never wait.

    Attributes:
        connection: the number of the connection that it belongs to.
        fan_out: where deliveries come from; settled before a notice that must come behind them.
        write: what takes bytes while the queue is empty: sends what can be sent without waiting, and
            returns how many bytes that was. Raises OSError where `wake` had better look what is the matter.
        overflow: called with a delivery for which there is no room; returns whether the connection goes on.
        is_behind: whether there will be more once this is sent: somebody waits for that to queue a page of replay.
        sent_at: when the socket last took anything, by the clock of whoever writes.
        grants: what its connection may be sent; None for everything.
        is_held: whether a token is being verified, or a history read, and nothing is served before that is done: there
            is one of the two at most.
        cursors: {books of a namespace: how far it is there}, where it is served from the log instead of live.
        slow_since: since when more than half of it has been full; None while that is not so. The sweep's.
    """

    connection: int
    max_messages: int
    max_bytes: int
    max_notices: int
    overflow: Callable[[Delivery], bool] = field(repr=False)
    fan_out: FanOut = field(factory=FanOut, repr=False)
    is_behind: bool = False
    write: Callable[[bytes], int] = field(default=take_nothing, repr=False)
    sent_at: float = 0.0
    grants: Grants | None = field(default=None, repr=False)
    is_held: bool = False
    cursors: Mapping[Account, Cursor] = field(default=NOTHING, repr=False)
    slow_since: float | None = None
    _is_sealed: bool = False
    _is_cut_off: bool = False  # takes notices, and no deliveries any more
    _is_odd: bool = False  # an offer has to look at more than the room: sealed, cut off, behind, or a gap at the end

    @property
    def is_congested(self) -> bool:
        """Whether the connection should not be read from for now."""
        return self.is_unread or self.is_held

    @property
    def is_unread(self) -> bool:
        """Whether the peer should take more of what it was sent before it is told what it has not asked for."""
        return self.notices > self.max_notices or self.size > self.max_bytes

    @property
    def held(self) -> int:
        """Bytes of the frames that are queued, with what the socket has taken of the first one already."""
        return self.size + self.sent_of_first

    @property
    def is_sealed(self) -> bool:
        """Whether nothing more is taken, so that a refusal says nothing about room."""
        return self._is_sealed

    @property
    def is_half_full(self) -> bool:
        """Whether its deliveries take more than half of the room."""
        return self.account.queued * 2 > self.max_messages or (self.size - self.notice_bytes) * 2 > self.max_bytes

    def offer(self, delivery: Delivery) -> bool:
        """Queue a delivery; return False if the connection is over for want of room.

        Not if it is served from the log in that namespace: it will find it there.
        """
        account, books, size = self.account, delivery.account, len(delivery.frame)
        if account.queued >= self.max_messages or self.size - self.notice_bytes + size > self.max_bytes or self._is_odd:
            return self._offer_carefully(delivery, size)
        account.offered += 1
        books.offered += 1
        account.queued += 1
        books.queued += 1
        self.append(delivery, size)
        return True

    def _offer_carefully(self, delivery: Delivery, size: int) -> bool:
        if delivery.account in self.cursors and not isinstance(delivery, ReplayedFrame):
            return True
        if not self.has_room(size):
            return self._call_overflow(delivery)
        self.take(delivery)
        return True

    def _call_overflow(self, delivery: Delivery) -> bool:
        if self._is_sealed:
            self.refuse(delivery)  # there may be nobody any more who would do it
        elif self._is_cut_off:
            self.refuse(delivery)  # what was dropped before it must not be followed by anything
            return False
        return self.overflow(delivery)

    def has_room(self, size: int, count: int = 1) -> bool:
        """Tell whether so many more deliveries, of so many bytes together, would be taken."""
        return (
            self.account.queued + count <= self.max_messages
            and self.size - self.notice_bytes + size <= self.max_bytes
            and not self._is_sealed
            and not self._is_cut_off
        )

    def take(self, delivery: Delivery) -> None:
        """Queue a delivery for which there is room.

        The namespace's account is charged here too, so that one call is one
        entry in both books.
        """
        for books in (self.account, delivery.account):
            books.offered += 1
            books.queued += 1
        if self._is_odd:
            if self.relief is not None:
                self.relief.last_gaps.pop(delivery.account, None)
            self._note_odd()
        self.append(delivery, len(delivery.frame))

    def refuse(self, delivery: Delivery) -> None:
        """Count a delivery as offered and dropped."""
        reason = DropReason.CLOSED if self._is_sealed else DropReason.OVERFLOW
        for books in (self.account, delivery.account):
            books.offered += 1
            books.drop(reason)

    def offer_run(self, run: Run) -> bool:
        """Queue a run, or one by one as much of it as fits; return False if the connection is over."""
        account, count, size = self.account, run.count, run.size
        if (
            account.queued + count > self.max_messages
            or self.size - self.notice_bytes + size > self.max_bytes
            or self._is_odd
        ):
            return all(self.offer(record) for record in run.records)
        account.offered += count
        account.queued += count
        books = run.account
        books.offered += count
        books.queued += count
        self.size += size
        self.items.append(run)
        if not self.is_awake:
            self.is_awake = True
            self.wake()
        return True

    def pass_run(self, run: Run, now: float) -> bool:
        """Send a run past the empty queue; return whether the socket took all of it.

        Then it is in the connection's books, and the namespace's are for the
        caller to keep. What it did not take is queued, and in both.
        """
        if self.is_awake or self._is_odd:
            self.offer_run(run)
            return False
        size = run.size
        try:
            taken = self.write(run.frame)
        except OSError:
            taken = 0
        if taken < size:
            self._take_rest(run, taken, now)
            return False
        self.sent_at = now
        self.bytes_sent += size
        account, count = self.account, run.count
        account.offered += count
        account.delivered += count
        return True

    def _take_rest(self, run: Run, taken: int, now: float) -> None:
        """Queue what the socket has not taken of a run."""
        if not taken:
            self.offer_run(run)
            return
        self.sent_at = now
        self.bytes_sent += taken
        for record in run.records:
            size = len(record.frame)
            if taken >= size:
                for books in (self.account, run.account):
                    books.offered += 1
                    books.delivered += 1
                taken -= size
            elif taken:
                self.take(record)
                self.size -= taken
                self.sent_of_first, taken = taken, 0
            elif not self.offer(record):
                return

    def offer_newest(self, record: Record) -> bool:
        """Queue a message in place of the queued one of its topic, if no notice has come between them."""
        name, frame = record.topic.name, record.frame
        place = self.newest.get(name)
        if place is None or self._is_sealed or self.is_begun(place):
            place = Newest(name, frame, record.account, record.seq, record.seq)
            if not self.has_room(len(frame)):
                return self._call_overflow(place)
            self._take_newest(place)
            return True
        for books in (self.account, record.account):
            books.offered += 1
            books.conflated += 1
        self.size += len(frame) - len(place.frame)
        place.frame, place.seq = frame, record.seq
        return self.size - self.notice_bytes <= self.max_bytes or self.overflow(place)

    def _take_newest(self, place: Newest) -> None:
        self.take(place)
        if not self.newest:
            self.newest = {}
        self.newest[place.topic] = place

    def relieve(self, namespace: str, epoch: str, books: Account, arriving: Record | Newest | None) -> None:
        """Drop the oldest live deliveries of a namespace until there is room for `arriving`, and queue that.

        A `gap` stands where the first of them stood. With none to drop, the
        arriving one is. Without one, drop until the queue is half full.
        Replays stay: what they miss would be another gap.
        """
        is_queued = arriving is None or (isinstance(arriving, Newest) and self.newest.get(arriving.topic) is arriving)
        size, count = (0, 0) if is_queued or arriving is None else (len(arriving.frame), 1)
        share = 2 if arriving is None else SHARE
        relief = self.relief = self.relief or Relief()
        if books not in relief.last_gaps:
            relief.drop_oldest(
                self,
                LossNotice(b"", books, namespace, epoch, 0, 0),
                self.max_messages - self.max_messages // share - count,
                self.max_bytes - self.max_bytes // share - size,
            )
        if arriving is None or is_queued:
            return
        if not self.has_room(size):
            self.refuse(arriving)
            relief.miss(self, LossNotice(b"", books, namespace, epoch, arriving.seq - 1, arriving.seq), arriving.seq)
            self._note_odd()
        elif isinstance(arriving, Newest):
            self._take_newest(arriving)
        else:
            self.take(arriving)

    def fall_behind(self, books: Account, cursor: Cursor) -> None:
        """Take nothing live of a namespace from now on: it is served from the log."""
        self.cursors = {**self.cursors, books: cursor}
        self.is_behind = True
        self._note_odd()

    def catch_up(self, books: Account) -> None:
        """Undo `fall_behind`; `is_behind` is for the caller to set."""
        self.cursors = {other: cursor for other, cursor in self.cursors.items() if other is not books}
        self._note_odd()

    def _note_odd(self) -> None:
        has_last_gaps = self.relief is not None and bool(self.relief.last_gaps)
        self._is_odd = self._is_sealed or self._is_cut_off or bool(self.cursors) or has_last_gaps

    def of_most(self) -> Record | Newest | None:
        """Return a live delivery of the namespace that has most of them queued and is not served from the log."""
        return find_most(self, self.cursors)

    def notify(self, frame: bytes) -> None:
        """Queue a reply, a notice or bytes of the WebSocket layer, behind all that was published before."""
        if self.fan_out.goes_to(self):
            self.fan_out.settle()
        if self._is_sealed:
            return
        self.fix_places()
        if self._is_odd:
            if self.relief is not None:
                self.relief.last_gaps.clear()
            self._note_odd()
        self.append_notice(Notice(frame))

    def notify_now(self, frame: bytes, now: float) -> None:
        """Send a notice at once if nothing stands before it; queue what the socket does not take."""
        if self.is_awake or self._is_odd or self.fan_out.goes_to(self):
            self.notify(frame)
            return
        try:
            taken = self.write(frame)
        except OSError:
            taken = 0
        if taken < len(frame):
            self.notify(frame)
            self.size -= taken
            self.sent_of_first = taken
        if taken:
            self.sent_at = now
            self.bytes_sent += taken

    def put_first(self, frame: bytes) -> None:
        """Queue bytes that go ahead of everything, even of the last frame; nothing may have been sent yet."""
        self.append_notice(Notice(frame))
        self.replace_items(0, 0, [self.items.pop()])

    def clear(self) -> None:
        """Drop everything but the rest of a frame of which the socket has taken a part, and take no more deliveries.

        Deliveries become `dropped(closed)`. What is queued next (a Close)
        still starts at a frame boundary.
        """
        self._is_cut_off = True
        self.cut()
        self._note_odd()

    def seal(self) -> None:
        """Take nothing more: what was queued last is the last that the peer gets."""
        self._is_sealed = True
        self._note_odd()

    def close(self) -> None:
        """Drop everything, now and from now on: there is no socket any more, and nobody to be told."""
        self.wake, self.write, self.overflow = _nothing, take_nothing, _refuse
        self.drop_all()
        self.sent_of_first = 0
        self.seal()


def _nothing() -> None:
    pass


def _refuse(_: Delivery) -> bool:
    return False
