"""What the clients of a run did and got, in the order in which it happened. The checker judges it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import trio
from attrs import define, field

import tercet
from tercet_protocol import Position, to_json

from .checker import IncorrectHistoryError, Violation, check
from .events import (
    Acked,
    Delivered,
    Event,
    Failed,
    GapTold,
    Granted,
    Left,
    LiveTold,
    Publishing,
    Revoked,
    Subscribed,
    Subscribing,
    Unsubscribed,
)


@define(eq=False)
class History:
    """The events of one run. `number` tells a client's publishes, and its subscriptions, apart.

    Attributes:
        now: returns the present time in seconds.
        conflating: the namespaces in which a newer value may replace a queued one.
    """

    now: Callable[[], float] = trio.current_time
    events: list[Event] = field(factory=list)
    conflating: frozenset[str] = frozenset()
    _numbers: int = 0

    def __iter__(self) -> Iterator[Event]:
        return iter(self.events)

    def _next(self) -> int:
        self._numbers += 1
        return self._numbers

    # The judgement

    def check(self, *, key_seconds: float = 300.0, quiet: bool = False) -> list[Violation]:
        """Return what is wrong with it; see `tercet_testing.checker.check`."""
        return check(self.events, key_seconds=key_seconds, quiet=quiet, conflating=self.conflating)

    def assert_correct(self, *, key_seconds: float = 300.0, quiet: bool = False) -> None:
        """Demand that nothing is wrong with it.

        Raises:
            IncorrectHistoryError: says what is.
        """
        violations = self.check(key_seconds=key_seconds, quiet=quiet)
        if violations:
            raise IncorrectHistoryError(violations)

    # What is recorded

    def publishing(  # noqa: PLR0913 - what `publish` takes
        self, client: str, topic: str, data: object, *, retain: bool, key: str | None, echo: bool = True
    ) -> int:
        """Note that a publish begins; return its number."""
        number = self._next()
        raw = bytes(data) if isinstance(data, tercet.Raw) else bytes(to_json(data))
        self.events.append(Publishing(self.now(), client, number, topic, raw, retain, key, echo))
        return number

    def acked(self, client: str, number: int, published: tercet.Published) -> None:
        """Note what a publish returned."""
        self.events.append(Acked(self.now(), client, number, published.position, published.duplicate))

    def failed(self, client: str, number: int, error: Exception) -> None:
        """Note what a publish raised."""
        refused = isinstance(error, tercet.RefusedError)
        self.events.append(Failed(self.now(), client, number, repr(error), refused))

    def subscribing(
        self,
        client: str,
        filter_: str,
        *,
        since: Position | str | None,
        last: int | None,
        retained: bool | None = None,
    ) -> int:
        """Note that a subscription is asked for; return its number."""
        number = self._next()
        start = Position.parse(since) if isinstance(since, str) else since
        self.events.append(Subscribing(self.now(), client, number, filter_, start, last, retained))
        return number

    def subscribed(self, client: str, number: int) -> None:
        """Note that a subscription was accepted."""
        self.events.append(Subscribed(self.now(), client, number))

    def told(self, client: str, number: int, event: tercet.Message | tercet.Gap | tercet.Live) -> None:
        """Note what the application was handed."""
        now = self.now()
        match event:
            case tercet.Message():
                raw = bytes(event.raw)
                self.events.append(
                    Delivered(now, client, number, event.topic, event.seq, event.epoch, raw, event.retained)
                )
            case tercet.Gap():
                span = (event.namespace, event.epoch, event.after, event.through)
                self.events.append(GapTold(now, client, number, *span, str(event.reason)))
            case tercet.Live():
                self.events.append(LiveTold(now, client, number, event.position))

    def unsubscribed(self, client: str, number: int) -> None:
        """Note that a subscription ended."""
        self.events.append(Unsubscribed(self.now(), client, number))

    def revoked(self, client: str, filter_: str) -> None:
        """Note that a client may not be handed what is published there from now on."""
        self.events.append(Revoked(self.now(), client, filter_))

    def granted(self, client: str, filter_: str) -> None:
        """Note that it may again."""
        self.events.append(Granted(self.now(), client, filter_))

    def left(self, client: str) -> None:
        """Note that a client has ended."""
        self.events.append(Left(self.now(), client))
