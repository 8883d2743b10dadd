"""A connection's bounded queue of whole WebSocket frames, and the only way out to its socket.

Two kinds of frame share it, in one order:

- *deliveries*, which are accounted for and bounded by `outbox_messages` and
  `outbox_bytes`: the one that does not fit is refused, and the caller decides
  what becomes of the connection;
- *notices*: replies, and what the WebSocket layer has to say (pongs, the
  handshake, a Close). They are always taken and have room of their own:
  beyond `replies` of them the connection's reader stops until some are sent.

The outbox never writes. Whoever owns the socket asks `peek` for bytes, sends
what the socket takes, and reports that with `sent`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

from attrs import define, field, frozen

from .accounting import Account, DropReason


class Delivery(Protocol):
    """A frame that the books know: a log record (shared by all its receivers) or a replayed copy."""

    @property
    def frame(self) -> bytes:
        """The whole WebSocket frame."""

    @property
    def account(self) -> Account:
        """The account of its namespace."""


@frozen(eq=False)
class ReplayedFrame:
    """A delivery that is meant for one subscription only."""

    frame: bytes
    account: Account


@frozen(eq=False)
class Notice:
    """A frame that is no delivery."""

    frame: bytes


@define(eq=False)
class Outbox:
    """The queue of one connection. All methods are synchronous and never wait.

    Attributes:
        connection: the number of the connection that it belongs to.
        account: the books of this connection.
        wake: called when the first frame comes into an empty queue.
        overflow: to be called by whoever's offer was refused for want of room.
        size: bytes queued, of all kinds.
        notices: how many of them are queued.
    """

    connection: int
    max_messages: int
    max_bytes: int
    max_notices: int
    wake: Callable[[], None] = field(repr=False)
    overflow: Callable[[], None] = field(repr=False)
    account: Account = field(factory=Account)
    size: int = 0
    notices: int = 0
    _items: deque[Delivery | Notice] = field(factory=deque, repr=False)
    _offered_bytes: int = 0  # of the deliveries among them, what was sent of the first included
    _sent_of_first: int = 0  # bytes of the first item that the socket has taken already
    _awake: bool = False
    _is_sealed: bool = False

    @property
    def is_congested(self) -> bool:
        """Whether the connection should not be read from before more of this is sent."""
        return self.notices > self.max_notices or self.size > self.max_bytes

    @property
    def is_sealed(self) -> bool:
        """Whether nothing more is taken, so that a refusal says nothing about room."""
        return self._is_sealed

    def offer(self, delivery: Delivery) -> bool:
        """Queue a delivery, or count it as dropped and return False if there is no room.

        The namespace's account is charged here too, so that one call is one
        entry in both books.
        """
        account = self.account
        books = delivery.account
        account.offered += 1
        books.offered += 1
        size = len(delivery.frame)
        if account.queued >= self.max_messages or self._offered_bytes + size > self.max_bytes or self._is_sealed:
            reason = DropReason.CLOSED if self._is_sealed else DropReason.OVERFLOW
            account.drop(reason)
            books.drop(reason)
            return False
        account.queued += 1
        books.queued += 1
        self.size += size
        self._offered_bytes += size
        self._items.append(delivery)
        if not self._awake:
            self._awake = True
            self.wake()
        return True

    def notify(self, frame: bytes) -> None:
        """Queue a reply, a notice or bytes of the WebSocket layer."""
        if self._is_sealed:
            return
        self.notices += 1
        self.size += len(frame)
        self._items.append(Notice(frame))
        if not self._awake:
            self._awake = True
            self.wake()

    def peek(self, limit: int) -> bytes:
        """Return the bytes to send next: whole frames up to about `limit` bytes, at least one; b"" if none.

        What the socket takes of them must be reported with `sent` in the same
        step: `clear` keeps only what it knows to have been begun.
        """
        items = self._items
        if self.size <= limit:
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
        self.size -= count
        items = self._items
        account = self.account
        count += self._sent_of_first
        while items and count >= (length := len(items[0].frame)):
            count -= length
            item = items.popleft()
            if isinstance(item, Notice):
                self.notices -= 1
            else:
                self._offered_bytes -= length
                account.queued -= 1
                account.delivered += 1
                item.account.queued -= 1
                item.account.delivered += 1
        self._sent_of_first = count
        if not items:
            self._awake = False

    def clear(self) -> None:
        """Drop everything but the rest of a frame of which the socket has taken a part.

        Deliveries become `dropped(closed)`. What is queued next (a Close)
        still starts at a frame boundary.
        """
        items = self._items
        first = items.popleft() if items and self._sent_of_first else None
        while items:
            self._forget(items.popleft())
        self.size = self._offered_bytes = 0
        if first is not None:
            items.append(first)
            self.size = len(first.frame) - self._sent_of_first
            if not isinstance(first, Notice):
                self._offered_bytes = len(first.frame)
        else:
            self._awake = False

    def seal(self) -> None:
        """Take nothing more: what was queued last is the last that the peer gets."""
        self._is_sealed = True

    def close(self) -> None:
        """Drop everything, now and from now on: there is no socket any more."""
        self.seal()
        while self._items:
            self._forget(self._items.popleft())
        self._sent_of_first = 0
        self.size = self._offered_bytes = 0

    def _forget(self, item: Delivery | Notice) -> None:
        if isinstance(item, Notice):
            self.notices -= 1
            return
        for books in (self.account, item.account):
            books.queued -= 1
            books.drop(DropReason.CLOSED)

    def __len__(self) -> int:
        return len(self._items)
