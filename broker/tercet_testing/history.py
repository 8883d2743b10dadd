"""What the clients of a run did and got, in the order in which it happened. The checker judges it."""

from __future__ import annotations

from collections.abc import Callable

import trio
from attrs import define, field, frozen

import tercet
from tercet_protocol import Position, to_json


@frozen
class Publishing:
    """A publish began."""

    at: float
    client: str
    number: int
    topic: str
    data: bytes
    retain: bool
    key: str | None


@frozen
class Acked:
    """A publish was acknowledged."""

    at: float
    client: str
    number: int
    position: Position
    duplicate: bool


@frozen
class Failed:
    """A publish raised: it was refused, or its outcome is unknown."""

    at: float
    client: str
    number: int
    error: str


@frozen
class Subscribed:
    """A subscription began."""

    at: float
    client: str
    number: int
    filter: str
    since: Position | None
    last: int | None


@frozen
class Delivered:
    """The application was handed a message; `epoch` is None where a filter spans namespaces."""

    at: float
    client: str
    number: int
    topic: str
    seq: int
    epoch: str | None
    data: bytes
    retained: bool


@frozen
class GapTold:
    """The application was told of a gap."""

    at: float
    client: str
    number: int
    namespace: str | None
    epoch: str | None
    after: int | None
    through: int | None
    reason: str


@frozen
class Unsubscribed:
    """A subscription ended."""

    at: float
    client: str
    number: int


Event = Publishing | Acked | Failed | Subscribed | Delivered | GapTold | Unsubscribed


@define(eq=False)
class History:
    """The events of one run. `number` tells a client's publishes, and its subscriptions, apart.

    Attributes:
        now: returns the present time in seconds.
    """

    now: Callable[[], float] = trio.current_time
    events: list[Event] = field(factory=list)
    _numbers: int = 0

    def _next(self) -> int:
        self._numbers += 1
        return self._numbers

    def publishing(self, client: str, topic: str, data: object, *, retain: bool, key: str | None) -> int:
        """Note that a publish begins; return its number."""
        number = self._next()
        raw = bytes(data) if isinstance(data, tercet.Raw) else bytes(to_json(data))
        self.events.append(Publishing(self.now(), client, number, topic, raw, retain, key))
        return number

    def acked(self, client: str, number: int, published: tercet.Published) -> None:
        """Note what a publish returned."""
        self.events.append(Acked(self.now(), client, number, published.position, published.duplicate))

    def failed(self, client: str, number: int, error: Exception) -> None:
        """Note what a publish raised."""
        self.events.append(Failed(self.now(), client, number, repr(error)))

    def subscribed(self, client: str, filter_: str, *, since: Position | str | None, last: int | None) -> int:
        """Note that a subscription began; return its number."""
        number = self._next()
        start = Position.parse(since) if isinstance(since, str) else since
        self.events.append(Subscribed(self.now(), client, number, filter_, start, last))
        return number

    def delivered(self, client: str, number: int, message: tercet.Message) -> None:
        """Note a message that the application was handed."""
        self.events.append(
            Delivered(
                self.now(),
                client,
                number,
                message.topic,
                message.seq,
                message.epoch,
                bytes(message.raw),
                message.retained,
            )
        )

    def gap(self, client: str, number: int, gap: tercet.Gap) -> None:
        """Note a gap that the application was told of."""
        self.events.append(
            GapTold(self.now(), client, number, gap.namespace, gap.epoch, gap.after, gap.through, str(gap.reason))
        )

    def unsubscribed(self, client: str, number: int) -> None:
        """Note that a subscription ended."""
        self.events.append(Unsubscribed(self.now(), client, number))
