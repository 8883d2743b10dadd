"""Deadlines of all connections on one heap: `connect` in time, heartbeats, the drain's closes.

A connection has one entry, whatever is due first; it is looked at when that
comes, and says when to look again. So a frame that arrives moves no timer:
it is a number that the next look compares.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Iterator
from typing import Protocol

import trio
from attrs import define, field


class Timed(Protocol):
    """Something with deadlines."""

    ticket: int  #: its place in `Deadlines`; 0 for none; written there only

    def look(self, now: float) -> float:
        """Do what is due by `now`; return when to look again, `math.inf` for never."""


@define(eq=False)
class Deadlines:
    """All that is timed. `run` is the one task behind it."""

    _heap: list[tuple[float, int]] = field(factory=list, repr=False)  # (when, ticket): equal times keep order
    _timed: dict[int, Timed] = field(factory=dict, repr=False)  # {ticket: whose it is}; void ones are missing
    _tickets: Iterator[int] = field(factory=lambda: itertools.count(1), repr=False)
    _waiting: trio.CancelScope | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self._timed)

    def schedule(self, timed: Timed, when: float) -> None:
        """Look at `timed` at `when`, instead of at what was scheduled for it before."""
        self._timed.pop(timed.ticket, None)
        timed.ticket = 0
        if when == math.inf:
            return
        timed.ticket = next(self._tickets)
        self._timed[timed.ticket] = timed
        heapq.heappush(self._heap, (when, timed.ticket))
        if self._waiting is not None and when < self._waiting.deadline:
            self._waiting.deadline = when

    async def run(self) -> None:
        """Look at everything when its time comes, until cancelled."""
        while True:
            self._look(trio.current_time())
            deadline = self._heap[0][0] if self._heap else math.inf
            with trio.CancelScope(deadline=deadline) as self._waiting:
                await trio.sleep_forever()
            self._waiting = None

    def _look(self, now: float) -> None:
        heap = self._heap
        while heap and heap[0][0] <= now:
            _, ticket = heapq.heappop(heap)
            timed = self._timed.pop(ticket, None)
            if timed is not None:
                self.schedule(timed, timed.look(now))
