"""Frames that wait for a connection's socket, in one order, with the books of what becomes of them.

What stands in it (queued.py) is taken from the front as the socket takes it
(`peek`, `sent`), from the middle where something has to go (relief.py), and
keeps its place where a newer message takes another's (`newest`). What may come
in, and when, is the outbox's (outbox.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import define, field

from .accounting import Account, DropReason
from .log import Record
from .queued import Delivery, Item, LossNotice, Newest, Notice, Run
from .relief import Relief

NOTHING: dict[Any, Any] = {}  # shared by all that are empty, as they almost always are; never written to


@define(eq=False)
class FrameQueue:
    """The queue of one connection.

    Attributes:
        wake: called when the first frame comes in while there is none.
        account: the books of this connection.
        items: what is queued, oldest first.
        size: its bytes, without those that the socket has taken of the first item.
        notices: how many of it are notices, and …
        notice_bytes: … their bytes.
        sent_of_first: bytes of the first item that the socket has taken already.
        bytes_sent: bytes that it has taken so far, of all kinds.
        newest: {topic: its place}, behind the last notice; `NOTHING` while there are none.
        relief: what is known of what was dropped, and can be; None while nothing is.
        is_awake: whether something is queued, and whoever sends it has been woken.
    """

    wake: Callable[[], None] = field(kw_only=True, repr=False)
    account: Account = field(factory=Account, init=False)
    items: list[Item] = field(factory=list, init=False, repr=False)  # (an empty deque takes ten times the memory)
    size: int = field(default=0, init=False)
    notices: int = field(default=0, init=False)
    notice_bytes: int = field(default=0, init=False)
    sent_of_first: int = field(default=0, init=False)
    bytes_sent: int = field(default=0, init=False)
    newest: dict[str, Newest] = field(default=NOTHING, init=False, repr=False)
    relief: Relief | None = field(default=None, init=False, repr=False)
    is_awake: bool = field(default=False, init=False)

    def __len__(self) -> int:
        """Return how many frames are queued."""
        return self.account.queued + self.notices

    # At its end

    def append(self, item: Item, size: int) -> None:
        """Put something at the end; what books it is in is the caller's."""
        self.size += size
        self.items.append(item)
        if not self.is_awake:
            self.is_awake = True
            self.wake()

    def append_notice(self, notice: Notice) -> None:
        """Put a notice at the end."""
        self.notices += 1
        self.notice_bytes += len(notice.frame)
        self.append(notice, len(notice.frame))

    # At its front

    def is_begun(self, item: Item) -> bool:
        """Tell whether the socket has taken a part of an item, so that it has to stay."""
        return self.sent_of_first > 0 and self.items[0] is item

    def peek(self, limit: int) -> bytes:
        """Return the bytes to send next: whole frames up to about `limit` bytes, at least one; b"" if none.

        What the socket takes of them must be reported with `sent` in the same
        step: `Outbox.clear` keeps only what it knows to have been begun.
        """
        items = self.items
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
        return data[self.sent_of_first :] if self.sent_of_first else data

    def sent(self, count: int) -> None:
        """Note that the socket took the next `count` bytes."""
        items = self.items
        self.bytes_sent += count
        if count == self.size and len(items) == 1 and isinstance(run := items[0], Run):
            # What happens most often, in fewer steps: all of one run, and nothing else.
            account, books, messages = self.account, run.account, run.count
            account.queued -= messages
            account.delivered += messages
            books.queued -= messages
            books.delivered += messages
            items.clear()
            self.size = self.sent_of_first = 0
            self.relief = None
            self.is_awake = False
            return
        self.size -= count
        count += self.sent_of_first
        count = self._deliver_whole(count)
        if count and isinstance(run := items[0], Run):
            self.replace_items(0, 1, run.records)
            count = self._deliver_whole(count)
        self.sent_of_first = count
        if not items:
            self.relief = None
            self.is_awake = False

    def _deliver_whole(self, count: int) -> int:
        """Book the items that so many bytes are; return how many are left over of the next one."""
        whole = 0
        for item in self.items:
            length = len(item.frame)
            if count < length:
                break
            count -= length
            whole += 1
            self._deliver(item, length)
        self.replace_items(0, whole, [])
        return count

    def _deliver(self, item: Item, size: int) -> None:
        """Book what the socket has taken."""
        if isinstance(item, Notice):
            self.notices -= 1
            self.notice_bytes -= size
            if self.relief is not None and isinstance(item, LossNotice):
                self.relief.forget(item)
            return
        if self.newest and isinstance(item, Newest):
            self._leave_place(item)
        count = item.count if isinstance(item, Run) else 1
        account, books = self.account, item.account
        account.queued -= count
        account.delivered += count
        books.queued -= count
        books.delivered += count

    # In its middle

    def replace_items(self, begin: int, end: int, items: list[Item] | list[Record]) -> None:
        """Put other items into the place of some; what books they are in is the caller's."""
        self.items[begin:end] = items
        if self.relief is not None:
            self.relief.move(begin, end, len(items))

    def forget_notice(self, notice: Notice) -> None:
        """Count a notice out that is taken from the queue."""
        self.notices -= 1
        self.notice_bytes -= len(notice.frame)
        self.size -= len(notice.frame)

    def forget_delivery(self, item: Delivery) -> None:
        """Count a delivery, which is taken from the queue, as dropped for want of room."""
        self.size -= len(item.frame)
        if isinstance(item, Newest):
            self._leave_place(item)
        for books in (self.account, item.account):
            books.queued -= 1
            books.drop(DropReason.OVERFLOW)

    def fix_places(self) -> None:
        """Let nothing that is queued be replaced by something newer any more."""
        self.newest = NOTHING

    def _leave_place(self, item: Newest) -> None:
        if self.newest.get(item.topic) is item:
            del self.newest[item.topic]

    def grow(self, gap: LossNotice, after: int, through: int, dropped: int) -> None:
        """Have a gap that is queued take in what was dropped beside it."""
        before = len(gap.frame)
        gap.cover(after, through, dropped)
        self.size += len(gap.frame) - before
        self.notice_bytes += len(gap.frame) - before

    # All of it

    def cut(self) -> None:
        """Drop everything but the rest of an item that was begun. Deliveries become `dropped(closed)`."""
        items = self.items
        first = items.pop(0) if self.sent_of_first else None
        self.drop_all()
        if first is None:
            self.is_awake = False
            return
        items.append(first)
        self.size = len(first.frame) - self.sent_of_first
        if isinstance(first, Notice):
            self.notice_bytes = len(first.frame)

    def drop_all(self) -> None:
        """Drop everything. Deliveries become `dropped(closed)`."""
        for item in self.items:
            if isinstance(item, Notice):
                self.notices -= 1
                continue
            count = item.count if isinstance(item, Run) else 1
            for books in (self.account, item.account):
                books.queued -= count
                books.drop(DropReason.CLOSED, count)
        self.items.clear()
        self.newest, self.relief = NOTHING, None
        self.size = self.notice_bytes = 0
