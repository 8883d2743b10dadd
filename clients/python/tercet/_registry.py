"""The client's subscriptions: which message goes to which, and what the broker is told of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from attrs import define, field

import tercet_protocol as protocol
from tercet_protocol import ErrorCode

from ._errors import BrokenSubscriptionError, RefusedError, TercetError
from ._feed import Feed, Stage
from ._link import Link
from ._message import Message, message_from

_MAX_CACHED_TOPICS = 4096  # a few hundred KiB; beyond that it starts anew

_TRANSIENT = (ErrorCode.UNAVAILABLE, ErrorCode.RATE_LIMITED)


@define(eq=False)
class Registry:
    """Routes the broker's events to subscriptions. Sync throughout."""

    _ids: Iterator[int]
    _feeds: dict[Feed, None] = field(factory=dict, init=False)  # in order of creation
    _by_id: dict[int, Feed] = field(factory=dict, init=False)
    _routes: dict[str, tuple[Feed, ...]] = field(factory=dict, init=False)  # {topic: live feeds}
    _link: Link | None = field(default=None, init=False)

    def __len__(self) -> int:
        return len(self._feeds)

    @property
    def feeds(self) -> tuple[Feed, ...]:
        """All subscriptions, the oldest first."""
        return tuple(self._feeds)

    def add(self, feed: Feed) -> None:
        """Take on a subscription; it is requested now, or once there is a connection."""
        self._feeds[feed] = None
        if self._link is not None:
            self._request(feed)

    def remove(self, feed: Feed) -> None:
        """Forget a subscription, and have the broker forget it."""
        self._feeds.pop(feed, None)
        self._unsubscribe(feed)

    @property
    def is_pressed(self) -> bool:
        """Whether some application is behind with reading."""
        return any(feed.is_pressed for feed in self._by_id.values())

    @property
    def is_waiting(self) -> bool:
        """Whether some subscription waits for the broker's answer."""
        return any(feed.stage is Stage.REQUESTED for feed in self._by_id.values())

    def resume(self, feed: Feed) -> None:
        """Read on, and subscribe again after a step back: an application has caught up."""
        if self._link is not None:
            self._link.ease()
        if feed.stage is Stage.PAUSED:
            feed.stage = Stage.WAITING
            if self._link is not None:
                self._request(feed)

    def attach(self, link: Link) -> None:
        """Subscribe again over a new connection, each in its place."""
        self._link = link
        for feed in self._feeds:
            if feed.stage is Stage.WAITING:
                self._request(feed)

    def detach(self) -> None:
        """Note that the connection has ended."""
        self._link = None
        self._by_id.clear()
        self._routes.clear()
        for feed in self._feeds:
            feed.detach()

    def stop(self, error: Callable[[], TercetError], *, at_once: bool) -> None:
        """End all subscriptions; unless `at_once`, what is buffered is handed out first."""
        self.detach()
        for feed in self._feeds:
            (feed.close if at_once else feed.end)(error)
        self._feeds.clear()

    # Events

    def delivered(self, event: protocol.Message) -> int:
        """Route a message; return to how many subscriptions it went."""
        if event.sub is not None:
            feed = self._by_id.get(event.sub)
            if feed is None or feed.stage is not Stage.REPLAYING:
                return 0
            if not feed.replayed(message_from(event, feed.epoch)):
                self._step_back(feed)
            self._hold_for(feed)
            return 1
        feeds = self._routes.get(event.topic)
        if feeds is None:
            feeds = self._route(event.topic)
        message: Message | None = None
        for feed in feeds:
            if message is None or message.epoch != feed.epoch:
                message = message_from(event, feed.epoch)
            if not feed.delivered(message):
                self._step_back(feed)
            self._hold_for(feed)
        return len(feeds)

    def subscribed(self, event: protocol.Subscribed) -> None:
        """Take in the reply to a subscribe."""
        feed = self._by_id.get(event.id or 0)
        if feed is not None and feed.stage is Stage.REQUESTED:
            feed.subscribed(event)
            self._routes.clear()

    def went_live(self, event: protocol.Live) -> None:
        """Take in the end of a replay."""
        feed = self._by_id.get(event.sub)
        if feed is not None and feed.stage is Stage.REPLAYING:
            feed.went_live(event.seq)
            self._routes.clear()

    def lost(self, event: protocol.Gap) -> None:
        """Take in a gap: of one subscription, or of all in a namespace and those that span it."""
        if event.sub is not None:
            feed = self._by_id.get(event.sub)
            concerned = [] if feed is None else [feed]
        else:
            concerned = [feed for feed in self._by_id.values() if _reads(feed, event.namespace)]
        for feed in concerned:
            if feed.stage in (Stage.REPLAYING, Stage.LIVE) and not feed.lost(event):
                self._step_back(feed)

    def noticed(self, event: protocol.PositionEvent) -> None:
        """Take in how far a namespace was sent."""
        for feed in self._by_id.values():
            if feed.stage is Stage.LIVE and feed.filter.namespace == event.namespace:
                feed.noticed(event)

    def unsubscribed(self, event: protocol.Unsubscribed) -> None:
        """Take in that the broker ended a subscription."""
        feed = self._by_id.pop(event.sub or 0, None)
        if feed is None:
            return
        code, text = event.code or ErrorCode.INTERNAL.value, event.message or ""
        self._lose(feed, lambda: BrokenSubscriptionError(code, text))

    def refused(self, event: protocol.Error) -> bool:
        """Take in an error; return False if it is not for a subscription."""
        feed = self._by_id.pop(event.id or 0, None)
        if feed is None:
            return False
        link = self._link
        if link is not None and link.is_draining and event.code == ErrorCode.UNAVAILABLE:
            feed.detach()  # the next connection will have it
        elif link is not None and feed.entered.is_set() and event.code in _TRANSIENT and event.retry_after:
            feed.detach()
            link.later(event.retry_after, lambda: self._retry(feed))
        else:
            self._lose(feed, lambda: RefusedError(event.code, event.message, event.retry_after))
        return True

    # Within

    def _request(self, feed: Feed) -> None:
        if self._link is None:
            return
        id_ = next(self._ids)
        self._by_id[id_] = feed
        self._link.send(protocol.encode(feed.request(id_)))

    def _retry(self, feed: Feed) -> None:
        if feed in self._feeds and feed.stage is Stage.WAITING:
            self._request(feed)

    def _unsubscribe(self, feed: Feed) -> None:
        self._routes.clear()
        if self._by_id.pop(feed.id, None) is not None and self._link is not None:
            self._link.send(protocol.encode(protocol.Unsubscribe(sub=feed.id)))

    def _hold_for(self, feed: Feed) -> None:
        if self._link is not None and feed.is_pressed:
            self._link.hold()

    def _step_back(self, feed: Feed) -> None:
        """Stop a subscription whose buffer is full, for now: the broker's log holds the rest.

        The reader of the socket must never wait for the application, or
        `async for …: await client.publish(…)` would wait for itself.
        """
        self._unsubscribe(feed)
        feed.pause()

    def _lose(self, feed: Feed, error: Callable[[], TercetError]) -> None:
        self._feeds.pop(feed, None)
        self._routes.clear()
        feed.end(error)

    def _route(self, topic: str) -> tuple[Feed, ...]:
        live = (feed for feed in self._by_id.values() if feed.stage is Stage.LIVE)
        feeds = tuple(feed for feed in live if feed.filter.matches(topic))
        if len(self._routes) >= _MAX_CACHED_TOPICS:
            self._routes.clear()
        self._routes[topic] = feeds
        return feeds


def _reads(feed: Feed, namespace: str | None) -> bool:
    mine = feed.filter.namespace
    if mine is None:
        return namespace is None or not protocol.is_reserved(namespace)
    return mine == namespace
