"""The daemon of the soak, in a process of its own: `python -m tests.soak.server`.

It prints its URL, then answers each line on its standard input with one line
of JSON, its counts at that moment; it stops when the input ends.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys

import structlog
import trio

from tercet_broker.core import BrokerSettings, HistorySettings, LimitSettings, NamespaceSettings
from tercet_broker.runtime import Daemon, DaemonSettings, ListenerSettings, TimeoutSettings, open_daemon
from tercet_broker.runtime.memory import resident_bytes

KEPT = NamespaceSettings(history=HistorySettings(messages=2000, per_topic=5))
SETTINGS = DaemonSettings(
    listeners=(ListenerSettings("127.0.0.1:0"),),
    broker=BrokerSettings(
        namespaces={"chat": KEPT, "log": KEPT},
        limits=LimitSettings(outbox_bytes=1 << 20, key_seconds=60.0),
    ),
    timeouts=TimeoutSettings(write=10.0),
)


class _Heap(ctypes.Structure):
    """What glibc tells of its heap: `mallinfo2(3)`."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()
    )


def heap() -> tuple[int, int]:
    """Return how many bytes of the C heap are in use, and how many are free in between; zeros without glibc.

    Objects of up to 512 bytes are not in there, for Python has arenas of its own for them: they are the `blocks`.
    """
    try:
        mallinfo = ctypes.CDLL(None).mallinfo2
    except (OSError, AttributeError):
        return 0, 0
    mallinfo.restype = _Heap
    found = mallinfo()
    return found.uordblks + found.hblkhd, found.fordblks


def look(daemon: Daemon) -> dict[str, object]:
    """Return the counts: what must be flat, what must add up, and what was done."""
    statistics = daemon.statistics()
    accounts = statistics.accounts
    return {
        "rss": resident_bytes(),
        "heap": heap()[0],
        "gaps": heap()[1],
        "blocks": sys.getallocatedblocks(),
        "descriptors": len(os.listdir("/proc/self/fd")),  # noqa: PTH208 - the count alone
        "tasks": trio.lowlevel.current_statistics().tasks_living,
        "connections": statistics.admission.connections,
        "handshakes": statistics.admission.handshakes,
        "sessions": len(statistics.sessions),
        "accepted": statistics.admission.accepted,
        "published": sum(one.head for one in statistics.namespaces),
        "offered": sum(one.account.offered for one in statistics.namespaces),
        "delivered": sum(one.account.delivered for one in statistics.namespaces),
        "dropped": sum(sum(one.account.dropped.values()) for one in statistics.namespaces),
        "conflated": sum(one.account.conflated for one in statistics.namespaces),
        "queued": sum(one.account.queued for one in statistics.namespaces),
        "queued_of_sessions": sum(one.account.queued for one in statistics.sessions),
        "subscribers": sum(one.subscribers for one in statistics.namespaces),
        "balanced": all(account.balanced for account in accounts),
    }


async def main() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))  # errors alone
    daemon = Daemon(SETTINGS)
    async with open_daemon(daemon) as urls:
        commands = trio.lowlevel.FdStream(os.dup(0))
        sys.stdout.write(f"{urls[0]}\n")
        sys.stdout.flush()
        while received := await commands.receive_some(1024):
            for _ in range(received.count(b"\n")):
                sys.stdout.write(json.dumps(look(daemon)) + "\n")
                sys.stdout.flush()
        await commands.aclose()


if __name__ == "__main__":
    trio.run(main)
