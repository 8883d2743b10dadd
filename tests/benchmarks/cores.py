"""Which core the broker runs on, and which one the load."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from attrs import frozen

_IDLE = 3  # column of /proc/stat; the next is idle as well, waiting for a disk (proc(5))


@frozen
class Cores:
    """The numbers of two cores; the same one twice where there is only one."""

    broker: int
    load: int

    @property
    def are_two(self) -> bool:
        return self.broker != self.load

    def unused(self) -> float:
        """Return for how many seconds, since the machine started, nobody has used the broker's core."""
        for line in Path("/proc/stat").read_text().splitlines():
            name, *ticks = line.split()
            if name == f"cpu{self.broker}":
                return (int(ticks[_IDLE]) + int(ticks[_IDLE + 1])) / os.sysconf("SC_CLK_TCK")
        return 0.0

    @contextmanager
    def on_brokers(self) -> Iterator[None]:
        """Run the block on the broker's core: a process that is started there stays there.

        It is inherited, so that a runtime which asks for the number of cores
        when it starts (Go's does) is told one.
        """
        os.sched_setaffinity(0, {self.broker})
        try:
            yield
        finally:
            os.sched_setaffinity(0, {self.load})


def choose_cores(broker: int | None = None, load: int | None = None) -> Cores:
    """Return the cores asked for, or the first two that this process may use, and move to the load's."""
    usable = sorted(os.sched_getaffinity(0))
    broker = usable[0] if broker is None else broker
    others = [core for core in usable if core != broker] or [broker]
    cores = Cores(broker, others[0] if load is None else load)
    os.sched_setaffinity(0, {cores.load})
    return cores
