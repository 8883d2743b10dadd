"""The flusher: one task that writes what one scheduler pass has put into outboxes.

Deliveries that one chunk of input causes, and those of all publishers that
had their turn in the same pass, go out together: one write for each socket,
however many messages it holds.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import trio
from attrs import define, field

from ..core.fanout import FanOut

# Writes, and bytes, between two checkpoints: some milliseconds, so that a fan-out
# to ten thousand connections lets others have their turn.
_SLICE = 128
_SLICE_BYTES = 2 * 1024 * 1024


class Flushable(Protocol):
    """Something whose outbox can be written without waiting."""

    def flush(self, now: float) -> int:
        """Write what the socket takes; return how many bytes that was.

        `now` is Trio's time. Never raises for what the peer did.
        """


@define(eq=False)
class Flusher:
    """The links that have something to send, in the order in which they got it, and the fan-out.

    Attributes:
        fan_out: what was published; sent in each pass.
    """

    fan_out: FanOut = field(factory=FanOut, repr=False)
    _ready: list[Flushable] = field(factory=list, repr=False)
    _crowd: list[Flushable] = field(factory=list, repr=False)  # those whose part of a large fan-out was queued
    _is_called: bool = False
    _lot: trio.lowlevel.ParkingLot = field(factory=trio.lowlevel.ParkingLot, repr=False)

    def add(self, link: Flushable) -> None:
        """Have `link` flushed once the tasks that are running now have had their turn."""
        (self._crowd if self.fan_out.is_for_crowd else self._ready).append(link)
        if not self._is_called:
            self.call()

    def call(self) -> None:
        """Have a pass made once the tasks that are running now have had their turn."""
        if not self._is_called:
            self._is_called = True
            self._lot.unpark()

    async def run(self) -> None:
        """Flush until cancelled. What is in an outbox then stays there."""
        while True:
            if self._is_called:
                await trio.lowlevel.checkpoint()  # called while it wrote: others first
            else:
                await self._lot.park()
            for _ in self.flush():
                await trio.lowlevel.checkpoint()

    def flush(self) -> Iterator[None]:
        """Write to all that have something; to be iterated over, with others' turns between two items."""
        self.fan_out.close_run()
        self._is_called = False
        while self._write_slice():
            yield
            self.fan_out.settle_few(_SLICE)

    def _write_slice(self) -> bool:
        """Write to the next, as many as one step allows; return whether there may be more.

        What is for a few does not wait for the rest of what goes to a crowd, whether that is queued or not: in each
        slice both get on.
        """
        now = trio.current_time()
        self._write(self._ready, now)
        if self._crowd:
            self._write(self._crowd, now)
            return True
        return self.fan_out.send(_SLICE, now) or bool(self._ready)

    @staticmethod
    def _write(links: list[Flushable], now: float) -> None:
        """Write to the first of them, as many as one step allows, and take these out."""
        room, count = _SLICE_BYTES, 0
        for link in links[:_SLICE]:
            room -= link.flush(now)
            count += 1
            if room <= 0:
                break
        del links[:count]
