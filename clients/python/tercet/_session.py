"""What outlives a connection: subscriptions, publishes and calls, and whether there is one."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable

import trio
from attrs import define, field

import tercet_protocol as protocol

from ._calls import Calls
from ._errors import TercetError
from ._link import Link
from ._publisher import Publisher
from ._registry import Registry
from ._room import Room


@define(eq=False)
class Session:
    """Gives each event to the one that it concerns. Sync, but for waiting until it is connected."""

    _entropy: random.Random
    _pending: int
    _pending_bytes: int
    # One counter for all requests of the client's life: a publish keeps its
    # id, and with it its bytes, across connections.
    ids: itertools.count[int] = field(factory=lambda: itertools.count(1), init=False)
    registry: Registry = field(init=False)
    publisher: Publisher = field(init=False)
    calls: Calls = field(init=False)
    received: int = field(default=0, init=False)
    connections: int = field(default=0, init=False)
    link: Link | None = field(default=None, init=False)
    _error: Callable[[], TercetError] | None = field(default=None, init=False)
    _waiting: trio.lowlevel.ParkingLot = field(factory=trio.lowlevel.ParkingLot, init=False)

    def __attrs_post_init__(self) -> None:
        self.registry = Registry(self.ids)
        self.publisher = Publisher(self.ids, self._entropy, Room(self._pending, self._pending_bytes))
        self.calls = Calls(self.ids)

    @property
    def may_pause(self) -> bool:
        """Whether reading may wait for an application that is behind: nobody else waits for an answer."""
        return self.registry.is_pressed and not (self.registry.is_waiting or len(self.publisher) or len(self.calls))

    def attach(self, link: Link) -> None:
        """Take up everything over a connection that the broker has accepted."""
        self.link = link
        self.connections += 1
        self.registry.attach(link)
        self.publisher.attach(link)
        self.calls.attach(link)
        self._waiting.unpark_all()

    def detach(self) -> None:
        """Note that the connection has ended; what is open waits for the next."""
        self.link = None
        self.registry.detach()
        self.publisher.detach()
        self.calls.detach()

    def stop(self, error: Callable[[], TercetError], *, at_once: bool = False) -> None:
        """Let everything that waits, and every later call, have `error()`. The first call counts."""
        if self._error is not None:
            return
        self._error = error
        self.link = None
        self.registry.stop(error, at_once=at_once)
        self.publisher.stop(error)
        self.calls.stop(error)
        self._waiting.unpark_all()

    def check(self) -> None:
        """Raise why the client is of no use any more, if it is not."""
        if self._error is not None:
            raise self._error()

    async def wait_connected(self) -> None:
        """Return once there is a connection; raise if there will be none."""
        await trio.lowlevel.checkpoint()
        while self.link is None:
            self.check()
            await self._waiting.park()
        self.check()

    def handle(self, event: protocol.AnyEvent) -> None:  # noqa: C901 - a routing table
        """Route one event; what concerns nobody is ignored."""
        match event:
            case protocol.Message():
                self.received += 1
                self.registry.delivered(event)
            case protocol.Published():
                self.publisher.accepted(event)
            case protocol.Subscribed():
                self.registry.subscribed(event)
            case protocol.Live():
                self.registry.went_live(event)
            case protocol.Gap():
                self.registry.lost(event)
            case protocol.PositionEvent():
                self.registry.noticed(event)
            case protocol.Unsubscribed():
                self.registry.unsubscribed(event)
            case protocol.HistoryReply() | protocol.PongEvent():
                self.calls.answered(event)
            case protocol.Error():
                for part in (self.publisher, self.registry, self.calls):
                    if part.refused(event):
                        break
            case _:
                pass
