"""The client: what an application connects, publishes and subscribes with."""

from __future__ import annotations

import random
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import trio
from attrs import define, frozen

import tercet_protocol as protocol
from tercet_protocol import HistoryReply, PongEvent, Position, parse_filter

from ._address import parse_address
from ._buffer import Buffer
from ._errors import ClosedSubscriptionError
from ._feed import Feed
from ._message import Gap, HistoryPage, Published, gap_from, message_from
from ._pipeline import Pipeline
from ._room import Room
from ._session import Session
from ._subscription import Subscription
from ._supervisor import Dial, Supervisor, Token

_BUFFER_BYTES = 8 * 2**20  # of one subscription
_PENDING_BYTES = 32 * 2**20  # of all publishes in flight


@frozen
class Statistics:
    """A client at one moment.

    Attributes:
        connected: whether there is a connection.
        connections: how many there were, this one included.
        subscriptions: how many there are.
        received: messages that came over the wire, repeats included.
        buffered: messages that wait for the application.
        gaps: of the subscriptions there are.
        published: publishes that the broker has acknowledged.
        outstanding: publishes whose outcome is not known.
        resent: how often a publish was sent again.
        queued: bytes that wait to be written to the connection.
    """

    connected: bool
    connections: int
    subscriptions: int
    received: int
    buffered: int
    gaps: int
    published: int
    outstanding: int
    resent: int
    queued: int


@define(eq=False)
class Client:
    """A connection to a broker that mends itself. Made by `connect()`, of use within its block.

    Tasks may share it. Every method raises `BrokenClientError` once the client
    has stopped for good, and `ClosedClientError` once its block is left.
    """

    _session: Session
    _supervisor: Supervisor
    _buffer: int
    _on_gap: Callable[[Gap], None] | None

    @property
    def connected(self) -> bool:
        """Whether there is a connection at this moment."""
        return self._session.link is not None

    async def wait_connected(self) -> None:
        """Return once there is a connection, at once if there is one."""
        await self._session.wait_connected()

    async def publish(  # noqa: PLR0913 - one option for each field of the wire
        self,
        topic: str,
        data: object,
        *,
        retain: bool = False,
        echo: bool = True,
        key: str | None = None,
        keyed: bool = True,
    ) -> Published:
        """Publish one message and return where it stands, once the broker has it.

        Without a connection it waits for one. If the connection breaks, it is
        sent again under its key, which the broker publishes once.

        Cancelled, it may have been published or not, and is not sent again.

        Args:
            topic: one to sixteen levels, as in "prices/AAPL".
            data: what JSON can hold, or a `Raw`, which is passed on byte for byte.
            retain: keep it as the topic's last value; with None, forget that.
            echo: whether this client's own subscriptions get it.
            key: 16 to 64 characters that make it safe to repeat, from one
                process to the next; random where not given.
            keyed: with False and no `key` it is sent without one: then it is
                not sent again if the connection breaks, but spares the broker
                to remember a key (how many it does is configured).

        Raises:
            RefusedError: the broker refused it; nothing was published.
            OutcomeUnknownError: it was sent, and there was no connection again
                before the broker forgot its key (300 s unless configured); or
                the connection broke, and it had no key.
            ValueError: `data` has no JSON form, or `key` is no key.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        self._session.check()
        publisher = self._session.publisher
        entry = publisher.prepare(topic, data, retain=retain, echo=echo, key=key, keyed=keyed)
        return await publisher.publish(entry)

    def pipeline(self, window: int = 256, *, keyed: bool = True) -> Pipeline:
        """Return an async context manager for publishing in bulk, with `window` outcomes open at most.

        A broker remembers so many keys of a namespace (100,000 unless
        configured) and refuses further ones as `unavailable`. Who publishes
        more than that in `limits.key_seconds` takes `keyed=False`, and with it
        an `OutcomeUnknownError` if the connection breaks.
        """
        if window < 1:
            raise ValueError(f"a pipeline's window is 1 or more, not {window}")
        return Pipeline(self._session.publisher, Room(window, _PENDING_BYTES), keyed)

    @asynccontextmanager
    async def subscribe(  # noqa: PLR0913 - one option for each field of the wire
        self,
        filter: str,  # noqa: A002 - the wire's word
        *,
        since: Position | str | None = None,
        last: int | None = None,
        retained: bool | None = None,
        buffer: int | None = None,
        on_gap: Callable[[Gap], None] | None = None,
    ) -> AsyncIterator[Subscription]:
        """Subscribe for the length of a block.

        Entering waits until the broker has accepted it, also over a
        reconnection. Leaving tells the broker but waits for nothing, so it is
        the same when cancelled.

        Args:
            filter: a topic, in which a level may be "+" and the last one "#".
            since: begin after this position, a `Position` or "EPOCH:SEQ".
            last: begin with so many of the newest kept messages.
            retained: whether to begin with the topics' last values; by
                default yes within a namespace, unless `since` is recovered.
            buffer: how many messages may wait for you, 1 or more.
            on_gap: called, in the task that reads, with each gap that
                `receive` or the iteration comes to.

        Raises:
            RefusedError: the broker refused it.
            ValueError: the filter breaks the grammar (`InvalidFilterError`),
                or the options exclude each other.
        """
        parsed = parse_filter(filter)
        if since is not None and last is not None:
            raise ValueError("a subscription begins at `since` or with the `last` messages, not both")
        if last is not None and last < 0:
            raise ValueError(f"`last` is 0 or more, not {last}")
        if parsed.namespace is None and (since is not None or last is not None or retained):
            raise ValueError(f"{filter!r} spans namespaces: it is live only, without since, last or retained")
        size = self._buffer if buffer is None else buffer
        if size < 1:
            raise ValueError(f"a buffer takes 1 message or more, not {size}")
        start = Position.parse(since) if isinstance(since, str) else since
        self._session.check()
        registry = self._session.registry
        feed = Feed(parsed, start, last, retained, Buffer(size, _BUFFER_BYTES), registry.resume)
        registry.add(feed)
        try:
            await feed.entered.wait()
            feed.check_entered()
            yield Subscription(feed, self._on_gap if on_gap is None else on_gap)
        finally:
            registry.remove(feed)
            feed.close(lambda: ClosedSubscriptionError(f"the subscription to {filter!r} was closed"))

    async def history(
        self,
        filter: str,  # noqa: A002 - the wire's word
        *,
        since: Position | str | None = None,
        limit: int | None = None,
    ) -> HistoryPage:
        """Return a page of the log: after `since`, or without it the newest.

        The broker bounds a page; read on with `since=page.next` while
        `page.more`. Cancelled, it leaves nothing behind.

        Raises:
            RefusedError: the broker refused it.
            ValueError: the filter, `since` or `limit` is no such thing.
        """
        namespace = parse_filter(filter).namespace
        if limit is not None and limit < 1:
            raise ValueError(f"a page has 1 message or more, not {limit}")
        start = Position.parse(since) if isinstance(since, str) else since
        await trio.lowlevel.checkpoint_if_cancelled()
        request = protocol.History(filter=filter, since=start, limit=limit)
        reply, _ = await self._session.calls.ask(request, HistoryReply)
        if not isinstance(reply, HistoryReply):
            raise TypeError("a history was answered with something else")
        messages = tuple(message_from(message, reply.next.epoch) for message in reply.messages)
        gap = None if reply.gap is None else gap_from(reply.gap, namespace)
        return HistoryPage(messages, reply.next, reply.head, reply.more, gap, reply.since)

    async def ping(self) -> float:
        """Return the seconds that the broker takes to answer. Cancelled, it leaves nothing behind."""
        await trio.lowlevel.checkpoint_if_cancelled()
        _, seconds = await self._session.calls.ask(protocol.Ping(), PongEvent)
        return seconds

    def statistics(self) -> Statistics:
        """Return how things stand."""
        session = self._session
        feeds = session.registry.feeds
        return Statistics(
            connected=self.connected,
            connections=session.connections,
            subscriptions=len(feeds),
            received=session.received,
            buffered=sum(feed.buffer.messages for feed in feeds),
            gaps=sum(feed.gaps for feed in feeds),
            published=session.publisher.published,
            outstanding=len(session.publisher),
            resent=session.publisher.resent,
            queued=self._supervisor.queued,
        )


@asynccontextmanager
async def connect(  # noqa: PLR0913 - each is one decision of the application's
    url: str,
    *,
    token: Token | None = None,
    insecure: bool = False,
    name: str | None = None,
    dial: Dial | None = None,
    ssl_context: ssl.SSLContext | None = None,
    entropy: random.Random | None = None,
    wait: bool = False,
    buffer: int = 1024,
    pending: int = 1024,
    connect_timeout: float = 10.0,
    close_timeout: float = 2.0,
    on_gap: Callable[[Gap], None] | None = None,
) -> AsyncIterator[Client]:
    """Connect to a broker for the length of a block, and stay connected.

    Leaving the block closes the WebSocket within `close_timeout` seconds, also
    when cancelled. What other tasks still wait for raises `ClosedClientError`.

    Args:
        url: ws://host[:port][/path], wss://… or ws+unix:///path/of/the/socket.
        token: what the broker knows you by, or a function, sync or async, that
            returns one. The function is asked at first; before the token
            ends, for the next one; and, once, when the broker does not take
            the token any more.
        insecure: allows a token to go over ws:// to another machine, readable
            for everyone on the way.
        name: what the broker's log is to call you, as in "ticker/1.0".
        dial: returns a stream to the broker, in place of connecting to `url`.
        ssl_context: for wss://; the system's certificates where not given.
        entropy: for waits, keys and masks; the operating system's by default.
        wait: keep trying if the first attempt fails.
        buffer: how many messages of a subscription may wait for you.
        pending: how many publishes may be in flight; further ones wait.
        connect_timeout: seconds for one attempt, from dialling to `connected`.
        close_timeout: seconds that saying goodbye may take.
        on_gap: for subscriptions that have no `on_gap` of their own.

    Raises:
        CannotConnectError: the first attempt failed, or, with `wait`, an
            attempt that it would be pointless to repeat.
        ValueError: the URL or an option is no such thing.
    """
    address = parse_address(url)
    if token is not None and dial is None and not (insecure or address.is_private):
        raise ValueError(f"a token sent to {url!r} could be read on the way; use wss://, or say insecure=True")
    if buffer < 1 or pending < 1:
        raise ValueError("`buffer` and `pending` are 1 or more")
    source = random.SystemRandom() if entropy is None else entropy  # noqa: TID251 - the parameter's default
    session = Session(source, pending, _PENDING_BYTES)
    supervisor = Supervisor(
        session, address, dial, ssl_context, token, name, source, wait, connect_timeout, close_timeout
    )
    raised: BaseException | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervisor.run)
        try:
            await session.wait_connected()
            yield Client(session, supervisor, buffer, on_gap)
        except trio.Cancelled:
            raise
        except BaseException as error:  # noqa: BLE001 - raised again below
            # Past the nursery, which would wrap it into a group.
            raised = error
        finally:
            nursery.cancel_scope.cancel()
    if raised is not None:
        try:
            raise raised
        finally:
            del raised  # it holds this frame
