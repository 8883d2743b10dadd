"""Messages that wait for a connection to be told something first.

After a change of the rules a connection may have, for the same topic, one
subscription that goes on and one that has ended. It has to hear of the end
before it gets a message that could be taken for the other's. To tell all of
them in the step of the publish takes long; so they are told in their turn, and
what is published to them meanwhile waits here.

It is bounded (`is_full`), and lasts no longer than the change is being carried out.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from attrs import define, field, frozen

if TYPE_CHECKING:
    from .log import Record
    from .outbox import Outbox

_MESSAGES = 1024
_BYTES = 1024 * 1024
_DELIVERIES = 200_000  # of these messages to those who wait: if it is full, all of it is handed over in one step


@frozen
class _Message:
    record: Record
    waiting: Collection[Outbox]
    is_newest: bool  # it takes the place of one of its topic that is queued


@define(eq=False)
class Withheld:
    """What waits, in the order in which it was published, and for whom."""

    _messages: list[_Message] = field(factory=list, repr=False)
    _size: int = 0
    _deliveries: int = 0
    _begins: dict[Outbox, int] = field(factory=dict, repr=False)  # {who waits: which message is the first for it}

    def __contains__(self, outbox: object) -> bool:
        """Tell whether something waits for a connection: then everything for it has to wait behind that."""
        return outbox in self._begins

    @property
    def waiting(self) -> tuple[Outbox, ...]:
        """Those for whom something waits."""
        return tuple(self._begins)

    @property
    def is_full(self) -> bool:
        """Whether nothing more should be added."""
        return len(self._messages) >= _MESSAGES or self._size >= _BYTES or self._deliveries >= _DELIVERIES

    def add(self, record: Record, waiting: Collection[Outbox], *, is_newest: bool) -> bool:
        """Have a message wait, for some at least; return whether nothing has waited for one of these before.

        `waiting` must never be changed afterwards.
        """
        number, count = len(self._messages), len(self._begins)
        self._messages.append(_Message(record, waiting, is_newest))
        self._size += len(record.frame)
        self._deliveries += len(waiting)
        for outbox in waiting:
            self._begins.setdefault(outbox, number)
        return len(self._begins) > count

    def hand_over(self, outbox: Outbox) -> int:
        """Offer a connection all that waits for it; return how many messages were looked at."""
        begin = self._begins.pop(outbox, None)
        if begin is None:
            return 0
        messages = self._messages[begin:]
        for message in messages:
            if outbox in message.waiting:
                # (One that is cut off by this refuses the others, and books them.)
                (outbox.offer_newest if message.is_newest else outbox.offer)(message.record)
        self._forget_unless_awaited()
        return len(messages)

    def discard(self, outbox: Outbox) -> None:
        """Have nothing wait for a connection that has ended: it was never offered any of it."""
        if self._begins.pop(outbox, None) is not None:
            self._forget_unless_awaited()

    def _forget_unless_awaited(self) -> None:
        if not self._begins:
            self._messages.clear()
            self._size = self._deliveries = 0
