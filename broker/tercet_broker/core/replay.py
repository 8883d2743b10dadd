"""A replay: what a subscription gets before it is live, read from the log a page at a time.

It holds positions and never a record, so that a slow reader keeps nothing
alive; and each step looks at `SCAN` records at most, however many there are.
With `last`, it is first searched for where the newest few begin. Then come, in
the order of their seq and each once:

- what topics keep beyond the run, from there on,
- retained values outside the log's part,
- the run, from `cursor` on, up to whatever the head is by then.

What topics keep beyond the run, and retained values, are those that are there
when it is their turn: they are replaced by newer ones, which come later. When
the cursor meets the head the subscription becomes live in the same step, so
nothing falls between. If the log moves on faster than the connection reads,
the cursor falls out of the run: that is a gap, and the replay goes on with
what is left.
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import merge
from itertools import islice, repeat

from attrs import define, field, frozen

from tercet_protocol import Filter, GapReason

from .log import Record
from .namespace import Namespace
from .search import NewestSearch

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
        beyond_after: above this seq, what topics keep beyond the run is part of it.
        with_retained: whether retained values are.
        search: looks for where it begins; None once that is known.
        through: the run's part begins behind this seq …
        read: … and everything before it has been handed out up to this one.
    """

    namespace: Namespace
    filter: Filter
    connection: int
    cursor: int
    beyond_after: int
    with_retained: bool
    search: NewestSearch | None = None
    through: int = field(init=False)
    read: int = field(init=False)

    def __attrs_post_init__(self) -> None:
        """Begin, by searching if need be."""
        self._begin()
        self._search()

    def _begin(self) -> None:
        self.through = self.cursor
        self.read = 0 if self.with_retained else self.beyond_after

    def _search(self) -> None:
        """Search on for where the newest few begin."""
        search = self.search
        if search is None:
            return
        for _ in search.look(SCAN):
            pass
        if search.is_over:
            self.cursor = search.start_in_run - 1
            self.beyond_after = search.start - 1
            self.search = None
            self._begin()

    @property
    def is_done(self) -> bool:
        """Whether everything up to the head has been handed out."""
        return self._is_in_run and self.cursor >= self.namespace.log.head

    @property
    def _is_in_run(self) -> bool:
        return self.search is None and self.read >= self.through

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

        Before it is called, `take_gap` is asked. Whoever stops early goes on there with the next page.
        """
        if self.search is not None:
            self._search()
        elif not self._is_in_run:
            yield from self._page_before_run()
        else:
            for record in self.namespace.log.after(self.cursor, SCAN):
                self.cursor = record.seq
                if record.muted != self.connection and self.filter.matches_levels(record.topic.levels):
                    yield record, False

    def _page_before_run(self) -> Iterator[tuple[Record, bool]]:
        namespace, filter_, through = self.namespace, self.filter, self.through
        beyond = namespace.beyond_run(filter_, max(self.read, self.beyond_after), through, SCAN)
        values = namespace.retained_values(filter_, self.read, through, SCAN) if self.with_retained else []
        connection, matches = self.connection, filter_.matches_levels
        for record, is_value in islice(_in_order(beyond, values), SCAN):
            seq = record.seq
            if seq == self.read:
                continue  # one that is both comes once, as what it is in the log
            self.read = seq
            if record.muted != connection and matches(record.topic.levels):
                yield record, is_value
        if len(beyond) + len(values) < SCAN:
            self.read = through


def _in_order(of_log: list[Record], values: list[Record]) -> Iterator[tuple[Record, bool]]:
    """Return (record, whether it is there as a retained value) by seq; of the same seq, that of the log first."""
    from_log, retained = zip(of_log, repeat(False)), zip(values, repeat(True))
    if not of_log:
        return retained
    return merge(from_log, retained, key=_seq_of_first)


def _seq_of_first(pair: tuple[Record, bool]) -> int:
    return pair[0].seq
