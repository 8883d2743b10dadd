"""A connection's bounded queue of whole WebSocket frames, and the only way out to its socket.

Two kinds of frame share it, in one order:

- *deliveries*, which are accounted for and bounded by `outbox_messages` and
  `outbox_bytes`: the one that does not fit is refused, and the caller decides
  what becomes of the connection;
- *notices*: replies, and what the WebSocket layer has to say (pongs, the
  handshake, a Close). They are always taken and have room of their own:
  beyond `replies` of them the connection's reader stops until some are sent.

A *run* of deliveries, joined once for all who get them, is one item (fanout.py).
It is taken apart where that matters: when not all of it fits, and when the
socket takes a part of it.

The outbox never writes. Whoever owns the socket asks `peek` for bytes, sends
what the socket takes, and reports that with `sent`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

from attrs import define, field

from .accounting import Account, DropReason
from .fanout import FanOut, Run
from .rules import Grants


class Delivery(Protocol):
    """A frame that the books know: a log record (shared by all its receivers) or a replayed copy."""

    @property
    def frame(self) -> bytes:
        """The whole WebSocket frame."""

    @property
    def account(self) -> Account:
        """The account of its namespace."""


@define(eq=False)
class ReplayedFrame:
    """A delivery that is meant for one subscription only."""

    frame: bytes
    account: Account


@define(eq=False)
class Notice:
    """A frame that is no delivery."""

    frame: bytes


@define(eq=False)
class Outbox:
    """The queue of one connection. All methods are synchronous and never wait.

    Attributes:
        connection: the number of the connection that it belongs to.
        account: the books of this connection.
        fan_out: where deliveries come from; settled before a notice that must come behind them.
        wake: called when the first frame comes into an empty queue.
        overflow: to be called by whoever's offer was refused for want of room.
        is_behind: whether there will be more once this is sent: somebody waits for that to queue a page of replay.
        size: bytes queued, of all kinds.
        notices: how many of them are queued.
        grants: what its connection may be sent; None for everything.
        is_held: whether the connection is not to be read from for another reason: its token is being verified.
    """

    connection: int
    max_messages: int
    max_bytes: int
    max_notices: int
    wake: Callable[[], None] = field(repr=False)
    overflow: Callable[[], None] = field(repr=False)
    account: Account = field(factory=Account)
    fan_out: FanOut = field(factory=FanOut, repr=False)
    is_behind: bool = False
    size: int = 0
    notices: int = 0
    grants: Grants | None = field(default=None, repr=False)
    is_held: bool = False
    _items: deque[Delivery | Run | Notice] = field(factory=deque, repr=False)
    _notice_bytes: int = 0
    _sent_of_first: int = 0  # bytes of the first item that the socket has taken already
    _awake: bool = False
    _is_sealed: bool = False

    @property
    def is_congested(self) -> bool:
        """Whether the connection should not be read from before more of this is sent."""
        return self.notices > self.max_notices or self.size > self.max_bytes or self.is_held

    @property
    def is_sealed(self) -> bool:
        """Whether nothing more is taken, so that a refusal says nothing about room."""
        return self._is_sealed

    def offer(self, delivery: Delivery) -> bool:
        """Queue a delivery, or count it as dropped and return False if there is no room.

        The namespace's account is charged here too, so that one call is one
        entry in both books.
        """
        account, books, size = self.account, delivery.account, len(delivery.frame)
        account.offered += 1
        books.offered += 1
        if (
            account.queued >= self.max_messages
            or self.size - self._notice_bytes + size > self.max_bytes
            or self._is_sealed
        ):
            reason = DropReason.CLOSED if self._is_sealed else DropReason.OVERFLOW
            account.drop(reason)
            books.drop(reason)
            return False
        account.queued += 1
        books.queued += 1
        self._append(delivery, size)
        return True

    def offer_run(self, run: Run) -> bool:
        """Queue a run, or as much of it as fits: then the next one counts as dropped, and this is False."""
        account, count, size = self.account, run.count, run.size
        if (
            account.queued + count > self.max_messages
            or self.size - self._notice_bytes + size > self.max_bytes
            or self._is_sealed
        ):
            return all(self.offer(record) for record in run.records)
        account.offered += count
        account.queued += count
        books = run.account
        books.offered += count
        books.queued += count
        self.size += size
        self._items.append(run)
        if not self._awake:
            self._awake = True
            self.wake()
        return True

    def _append(self, item: Delivery | Run | Notice, size: int) -> None:
        self.size += size
        self._items.append(item)
        if not self._awake:
            self._awake = True
            self.wake()

    def notify(self, frame: bytes) -> None:
        """Queue a reply, a notice or bytes of the WebSocket layer, behind all that was published before."""
        if self in self.fan_out.targets:
            self.fan_out.settle()
        if self._is_sealed:
            return
        self.notices += 1
        self._notice_bytes += len(frame)
        self._append(Notice(frame), len(frame))

    def put_first(self, frame: bytes) -> None:
        """Queue bytes that go ahead of everything, even of the last frame; nothing may have been sent yet."""
        self.notices += 1
        self._notice_bytes += len(frame)
        self._append(Notice(frame), len(frame))
        self._items.rotate(1)

    def peek(self, limit: int) -> bytes:
        """Return the bytes to send next: whole frames up to about `limit` bytes, at least one; b"" if none.

        What the socket takes of them must be reported with `sent` in the same
        step: `clear` keeps only what it knows to have been begun.
        """
        items = self._items
        if len(items) == 1:
            data = items[0].frame
        elif self.size <= limit:
            data = b"".join([item.frame for item in items])
        else:
            parts = []
            total = 0
            for item in items:
                parts.append(item.frame)
                total += len(item.frame)
                if total >= limit:
                    break
            data = b"".join(parts)
        return data[self._sent_of_first :] if self._sent_of_first else data

    def sent(self, count: int) -> None:
        """Note that the socket took the next `count` bytes."""
        items = self._items
        if count == self.size and len(items) == 1 and isinstance(run := items[0], Run):
            # What happens most often, in fewer steps: all of one run, and nothing else.
            account, books, messages = self.account, run.account, run.count
            account.queued -= messages
            account.delivered += messages
            books.queued -= messages
            books.delivered += messages
            items.clear()
            self.size = self._sent_of_first = 0
            self._awake = False
            return
        self.size -= count
        count += self._sent_of_first
        while items and count >= (length := len(items[0].frame)):
            count -= length
            self._deliver(items.popleft(), length)
        if count and isinstance(run := items[0], Run):
            items.popleft()
            items.extendleft(reversed(run.records))
            while count >= (length := len(items[0].frame)):
                count -= length
                self._deliver(items.popleft(), length)
        self._sent_of_first = count
        if not items:
            self._awake = False

    def _deliver(self, item: Delivery | Run | Notice, size: int) -> None:
        """Book what the socket has taken."""
        if isinstance(item, Notice):
            self.notices -= 1
            self._notice_bytes -= size
            return
        count = item.count if isinstance(item, Run) else 1
        account, books = self.account, item.account
        account.queued -= count
        account.delivered += count
        books.queued -= count
        books.delivered += count

    def clear(self) -> None:
        """Drop everything but the rest of a frame of which the socket has taken a part.

        Deliveries become `dropped(closed)`. What is queued next (a Close)
        still starts at a frame boundary.
        """
        items = self._items
        first = items.popleft() if self._sent_of_first else None
        self._forget_all()
        if first is None:
            self._awake = False
            return
        items.append(first)
        self.size = len(first.frame) - self._sent_of_first
        if isinstance(first, Notice):
            self._notice_bytes = len(first.frame)

    def seal(self) -> None:
        """Take nothing more: what was queued last is the last that the peer gets."""
        self._is_sealed = True

    def close(self) -> None:
        """Drop everything, now and from now on: there is no socket any more, and nobody to be told."""
        self.seal()
        self.wake = self.overflow = _nothing
        self._forget_all()
        self._sent_of_first = 0

    def _forget_all(self) -> None:
        for item in self._items:
            if isinstance(item, Notice):
                self.notices -= 1
                continue
            count = item.count if isinstance(item, Run) else 1
            for books in (self.account, item.account):
                books.queued -= count
                books.drop(DropReason.CLOSED, count)
        self._items.clear()
        self.size = self._notice_bytes = 0

    def __len__(self) -> int:
        """Return how many frames are queued."""
        return self.account.queued + self.notices


def _nothing() -> None:
    pass
