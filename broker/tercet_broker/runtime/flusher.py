"""The flusher: one task that writes what one scheduler pass has put into outboxes.

Deliveries that one chunk of input causes, and those of all publishers that
had their turn in the same pass, go out together: one write for each socket,
however many messages it holds.
"""

from __future__ import annotations

from typing import Protocol

import trio
from attrs import define, field

# Writes between two checkpoints: some milliseconds, so that a fan-out to ten
# thousand connections lets others have their turn.
_SLICE = 128


class Flushable(Protocol):
    """Something whose outbox can be written without waiting."""

    def flush(self) -> None:
        """Write what the socket takes; never raises for what the peer did."""


@define(eq=False)
class Flusher:
    """The links that have something to send, in the order in which they got it."""

    _ready: list[Flushable] = field(factory=list, repr=False)
    _lot: trio.lowlevel.ParkingLot = field(factory=trio.lowlevel.ParkingLot, repr=False)

    def add(self, link: Flushable) -> None:
        """Have `link` flushed once the tasks that are running now have had their turn."""
        if not self._ready:
            self._lot.unpark()
        self._ready.append(link)

    async def run(self) -> None:
        """Flush until cancelled. What is in an outbox then stays there."""
        while True:
            if not self._ready:
                await self._lot.park()
            batch, self._ready = self._ready, []
            for start in range(0, len(batch), _SLICE):
                for link in batch[start : start + _SLICE]:
                    link.flush()
                await trio.lowlevel.checkpoint()
