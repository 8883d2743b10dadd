"""Room for a bounded number of things in flight, given out first come, first served."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import trio
from attrs import define, field

from ._errors import TercetError


@define(eq=False)
class _Place:
    size: int
    admitted: trio.Event = field(factory=trio.Event, init=False)


@define(eq=False)
class Room:
    """A bound in count and in bytes. One thing larger than all of it is let in alone.

    Like a semaphore that hands its token to the first in line, so that a
    latecomer never overtakes; `trio.Semaphore` cannot count bytes.
    """

    limit: int
    byte_limit: int
    count: int = field(default=0, init=False)
    _bytes: int = field(default=0, init=False)
    _line: deque[_Place] = field(factory=deque, init=False)
    _error: Callable[[], TercetError] | None = field(default=None, init=False)

    def try_take(self, size: int) -> bool:
        """Take room for `size` bytes if there is some and nobody waits for it."""
        if self._error is not None:
            raise self._error()
        if self._line or not self._fits(size):
            return False
        self._add(size)
        return True

    async def take(self, size: int) -> None:
        """Take room for `size` bytes, waiting in line for it.

        Cancelled, it has taken none. It is a checkpoint only if it waits.
        """
        if self.try_take(size):
            return
        place = _Place(size)
        self._line.append(place)
        try:
            await place.admitted.wait()
        except BaseException:
            # Trio cancels a wait or ends it, never both: no room was given yet.
            self._line.remove(place)
            self._admit()
            raise
        if self._error is not None:
            raise self._error()

    def give(self, size: int) -> None:
        """Give back what was taken."""
        self.count -= 1
        self._bytes -= size
        self._admit()

    def close(self, error: Callable[[], TercetError]) -> None:
        """Let everyone who waits, and whoever comes, have `error()`."""
        if self._error is None:
            self._error = error
        while self._line:
            self._line.popleft().admitted.set()

    def _fits(self, size: int) -> bool:
        return not self.count or (self.count < self.limit and self._bytes + size <= self.byte_limit)

    def _add(self, size: int) -> None:
        self.count += 1
        self._bytes += size

    def _admit(self) -> None:
        while self._line and self._fits(self._line[0].size):
            place = self._line.popleft()
            self._add(place.size)
            place.admitted.set()
