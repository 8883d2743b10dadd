"""The last values of a namespace's topics, in the order of their seq.

A snapshot of them is read a page at a time, while publishes go on. It stays
right without being copied: a value that is replaced after the snapshot began
moves to the end, behind the snapshot's bound, and reaches the reader as a
later message of the log instead.
"""

from __future__ import annotations

from bisect import bisect_right

from attrs import define, field

from .log import Record

_COMPACT = 64  # replaced values in the list before it is worth cleaning


def _seq(record: Record) -> int:
    return record.seq


@define(eq=False)
class Total:
    """The bytes of the retained values of all namespaces."""

    size: int = 0


@define(eq=False)
class RetainedValues:
    """The values that are kept; `len()` counts them.

    Attributes:
        total: what all namespaces share.
        size: bytes of the frames of those that are kept here.
    """

    total: Total = field(factory=Total, repr=False)
    size: int = 0
    _order: list[Record] = field(factory=list, repr=False)  # by seq; replaced values stand here for a while
    _count: int = 0

    def __len__(self) -> int:
        return self._count

    def keep(self, record: Record) -> None:
        """Make `record`, the newest of all, its topic's last value."""
        if record.topic.retained is None:
            self._count += 1
        else:
            self._grow(-len(record.topic.retained.frame))
        self._grow(len(record.frame))
        record.topic.retained = record
        self._order.append(record)
        self._compact()

    def forget(self, record: Record) -> None:
        """Forget the last value of a topic, which is `record`."""
        record.topic.retained = None
        self._grow(-len(record.frame))
        self._count -= 1
        self._compact()

    def _grow(self, size: int) -> None:
        self.size += size
        self.total.size += size

    def _compact(self) -> None:
        if len(self._order) > 2 * self._count + _COMPACT:
            self._order = [record for record in self._order if record.topic.retained is record]

    def page(self, seq: int, through: int, limit: int) -> tuple[list[Record], int]:
        """Look at the next `limit` places of (seq, through].

        Returns the values found there, in order, and the seq up to which the
        next page need not look again: `through` when nothing is left.
        """
        begin = bisect_right(self._order, seq, key=_seq)
        places = self._order[begin : begin + limit]
        found = [r for r in places if r.seq <= through and r.topic.retained is r]
        reached = places[-1].seq if len(places) == limit else through
        return found, min(reached, through)
