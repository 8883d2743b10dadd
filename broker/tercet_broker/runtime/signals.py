"""What the operating system asks of the daemon."""

from __future__ import annotations

import resource
import signal
from collections.abc import Awaitable, Callable

import structlog
import trio
from attrs import define

log = structlog.get_logger("tercet")


async def obey_signals(
    drain: Callable[[], None],
    stop: Callable[[], None],
    reload: Callable[[], Awaitable[None]],
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Drain at the first SIGTERM or SIGINT, stop at the second, reload at SIGHUP; run until cancelled.

    A reload may take long, or for ever: no other signal waits for it, and a
    drain cancels it. However many SIGHUPs come meanwhile, one more follows.
    """
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as received:
        async with trio.open_nursery() as nursery:
            reloads = _Reloads(reload, nursery)
            task_status.started()
            is_draining = False
            async for number in received:
                name = signal.Signals(number).name
                if number == signal.SIGHUP:
                    if not is_draining:
                        reloads.want()
                elif is_draining:
                    log.warning("stopping at once", signal=name)
                    stop()
                else:
                    log.info("draining", signal=name)
                    is_draining = True
                    reloads.cancel()
                    drain()


@define(eq=False)
class _Reloads:
    """One after the other, and never more than one that waits."""

    reload: Callable[[], Awaitable[None]]
    nursery: trio.Nursery
    _is_wanted: bool = False
    _running: trio.CancelScope | None = None

    def want(self) -> None:
        """Have one made, once the one that is under way is over."""
        self._is_wanted = True
        if self._running is None:
            self._running = trio.CancelScope()
            self.nursery.start_soon(self._run, self._running)

    def cancel(self) -> None:
        """Leave off."""
        if self._running is not None:
            self._running.cancel()

    async def _run(self, scope: trio.CancelScope) -> None:
        with scope:
            while self._is_wanted:
                self._is_wanted = False
                await self.reload()
        self._running = None


def raise_descriptor_limit() -> int:
    """Raise this process's soft limit of open descriptors to its hard limit; return what it is then."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard
