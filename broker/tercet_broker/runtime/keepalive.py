"""Deadlines of all connections on one heap: `connect` in time, heartbeats, the drain's closes.

A connection has one entry, whatever is due first; it is looked at when that
comes, and says when to look again. So a frame that arrives moves no timer:
it is a number that the next look compares. The heap has one entry for each
moment: what is due together (connections round their times up for that) is
looked at together, for one wake-up.
"""

from __future__ import annotations

import heapq
import math
from typing import Protocol

import trio
from attrs import define, field


class Timed(Protocol):
    """Something with deadlines."""

    look_at: float  #: when it will be looked at; `math.inf` for never; written by `Deadlines` only

    def look(self, now: float) -> float:
        """Do what is due by `now`; return when to look again, `math.inf` for never."""


@define(eq=False)
class Deadlines:
    """All that is timed. `run` is the one task behind it."""

    _moments: list[float] = field(factory=list, repr=False)  # a heap of the keys of …
    _due: dict[float, dict[Timed, None]] = field(factory=dict, repr=False)  # … {when: what is due then, in order}
    _waiting: trio.CancelScope | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return sum(map(len, self._due.values()))

    def schedule(self, timed: Timed, when: float) -> None:
        """Look at `timed` at `when`, instead of at what was scheduled for it before."""
        if timed.look_at < math.inf:
            del self._due[timed.look_at][timed]
        timed.look_at = when
        if when < math.inf:
            self._add(timed, when)

    def _add(self, timed: Timed, when: float) -> None:
        due = self._due.get(when)
        if due is not None:
            due[timed] = None
            return
        self._due[when] = {timed: None}
        heapq.heappush(self._moments, when)
        if self._waiting is not None and when < self._waiting.deadline:
            self._waiting.deadline = when

    async def run(self) -> None:
        """Look at everything when its time comes, until cancelled."""
        while True:
            self._look(trio.current_time())
            deadline = self._moments[0] if self._moments else math.inf
            with trio.CancelScope(deadline=deadline) as self._waiting:
                await trio.sleep_forever()
            self._waiting = None

    def _look(self, now: float) -> None:
        while self._moments and self._moments[0] <= now:
            when = heapq.heappop(self._moments)
            due = self._due[when]
            while due:  # (what is looked at may have more looked at, at this moment as well)
                timed = next(iter(due))
                del due[timed]
                timed.look_at = math.inf
                self.schedule(timed, timed.look(now))
            del self._due[when]
