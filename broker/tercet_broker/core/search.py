"""Looking for the newest few messages that match, from the head backwards, a bounded number of records at a time.

`last` begins where they begin; `history` without a position is what is found.
In a long log where little matches, that is found in many short steps, while
publishes go on. Messages above the head of the first step are not looked at.
"""

from __future__ import annotations

from collections.abc import Iterator

from attrs import define, field

from tercet_protocol import Filter

from .log import Record
from .namespace import Namespace


@define(eq=False)
class NewestSearch:
    """How far one search is. What it finds is kept when it is looked at; nothing is promised of the rest.

    Attributes:
        wanted: how many more are to be found.
        start: seq of the oldest that was found; before any was, of what comes next.
        start_in_run: the same of those that were found in the run.
        reached: everything from this seq on has been looked at.
        is_over: whether there is nothing more to be found.
    """

    namespace: Namespace
    filter: Filter
    connection: int
    wanted: int
    start: int = field(init=False)
    start_in_run: int = field(init=False)
    reached: int = field(init=False)
    is_over: bool = False

    def __attrs_post_init__(self) -> None:
        """Begin at the head."""
        self.start = self.start_in_run = self.reached = self.namespace.log.head + 1

    def look(self, limit: int) -> Iterator[Record]:
        """Yield the next matching records, newest first; look at `limit` at most."""
        matches, first, left = self.filter.matches_levels, self.namespace.log.first, limit
        for record in self.namespace.before(self.filter, self.reached, limit):
            left -= 1
            self.reached = seq = record.seq
            if record.muted == self.connection or not matches(record.topic.levels):
                continue
            self.start = seq
            if seq >= first:
                self.start_in_run = seq
            self.wanted -= 1
            yield record
            if not self.wanted:
                break
        self.is_over = left > 0 or not self.wanted
