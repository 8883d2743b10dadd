"""The flusher: one task that writes what one scheduler pass has put into outboxes.

Deliveries that one chunk of input causes, and those of all publishers that
had their turn in the same pass, go out together: one write for each socket,
however many messages it holds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
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
    _is_called: bool = False
    _lot: trio.lowlevel.ParkingLot = field(factory=trio.lowlevel.ParkingLot, repr=False)

    def add(self, link: Flushable) -> None:
        """Have `link` flushed once the tasks that are running now have had their turn."""
        self._ready.append(link)
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
        """Write to all that have something; to be iterated over, with others' turns between two items.

        What comes meanwhile for a few does not wait for the rest of what goes to a crowd.
        """
        self.fan_out.close_run()
        batch, self._ready = self._ready, []
        self._is_called = False
        written = self._write(batch)
        while written < len(batch):
            yield
            self._write_to_few()
            written += self._write(batch, written)
        while self.fan_out.send(_SLICE, trio.current_time()):
            yield
            self._write_to_few()

    def _write_to_few(self) -> None:
        self.fan_out.settle_few(_SLICE)
        if self._ready:
            few, self._ready = self._ready, []
            written = self._write(few)
            self._ready[:0] = few[written:]

    @staticmethod
    def _write(links: Sequence[Flushable], start: int = 0) -> int:
        """Write to the next links, as many as one step allows; return how many those were."""
        now, room, count = trio.current_time(), _SLICE_BYTES, 0
        for link in islice(links, start, start + _SLICE):
            room -= link.flush(now)
            count += 1
            if room <= 0:
                break
        return count
