"""What the operating system asks of the daemon."""

from __future__ import annotations

import resource
import signal
from collections.abc import Awaitable, Callable

import structlog
import trio

log = structlog.get_logger("tercet")


async def obey_signals(
    drain: Callable[[], None],
    stop: Callable[[], None],
    reload: Callable[[], Awaitable[None]],
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Drain at the first SIGTERM or SIGINT, stop at the second, reload at SIGHUP; run until cancelled."""
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as received:
        task_status.started()
        is_draining = False
        async for number in received:
            name = signal.Signals(number).name
            if number == signal.SIGHUP:
                if not is_draining:
                    await reload()
            elif is_draining:
                log.warning("stopping at once", signal=name)
                stop()
            else:
                log.info("draining", signal=name)
                is_draining = True
                drain()


def raise_descriptor_limit() -> int:
    """Raise this process's soft limit of open descriptors to its hard limit; return what it is then."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard
