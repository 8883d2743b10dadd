"""The last values of a namespace's topics, in the order of their seq.

A snapshot of them is read a page at a time, while publishes go on. It stays
right without being copied: a value that is replaced after the snapshot began
moves to the end, behind the snapshot's bound, and reaches the reader as a
later message of the log instead.
"""

from __future__ import annotations

from attrs import define, field

from .log import Record
from .ordered import OrderedRecords


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
        records: the values, oldest first.
    """

    total: Total = field(factory=Total, repr=False)
    size: int = 0
    records: OrderedRecords = field(factory=OrderedRecords, repr=False)

    def __len__(self) -> int:
        return len(self.records)

    def keep(self, record: Record) -> None:
        """Make `record`, the newest of all, its topic's last value."""
        if record.topic.retained is not None:
            self.forget(record.topic.retained)
        record.topic.retained = record
        self.records.append(record)
        self._grow(len(record.frame))

    def forget(self, record: Record) -> None:
        """Forget the last value of a topic, which is `record`."""
        record.topic.retained = None
        self.records.remove(record)
        self._grow(-len(record.frame))

    def _grow(self, size: int) -> None:
        self.size += size
        self.total.size += size
