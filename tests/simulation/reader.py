"""An application that reads: what most scenarios are watched through."""

from __future__ import annotations

import trio
from attrs import define, field

import tercet
from tercet_protocol import Position
from tercet_testing import SimulatedClient, Simulation


@define(eq=False)
class Reader:
    """Reads a subscription in a task of its own, until stopped, and keeps what it got.

    Attributes:
        pace: virtual seconds that it takes over each message.
        position: where the subscription stood when it last got something.
    """

    client: SimulatedClient
    filter: str
    since: Position | None = None
    last: int | None = None
    retained: bool | None = None
    buffer: int = 1024
    pace: float = 0.0
    events: list[tercet.Message | tercet.Gap | tercet.Live] = field(factory=list)
    position: Position | None = None
    ended: trio.Event = field(factory=trio.Event)
    _scope: trio.CancelScope = field(factory=trio.CancelScope)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        try:
            with self._scope:
                async with self.client.subscribe(
                    self.filter, since=self.since, last=self.last, retained=self.retained, buffer=self.buffer
                ) as subscription:
                    task_status.started()
                    while True:
                        self.events.append(await subscription.next_event())
                        self.position = subscription.position
                        if self.pace:
                            await trio.sleep(self.pace)
        except tercet.ClosedError:
            pass  # its client has left
        finally:
            self.ended.set()

    async def stop(self) -> None:
        """Unsubscribe."""
        self._scope.cancel()
        await self.ended.wait()

    @property
    def messages(self) -> list[tercet.Message]:
        return [event for event in self.events if isinstance(event, tercet.Message)]

    @property
    def gaps(self) -> list[tercet.Gap]:
        return [event for event in self.events if isinstance(event, tercet.Gap)]

    @property
    def seqs(self) -> list[int]:
        return [message.seq for message in self.messages]

    @property
    def data(self) -> list[object]:
        return [message.data for message in self.messages]


async def read(
    sim: Simulation,
    client: SimulatedClient,
    filter_: str,
    *,
    since: Position | None = None,
    last: int | None = None,
    retained: bool | None = None,
    buffer: int = 1024,
    pace: float = 0.0,
) -> Reader:
    """Start a reader; return when it is subscribed."""
    reader = Reader(client, filter_, since, last, retained, buffer, pace)
    await sim.nursery.start(reader.run)
    return reader
