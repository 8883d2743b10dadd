"""What has arrived for a subscription and was not yet handed out."""

from __future__ import annotations

from collections import deque

from attrs import define, field, frozen

from tercet_protocol import Position

from ._message import Gap, Live, Message

# What an entry weighs beside its data: the objects, roughly.
_OVERHEAD = 256
_SPARE = 16  # entries that are no messages, in a buffer of one or two


@frozen
class Entry:
    """One thing in the buffer, and how far the application is once it has been handed it.

    `event` is None for a mere notice of a position.
    """

    event: Message | Gap | Live | None
    position: Position | None


def weigh(message: Message) -> int:
    """Return what a message takes of a buffer, in bytes."""
    return len(message.raw) + len(message.topic) + _OVERHEAD


@define(eq=False)
class Buffer:
    """A queue bounded in messages and in bytes.

    Gaps and marks are let in past the bound, because a gap must never be
    dropped; what the caller does at a full buffer, and the merging here, keep
    them few.
    """

    limit: int
    byte_limit: int
    messages: int = field(default=0, init=False)
    _bytes: int = field(default=0, init=False)
    _entries: deque[Entry] = field(factory=deque, init=False)

    def __bool__(self) -> bool:
        return bool(self._entries)

    def fits(self, message: Message) -> bool:
        """Tell whether there is room; where no message waits, one of any size fits."""
        if not self.messages:
            return True
        return not self.is_full and self._bytes + weigh(message) <= self.byte_limit

    @property
    def is_full(self) -> bool:
        """Whether not even the smallest message fits, or gaps and notices alone are too many."""
        return (
            self.messages >= self.limit
            or self._bytes >= self.byte_limit
            or len(self._entries) > 2 * self.limit + _SPARE
        )

    @property
    def is_half_empty(self) -> bool:
        """Whether at most half of either bound is in use."""
        return (
            self.messages <= self.limit // 2
            and self._bytes <= self.byte_limit // 2
            and len(self._entries) <= self.limit + _SPARE
        )

    def put(self, message: Message, position: Position | None) -> None:
        """Add a message for which there is room."""
        self.messages += 1
        self._bytes += weigh(message)
        self._entries.append(Entry(message, position))

    def put_gap(self, gap: Gap, position: Position | None) -> None:
        """Add a gap, merged with one just before it where that loses nothing that was known."""
        last = self._entries[-1] if self._entries else None
        if last is not None and isinstance(last.event, Gap):
            merged = _merge(last.event, gap)
            if merged is not None:
                self._entries[-1] = Entry(merged, position or last.position)
                return
        self._entries.append(Entry(gap, position))

    def put_live(self, live: Live) -> None:
        """Add the mark where live begins; of two in a row the later one counts."""
        if self._entries and isinstance(self._entries[-1].event, Live):
            self._entries.pop()
        self._entries.append(Entry(live, live.position))

    def put_notice(self, position: Position) -> None:
        """Let the application be at `position` once everything before this was handed out."""
        if self._entries and self._entries[-1].event is None:
            self._entries.pop()
        self._entries.append(Entry(None, position))

    def pop(self) -> Entry:
        """Remove and return the oldest entry."""
        entry = self._entries.popleft()
        if isinstance(entry.event, Message):
            self.messages -= 1
            self._bytes -= weigh(entry.event)
        return entry

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
        self.messages = self._bytes = 0


def _merge(first: Gap, second: Gap) -> Gap | None:
    """Return one gap that says what two in a row say, or None if none does."""
    if first.after is not None or second.after is not None or first.reason != second.reason:
        return None
    known = first.dropped is not None and second.dropped is not None
    dropped = (first.dropped or 0) + (second.dropped or 0) if known else None
    return Gap(first.namespace, None, None, None, dropped, first.reason)
