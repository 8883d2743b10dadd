"""A replay: what one subscription gets before it is live, read from the log page by page.

It is one union in the order of seq, each seq once, of

- *older* records: those that `last` asked for, or that topics keep beyond the run,
- retained values outside the log's part,
- the run, from `cursor` on, up to whatever the head is by then.

When the cursor meets the head the subscription becomes live in the same
step, so nothing falls between. If the log moves on faster than the connection
reads, the cursor falls out of the run: that is a gap, and the replay goes on
with what is left.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from attrs import define, field, frozen

from tercet_protocol import Filter, GapReason

from .log import Record
from .namespace import Namespace

SCAN = 512  # records that one page looks at: what a step may cost


@frozen
class Loss:
    """Messages of (after, through] that matched may be missing."""

    epoch: str
    after: int
    through: int
    reason: GapReason


@define(eq=False)
class Replay:
    """How far the replay of one subscription is.

    Attributes:
        cursor: everything up to this seq of the run has been read.
        retained_after: the retained values up to this seq have been read …
        retained_through: … and those above this one are not part of the snapshot.
    """

    namespace: Namespace
    filter: Filter
    connection: int
    cursor: int
    older: deque[Record] = field(factory=deque)
    retained_after: int = 0
    retained_through: int = 0
    _values: deque[Record] = field(factory=deque)  # of the snapshot, read but not handed out

    @property
    def is_done(self) -> bool:
        """Whether everything up to the head has been handed out."""
        return self._is_in_run and self.cursor >= self.namespace.log.head

    @property
    def _is_in_run(self) -> bool:
        return not (self.older or self._values) and self.retained_after >= self.retained_through

    def take_gap(self) -> Loss | None:
        """Return what was lost if the log has overrun the cursor, and move on behind that."""
        first = self.namespace.log.first
        if self.cursor >= first - 1 or not self._is_in_run:
            return None
        loss = Loss(self.namespace.epoch, self.cursor, first - 1, GapReason.OVERFLOW)
        self.cursor = first - 1
        return loss

    def page(self) -> Iterator[tuple[Record, bool]]:
        """Yield the next few (record, whether it is sent as a retained value); look at `SCAN` records at most.

        Before it is called, `take_gap` is asked.
        """
        if not self._is_in_run:
            yield from self._page_before_run()
            return
        for record in self.namespace.log.after(self.cursor, SCAN):
            self.cursor = record.seq
            if record.muted != self.connection and self.filter.matches_levels(record.topic.levels):
                yield record, False

    def _page_before_run(self) -> Iterator[tuple[Record, bool]]:
        if not self._values and self.retained_after < self.retained_through:
            self._read_values()
        for _ in range(SCAN):
            older, values = self.older, self._values
            if values and not (older and older[0].seq <= values[0].seq):
                record, retained = values.popleft(), True
                if record.topic.retained is not record:
                    continue  # replaced since it was read: its successor is in the run
            elif older and (values or self.retained_after >= self.retained_through):
                record, retained = older.popleft(), False
                if values and values[0].seq == record.seq:
                    values.popleft()  # it is both, and goes out once
            else:
                return
            if record.muted != self.connection:
                yield record, retained

    def _read_values(self) -> None:
        """Read on in the snapshot of retained values."""
        through = self.retained_through
        if self.filter.is_exact:
            found = [t.retained for t in self.namespace.topics_matching(self.filter) if t.retained is not None]
            self._values.extend(record for record in found if self.retained_after < record.seq <= through)
            self.retained_after = through
            return
        page, self.retained_after = self.namespace.retained.page(self.retained_after, through, SCAN)
        matches = self.filter.matches_levels
        self._values.extend(record for record in page if matches(record.topic.levels))
