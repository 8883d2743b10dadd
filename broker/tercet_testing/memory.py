"""A broker and its clients in one process, joined by memory instead of sockets.

Everything but the network is real: the daemon, the WebSocket bytes, the
client. Nothing in it waits for real time, so under `trio.testing.MockClock`
an hour of heartbeats takes milliseconds.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import trio
import trio.testing
from attrs import define, field

import tercet
from tercet_broker.core import BrokerStatistics
from tercet_broker.runtime import Daemon, DaemonSettings, StreamWire, Wire, in_turn, open_daemon

_URL = "ws://memory"


@define(eq=False)
class MemoryListener:
    """A listener that is dialled from the same process.

    Attributes:
        url: names it; nothing can be reached there but through `dial`.
        path: the path that is served.
    """

    url: str = _URL
    path: str = "/"
    _dialled: tuple[trio.MemorySendChannel[trio.abc.Stream], trio.MemoryReceiveChannel[trio.abc.Stream]] = field(
        factory=lambda: trio.open_memory_channel[trio.abc.Stream](0), repr=False
    )

    async def dial(self) -> trio.abc.Stream:
        """Return the client's end of a new connection, once it was accepted.

        Raises:
            OSError: the listener is closed, as a refused connection does.
        """
        client, server = trio.testing.memory_stream_pair()
        try:
            await self._dialled[0].send(server)
        except (trio.ClosedResourceError, trio.BrokenResourceError) as error:
            raise ConnectionRefusedError(f"nothing listens at {self.url}") from error
        return client

    async def accept(self) -> Wire:
        """Return the broker's end of the next connection."""
        return StreamWire(await self._dialled[1].receive(), "memory")

    async def aclose(self) -> None:
        """Refuse connections from now on."""
        self._dialled[1].close()
        await trio.lowlevel.checkpoint()


@define(eq=False)
class MemoryBroker:
    """A running daemon that is reached through memory."""

    daemon: Daemon
    listener: MemoryListener

    def connect(
        self, *, name: str | None = None, token: str | None = None
    ) -> AbstractAsyncContextManager[tercet.Client]:
        """Return a client to be entered, as `tercet.connect` does; `name` tells it apart in the broker's logs."""
        return tercet.connect(
            self.listener.url, dial=self.listener.dial, name=name, token=token, entropy=random.Random(0)
        )

    def statistics(self) -> BrokerStatistics:
        """Return the broker's counts as they are now."""
        return self.daemon.statistics()


@asynccontextmanager
async def memory_broker(settings: DaemonSettings | None = None) -> AsyncIterator[MemoryBroker]:
    """Run a broker for the length of a block; its listeners are not opened.

    Its randomness comes from a fixed seed. The wall clock that it stamps
    messages with is the system's.
    """
    listener = MemoryListener()
    daemon = Daemon(
        settings or DaemonSettings(),
        entropy=random.Random(0),
        listeners=[listener],
        offload=in_turn,  # under a clock that jumps, a thread would be left behind in time
    )
    async with open_daemon(daemon):
        try:
            yield MemoryBroker(daemon, listener)
        finally:
            await listener.aclose()
