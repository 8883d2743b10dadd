"""Records in the order of their seq, of which any may be taken out and any part be read: each in a short step.

They lie in blocks, a new one behind the others whenever the last is full. To
take one out, or to find where a page begins, its block is found by bisection,
and its place there in the same way. Nothing is ever moved between blocks, so
that no step has to put all of them in order: what a million values cost is
spread over the publishes that bring and replace them.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from operator import attrgetter
from typing import TYPE_CHECKING

from attrs import define, field

if TYPE_CHECKING:
    from .log import Record

_BLOCK = 512  # records of a block: what taking one out has to move

by_seq = attrgetter("seq")


@define(eq=False)
class OrderedRecords:
    """Records, oldest first; `len()` counts them."""

    _blocks: list[list[Record]] = field(factory=list, repr=False)  # none of them empty
    _begins: list[int] = field(factory=list, repr=False)  # of each block: no record in it has a lower seq
    _count: int = 0

    def __len__(self) -> int:
        return self._count

    def append(self, record: Record) -> None:
        """Add a record that is newer than all others."""
        if not self._blocks or len(self._blocks[-1]) >= _BLOCK:
            self._blocks.append([])
            self._begins.append(record.seq)
        self._blocks[-1].append(record)
        self._count += 1

    def remove(self, record: Record) -> None:
        """Take out a record; KeyError if it is not here."""
        number = bisect_right(self._begins, record.seq) - 1
        block = self._blocks[number] if number >= 0 else []
        place = bisect_left(block, record.seq, key=by_seq)
        if place == len(block) or block[place] is not record:
            raise KeyError(record)
        del block[place]
        self._count -= 1
        if not block:
            del self._blocks[number]
            del self._begins[number]

    def after(self, seq: int, limit: int) -> list[Record]:
        """Return the records that follow `seq`, `limit` at most, oldest first."""
        number = max(bisect_right(self._begins, seq) - 1, 0)
        found: list[Record] = []
        for block in self._blocks[number : number + limit + 1]:
            begin = bisect_right(block, seq, key=by_seq) if block[0].seq <= seq else 0
            found += block[begin : begin + limit - len(found)]
            if len(found) >= limit:
                break
        return found

    def before(self, seq: int, limit: int) -> list[Record]:
        """Return the records that go before `seq`, `limit` at most, newest first."""
        number = bisect_left(self._begins, seq)
        found: list[Record] = []
        while number > 0 and len(found) < limit:
            number -= 1
            block = self._blocks[number]
            end = bisect_left(block, seq, key=by_seq) if block[-1].seq >= seq else len(block)
            found += block[max(0, end - limit + len(found)) : end][::-1]
        return found
