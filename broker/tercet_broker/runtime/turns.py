"""Turns: however many connections are behind, what is read for them takes little of each scheduler pass.

In one pass Trio runs every task that can go on. A thousand drainers that each
queue a page of a replay would make it last for seconds, and whoever else wants
something takes a few passes to get it. So they share a few milliseconds of a
pass; who comes later waits for the next one.

Time is Trio's, so a virtual clock sees none pass, and nobody waits.
"""

from __future__ import annotations

from collections.abc import Callable

import trio
from attrs import define, field

_SHARE = 0.002  # seconds of a pass; the page with which it is reached is the last one
_WOKEN = 2  # by each that has had its turn: cheap pages become many in a few passes


@define(eq=False)
class Turns:
    """What all connections of a daemon share.

    While somebody is parked, somebody else is on the way to a turn, and wakes others then.
    """

    _spent: float = 0.0  # seconds, since the last pass that was waited for
    _is_led: bool = False  # somebody waits for the next pass
    _parked: trio.lowlevel.ParkingLot = field(factory=trio.lowlevel.ParkingLot, repr=False)

    async def take(self, step: Callable[[], None]) -> None:
        """Wait for a turn, and do `step` in it. Cancelled, it was not done; no schedule point if nobody waits."""
        try:
            while self._spent >= _SHARE:
                if self._is_led:
                    await self._parked.park()
                else:
                    await self._lead()
            self._do(step)
        finally:
            self._parked.unpark(count=_WOKEN)

    def take_now(self, step: Callable[[], None]) -> bool:
        """Do `step` if the pass has time left for that; return whether it has."""
        if self._spent >= _SHARE:
            return False
        self._do(step)
        return True

    def _do(self, step: Callable[[], None]) -> None:
        began = trio.current_time()
        try:
            step()
        finally:
            self._spent += trio.current_time() - began

    async def _lead(self) -> None:
        """Wait for the next pass."""
        self._is_led = True
        try:
            await trio.lowlevel.checkpoint()
        finally:
            self._is_led = False
        self._spent = 0.0
