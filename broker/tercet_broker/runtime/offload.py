"""Work that would hold up everybody, done elsewhere: in a thread, unless the world is simulated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

import trio

T = TypeVar("T")


class Offload(Protocol):
    """Runs a function so that nobody waits for it but the caller."""

    async def __call__(self, function: Callable[[], T], limiter: trio.CapacityLimiter) -> T:
        """Return what `function()` returns, or raise what it raises; at most so many at once as `limiter` allows."""


async def in_thread(function: Callable[[], T], limiter: trio.CapacityLimiter) -> T:
    """Run it in a thread. Cancelled, the thread is left behind; the limiter counts it until it has ended."""
    return await trio.to_thread.run_sync(function, limiter=limiter, abandon_on_cancel=True)


async def in_turn(function: Callable[[], T], limiter: trio.CapacityLimiter) -> T:
    """Run it here, for simulations: there are no threads in them."""
    async with limiter:
        await trio.lowlevel.checkpoint()
        return function()
