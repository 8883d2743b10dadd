"""What an unrelated pair notices of snapshots with 100,000 retained values: python -m tests.benchmarks.snapshot.

The daemon is a process of its own. A publisher sends a message each
millisecond or so, its subscriber waits for it; meanwhile others subscribe to
all retained values, and read them as fast as they come, or not at all.
"""

from __future__ import annotations

import subprocess
import sys
import time

import click
import structlog
import trio
from attrs import define, field
from tests.benchmarks.replays import KINDS, fill
from tests.soak.peer import GoneError, Peer

from tercet_broker.cli.memory import spare_the_collector
from tercet_broker.core import Broker
from tercet_broker.runtime import Daemon, DaemonSettings, ListenerSettings, TimeoutSettings, open_daemon

TOPICS = 100_000
CROWDS = ((0, True), (1, True), (10, True), (40, False), (200, False))  # (how many subscribe, whether they read)
_SETTINGS = DaemonSettings(listeners=(ListenerSettings("127.0.0.1:0"),), timeouts=TimeoutSettings(write=60))
_PAUSE = 0.001  # seconds between two messages of the pair
_LEAST = 500  # messages of the pair for each crowd
_KIB = 1024
_READ = 1 << 18
_PAGE_KIB = 4


async def serve() -> None:
    """Be the daemon: print the URL, and serve until the input ends."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))  # errors alone
    spare_the_collector()  # as the daemon does, before there is anything
    broker: Broker = fill(KINDS["retained"], TOPICS)
    broker.reopen()
    async with open_daemon(Daemon(_SETTINGS, broker=broker)) as urls:
        sys.stdout.write(f"{urls[0]}\n")
        sys.stdout.flush()
        await trio.to_thread.run_sync(sys.stdin.read)


@define(eq=False)
class Round:
    """One crowd, beside the pair.

    Attributes:
        latencies: seconds that each message of the pair took.
        most: the most memory that the daemon had, in KiB.
        received: bytes that the crowd got …
        seconds: … and how long the last of those that read took for it.
    """

    port: int
    process: int
    latencies: list[float] = field(factory=list)
    most: int = 0
    received: int = 0
    seconds: float = 0.0

    def memory(self) -> int:
        """Return the daemon's resident size in KiB."""
        with open(f"/proc/{self.process}/statm", "rb") as file:  # noqa: PTH123 - often, and no disk behind it
            return int(file.read().split()[1]) * _PAGE_KIB

    async def peer(self) -> Peer:
        peer = Peer(await trio.open_tcp_stream("127.0.0.1", self.port))
        await peer.connect()
        await peer.messages()
        return peer

    async def run(self, count: int, *, reads: bool) -> None:
        publisher, subscriber = await self.peer(), await self.peer()
        await subscriber.send({"op": "subscribe", "id": 2, "filter": "pair/x"})
        await subscriber.messages()
        crowd = [await self.peer() for _ in range(count)]
        async with trio.open_nursery() as nursery, trio.open_nursery() as readers:
            nursery.start_soon(self.sing, publisher, subscriber, nursery.cancel_scope, readers)
            for peer in crowd:
                await peer.send({"op": "subscribe", "id": 2, "filter": "t/#"})
                if reads:
                    readers.start_soon(self.read, peer)
        for peer in (*crowd, publisher, subscriber):
            await trio.aclose_forcefully(peer.stream)

    async def sing(self, publisher: Peer, subscriber: Peer, scope: trio.CancelScope, readers: trio.Nursery) -> None:
        """Publish, and wait for it, until the crowd has all that it wants."""
        while readers.child_tasks or len(self.latencies) < _LEAST:
            began = time.perf_counter()
            await publisher.send({"op": "publish", "topic": "pair/x", "data": len(self.latencies)})
            await subscriber.messages()
            self.latencies.append(time.perf_counter() - began)
            self.most = max(self.most, self.memory())
            await trio.sleep(_PAUSE)
        scope.cancel()

    async def read(self, peer: Peer) -> None:
        """Read until `live`, without looking at what comes before."""
        began, tail = time.perf_counter(), b""
        while b'"op":"live"' not in tail:
            data = await peer.stream.receive_some(_READ)
            if not data:
                raise GoneError
            self.received += len(data)
            tail = (tail + data)[-200:]
        self.seconds = time.perf_counter() - began


@click.command()
@click.option("--serve", "is_daemon", is_flag=True, hidden=True)
def main(is_daemon: bool) -> None:
    """Print what the pair's messages took, and the daemon's memory."""
    if is_daemon:
        trio.run(serve)
        return
    command = [sys.executable, "-m", "tests.benchmarks.snapshot", "--serve"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline().rpartition(":")[2])
        click.echo(f"{TOPICS:,} retained values; the pair's messages in ms, the daemon's memory in KiB")
        heads = ("messages", "median", "99 %", "slowest", "before", "most", "MB read", "seconds")
        click.echo(f"{'crowd':<16}" + "".join(f"{head:>10}" for head in heads))
        for count, reads in CROWDS:
            one = Round(port, process.pid)
            before = one.memory()
            trio.run(lambda: one.run(count, reads=reads))  # noqa: B023 - called at once
            taken = sorted(one.latencies)
            middle, high, most = (taken[int(len(taken) * part)] * 1e3 for part in (0.5, 0.99, 0.999999))
            name = f"{count} that read" if reads else f"{count} that do not"
            times = f"{middle:>10.2f}{high:>10.2f}{most:>10.2f}"
            read = f"{one.received / 1e6:>10.1f}{one.seconds:>10.2f}"
            click.echo(f"{name:<16}{len(taken):>10,}{times}{before:>10,}{one.most:>10,}{read}")
        assert process.stdin is not None
        process.stdin.close()


if __name__ == "__main__":
    main()
