"""A connection that is behind in a namespace: a cursor on the log instead of a pile of copies.

While there is a cursor nothing live of that namespace is queued. What the
connection was to get is read from the log, a page at a time and while little
is queued: the very frames that the others got. When the cursor meets the head
the connection is live again in the same step, so nothing falls between.

Which of the log's messages it gets is decided by the subscriptions that were
live when each was published. One that has ended since gets no more of them.
"""

from __future__ import annotations

from collections.abc import Iterable

from attrs import define, field

from .log import Record
from .matching import FilterIndex
from .namespace import Namespace
from .subscription import Subscription


@define(eq=False)
class Cursor:
    """How far one connection is in one namespace.

    Attributes:
        seq: everything up to this that it was to get has been queued.
        index: the filters of its live subscriptions.
    """

    namespace: Namespace
    seq: int
    index: FilterIndex[Subscription] = field(factory=FilterIndex, repr=False)
    _starts: dict[Subscription, int] = field(factory=dict, repr=False)  # {subscription: live above this seq}

    @classmethod
    def open(cls, namespace: Namespace, seq: int, subscriptions: Iterable[Subscription]) -> Cursor:
        """Return a cursor for subscriptions that have been live since `seq` or before."""
        cursor = cls(namespace, seq)
        for subscription in subscriptions:
            if subscription.is_live and subscription.namespace in (namespace, None):
                cursor.add(subscription, seq)
        return cursor

    @property
    def behind(self) -> int:
        """How many messages of the log it has not looked at."""
        return self.namespace.log.head - self.seq

    def add(self, subscription: Subscription, start: int) -> None:
        """Have a subscription, live from now on, get what comes after `start`."""
        self._starts[subscription] = start
        self.index.add(subscription.filter, subscription)

    def discard(self, subscription: Subscription) -> None:
        """Have a subscription get nothing more."""
        if self._starts.pop(subscription, None) is not None:
            self.index.remove(subscription.filter, subscription)

    def wants(self, record: Record) -> bool:
        """Tell whether a message is for one of the subscriptions that were live then."""
        starts, seq = self._starts, record.seq
        return any(starts[subscription] < seq for subscription in self.index.match(record.topic.levels))

    def skip_lost(self) -> tuple[int, int] | None:
        """Return what the log does not have any more, as (after, through), and move on behind that."""
        first = self.namespace.log.first
        if self.seq >= first - 1:
            return None
        after, self.seq = self.seq, first - 1
        return after, self.seq
