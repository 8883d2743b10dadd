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
from collections.abc import Iterator
from typing import Protocol

import trio
from attrs import define, field

_TICKS = 50  # in a timeout: so much of it may a look be late
_AT_ONCE = 256  # looks between two checkpoints: some milliseconds, for each may write a ping


def round_up(when: float, timeout: float) -> float:
    """Return the next tick from `when` on: those of thousands of connections are looked at together, and written to."""
    tick = timeout / _TICKS
    ticks = math.ceil(when / tick)
    return ticks * tick if ticks * tick >= when else (ticks + 1) * tick


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
        before = self._due.get(timed.look_at)
        if before is not None:
            before.pop(timed, None)
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
            for _ in self._look():
                await trio.lowlevel.checkpoint()
            deadline = self._moments[0] if self._moments else math.inf
            with trio.CancelScope(deadline=deadline) as self._waiting:
                await trio.sleep_forever()
            self._waiting = None

    def _look(self) -> Iterator[None]:
        """Look at what is due; to be iterated over, with others' turns between two items."""
        now, count = trio.current_time(), 0
        while self._moments and self._moments[0] <= now:
            when = heapq.heappop(self._moments)
            for timed in tuple(self._due.pop(when)):
                if timed.look_at != when:
                    continue  # one that was looked at before, or had its turn meanwhile, has changed that
                timed.look_at = math.inf
                self.schedule(timed, timed.look(now))
                count += 1
                if not count % _AT_ONCE:
                    yield
                    now = trio.current_time()
