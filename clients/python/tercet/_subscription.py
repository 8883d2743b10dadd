"""What the application reads from."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from typing import Self, assert_never

from attrs import define

from tercet_protocol import Position

from ._feed import Feed
from ._message import Gap, Live, Message

logger = logging.getLogger("tercet")


@define(eq=False)
class Events:
    """Iterates over everything that happens on a subscription, in order."""

    _feed: Feed

    def __aiter__(self) -> AsyncIterator[Message | Gap | Live]:
        return self

    async def __anext__(self) -> Message | Gap | Live:
        return await self._feed.next()


@define(eq=False)
class Subscription:
    """A subscription, made by `client.subscribe()` and of use within its block.

    Two ways to read, of the same buffer:

    | | `async for message in subscription`, `receive()` | `events()` |
    |---|---|---|
    | gives | `Message` | `Message`, `Gap`, `Live` |
    | a gap | is handed to `on_gap`, or logged as a warning | is given in its place |
    | the end of the replay | is not told | is given as `Live` |

    Several tasks may read; each message goes to one of them.
    """

    _feed: Feed
    _on_gap: Callable[[Gap], None] | None

    @property
    def filter(self) -> str:
        """What it is subscribed to."""
        return self._feed.filter.text

    @property
    def position(self) -> Position | None:
        """Through which the application has been handed everything; None while nothing is known.

        To store it once a message has been handled, and to subscribe with it
        as `since` in another process, loses and repeats nothing. It is None
        until the first message of the log or the end of the replay (retained
        values do not count), and always where the filter spans namespaces.
        """
        return self._feed.position

    @property
    def gaps(self) -> int:
        """How many gaps there were, those still in the buffer included."""
        return self._feed.gaps

    @property
    def buffered(self) -> int:
        """How many messages wait in the buffer."""
        return self._feed.buffer.messages

    async def receive(self) -> Message:
        """Return the next message, waiting for it.

        Cancelled, it has taken nothing.

        Raises:
            RefusedError: after a reconnection the broker refused to subscribe again.
            BrokenSubscriptionError: the broker ended the subscription.
            BrokenClientError: the client stopped for good.
            ClosedSubscriptionError, ClosedClientError: the block was left.
            Whatever `on_gap` raises.

        What is buffered is handed out before an error, unless you closed it.
        """
        while True:
            event = await self._feed.next()
            match event:
                case Message():
                    return event
                case Gap():
                    self._report(event)
                case Live():
                    pass
                case _:
                    assert_never(event)

    def events(self) -> AsyncIterator[Message | Gap | Live]:
        """Iterate over messages, gaps and `Live`, in order. Raises what `receive` raises."""
        return Events(self._feed)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Message:
        return await self.receive()

    def _report(self, gap: Gap) -> None:
        if self._on_gap is not None:
            self._on_gap(gap)
        else:
            logger.warning("messages may be missing from %r: %s", self.filter, gap)
