"""A namespace: one log with one sequence, its topics, and who is subscribed in it."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Protocol

from attrs import define, field, frozen

from tercet_protocol import (
    ErrorCode,
    Filter,
    Position,
    Publish,
    encode_delivery,
    encode_text,
    encode_text_frame,
    split_topic,
)
from tercet_protocol.topics import SEPARATOR

from .accounting import Account, AccountStatistics
from .changeover import Changeover, Hits
from .errors import RefusedError
from .fanout import FanOut
from .keys import KeyMemory, Owner
from .log import Log, Record
from .matching import FilterIndex
from .moment import Moment
from .ordered import by_seq
from .positions import PositionWatch
from .retained import RetainedValues
from .rules import Action
from .settings import HANDOVER_BYTES, HANDOVER_MESSAGES, HistorySettings, NamespaceSettings, Overflow
from .topic import Topic

if TYPE_CHECKING:
    from .outbox import Outbox

_HANDOVER = HistorySettings(messages=HANDOVER_MESSAGES, bytes=HANDOVER_BYTES)
IDLE = 600.0  # seconds after which the handover run of an unused namespace is of no use: who reconnects has done it
_SWEPT_AT_ONCE = 4096  # records, and keys, that expire in one step of the sweep
FULL_RETRY = 60.0  # seconds to wait where something is full that only its users can empty
_FORGET = b"null"  # the data that forgets a retained value


class Publisher(Protocol):
    """Who publishes: a session."""

    connection: int
    user: str | None
    outbox: Outbox
    owner: Owner


@frozen
class NamespaceStatistics:
    """A copy of a namespace's counts. Sizes are bytes."""

    name: str
    epoch: str
    head: int
    messages: int
    bytes: int
    topics: int
    retained: int
    keys: int
    subscribers: int
    account: AccountStatistics


@define(eq=False)
class Namespace:
    """One namespace. All methods are synchronous: each is one step, seen whole or not at all.

    Attributes:
        spanning: the index of the filters that span namespaces, shared by all of them.
        fan_out: where messages go from here, shared as well.
        changeover: which sessions have not complied with the rules yet, shared as well.
        conflates: whether only the newest message of each topic is queued.
    """

    name: str
    epoch: str
    settings: NamespaceSettings
    spanning: FilterIndex[Outbox] = field(repr=False)
    fan_out: FanOut = field(repr=False)
    changeover: Changeover = field(repr=False)
    keys: KeyMemory = field(repr=False)
    log: Log = field(init=False, repr=False)
    watch: PositionWatch = field(init=False, repr=False)
    conflates: bool = field(init=False)
    index: FilterIndex[Outbox] = field(factory=FilterIndex, repr=False)
    retained: RetainedValues = field(factory=RetainedValues, repr=False)
    max_retained_bytes: int = HANDOVER_BYTES  # of all namespaces together
    founder: Owner = 0  # who made it up; 0 if it is configured
    account: Account = field(factory=Account, repr=False)
    _topics: dict[str, Topic] = field(factory=dict, repr=False)
    _matched: dict[Outbox, None] = field(factory=dict, repr=False)  # who got the last topic that was looked up

    def __attrs_post_init__(self) -> None:
        """Make the parts that depend on the settings."""
        self.conflates = self.settings.policy is Overflow.CONFLATE
        self.log = Log(self.settings.history or _HANDOVER, self.settings.topics)
        self.watch = PositionWatch(self.log, lambda session: session.tell_position(self))

    def reconfigure(self, settings: NamespaceSettings) -> None:
        """Take other settings. What is now too much goes with the next message or sweep."""
        self.settings = settings
        self.log.settings = settings.history or _HANDOVER
        self.log.max_topics = settings.topics
        self.keys.resize(settings.keys)

    @property
    def has_history(self) -> bool:
        """Whether `last` and `history` see anything here."""
        return self.settings.history is not None

    @property
    def head(self) -> Position:
        """The position of the newest message."""
        return Position(self.epoch, self.log.head)

    # Publishing

    def publish(self, publish: Publish, publisher: Publisher, moment: Moment) -> tuple[int, bool]:
        """Publish, unless it is a repetition; return the seq and whether it was one.

        This is the place of the sequencer: in memory the next seq is at hand,
        so that a publish is one step from the request to every queue. A
        durable or clustered namespace will hand the publish on here and call
        `commit` when it gets an answer.

        Raises:
            RefusedError: the key was used for something else, or a bound of the namespace is reached.
        """
        key = publish.key
        if key is not None:
            owner = publisher.owner
            seq = self.keys.recall(publisher.user, key, publish.topic, bytes(publish.data), owner=owner, now=moment.now)
            if seq is not None:
                return seq, True
        if publish.retain:
            self._check_retain(publish)
        record = self.commit(publish, publisher, moment)
        if key is not None:
            self.keys.remember(
                publisher.user, key, publish.topic, bytes(publish.data), owner=owner, seq=record.seq, now=moment.now
            )
        return record.seq, False

    def _check_retain(self, publish: Publish) -> None:
        if not self.settings.retained:
            raise RefusedError(ErrorCode.UNSUPPORTED, f"namespace {self.name!r} keeps no retained values")
        if bytes(publish.data) == _FORGET:
            return
        topic, retained = self._topics.get(publish.topic), self.retained
        before = None if topic is None else topic.retained
        growth = len(bytes(publish.data)) - (0 if before is None else before.data_size)
        if before is None and len(retained) >= self.settings.topics:
            full = f"keeps {len(retained)} retained values already"
        elif growth > 0 and retained.size + growth > self.settings.retained_bytes:
            full = f"keeps {retained.size} bytes of retained values already"
        elif growth > 0 and retained.total.size + growth > self.max_retained_bytes:
            full = f"and the others keep {retained.total.size} bytes of retained values already"
        else:
            return
        raise RefusedError(
            ErrorCode.UNAVAILABLE, f"namespace {self.name!r} {full}; forget one first", retry_after=FULL_RETRY
        )

    def commit(self, publish: Publish, publisher: Publisher, moment: Moment) -> Record:
        """Give a message the next seq, append it to the log, and send it on its way to every live subscriber."""
        log = self.log
        topic = self._topics.get(publish.topic)
        if topic is None:
            topic = self._make_topic(publish.topic)
        data = publish.data
        seq = log.head + 1
        record = Record(
            topic,
            seq,
            moment.time,
            moment.now,
            encode_text_frame(encode_delivery(topic.json, seq, moment.time, data)),
            len(data),
            0 if publish.echo else publisher.connection,
            self.account,
        )
        log.append(record)
        if publish.retain:
            self._retain(topic, record)
        self._fan_out(topic, record, publisher.outbox)
        return record

    def _retain(self, topic: Topic, record: Record) -> None:
        if record.data != _FORGET:
            self.retained.keep(record)
        elif topic.retained is not None:
            self.retained.forget(topic.retained)

    def _fan_out(self, topic: Topic, record: Record, origin: Outbox) -> None:
        version = self.index.version + self.spanning.version
        if topic.version != version:
            topic.targets = self._match(topic)
            topic.version = version
        targets = topic.targets
        if record.muted and origin in targets:
            targets = {outbox: None for outbox in targets if outbox is not origin}
        if self.conflates:
            self.fan_out.replace(record, targets)
        else:
            self.fan_out.add(record, targets)
        if self.changeover.is_open and self.changeover.withhold(record, is_newest=self.conflates):
            self.spanning.invalidate()

    def _match(self, topic: Topic) -> dict[Outbox, None]:
        """Return who gets a topic's messages: the same object as for the last topic, where they are the same."""
        if self.changeover.is_open:
            matched = self.changeover.targets(topic, partial(self._hits, topic))
        else:
            matched = self.index.match(topic.levels)
            matched.update(self.spanning.match(topic.levels))
            # Each subscription lies inside what is granted; that this is so for the topic too is checked once
            # for all of its messages, here.
            matched = {
                outbox: None
                for outbox in matched
                if outbox.grants is None or outbox.grants.allows(Action.SUBSCRIBE, topic.name, topic.levels)
            }
        if matched != self._matched:
            self._matched = matched
        return self._matched

    def _hits(self, topic: Topic) -> Hits:
        """Return which filters match a topic now, and whose they are."""
        for index in (self.index, self.spanning):
            for levels, owners in index.hits(topic.levels):
                yield Filter(SEPARATOR.join(levels), levels), owners

    def _make_topic(self, name: str) -> Topic:
        topic = self._topics[name] = Topic(name, split_topic(name), encode_text(name), self._forget_topic)
        return topic

    def _forget_topic(self, topic: Topic) -> None:
        self._topics.pop(topic.name, None)

    # Reading

    def before(self, filter_: Filter, seq: int, limit: int) -> Iterator[Record]:
        """Yield what is kept before `seq` and may match, newest first, `limit` at most.

        Of a filter without wildcards only what does match; of others all that is kept.
        """
        if filter_.is_exact:
            records = self._records_of(filter_)
            end = bisect_left(records, seq, key=by_seq)
            for place in range(end - 1, max(end - limit, 0) - 1, -1):
                yield records[place]
            return
        for record in self.log.before(seq, limit):
            limit, seq = limit - 1, record.seq
            yield record
        yield from self.log.beyond.before(seq, limit)

    def beyond_run(self, filter_: Filter, after: int, through: int, limit: int) -> list[Record]:
        """Return what topics keep of (after, through] and may match, oldest first, `limit` at most.

        `through` is older than the run.
        """
        if filter_.is_exact:
            records = self._records_of(filter_)
            begin = bisect_right(records, after, key=by_seq)
            found = [records[place] for place in range(begin, min(begin + limit, len(records)))]
        else:
            found = self.log.beyond.after(after, limit)
        return found[: bisect_right(found, through, key=by_seq)]

    def retained_values(self, filter_: Filter, after: int, through: int, limit: int) -> list[Record]:
        """Return the retained values of (after, through] that may match, oldest first, `limit` at most."""
        if filter_.is_exact:
            topic = self._topics.get(filter_.text)
            found = [] if topic is None or topic.retained is None or topic.retained.seq <= after else [topic.retained]
        else:
            found = self.retained.records.after(after, limit)
        return found[: bisect_right(found, through, key=by_seq)]

    def _records_of(self, filter_: Filter) -> deque[Record]:
        """Return what is kept of the one topic that a filter without wildcards matches."""
        topic = self._topics.get(filter_.text)
        return deque() if topic is None else topic.records

    def retained_of(self, filter_: Filter) -> bool:
        """Tell whether a snapshot for `filter_` could find anything."""
        if filter_.is_exact:
            topic = self._topics.get(filter_.text)
            return topic is not None and topic.retained is not None
        return len(self.retained) > 0

    # Housekeeping

    def sweep(self, now: float, head: int) -> bool:
        """Let go of what is too old by `now`, and tell positions that are due; return whether there are more."""
        is_late = self.log.expire(now, _SWEPT_AT_ONCE)
        is_late = self.keys.expire(now, _SWEPT_AT_ONCE) or is_late
        return self.watch.look(now, head) or is_late

    def is_forgettable(self, now: float) -> bool:
        """Tell whether the namespace may cease to exist: it is unused, and what it keeps would help nobody."""
        if not self.index.is_empty or len(self.watch) or len(self.retained) or len(self.keys) or self.account.queued:
            return False
        if not self._topics:
            return True
        return not self.has_history and now - self.log[self.log.head].at >= IDLE

    def statistics(self) -> NamespaceStatistics:
        """Return the counts as they are now."""
        return NamespaceStatistics(
            name=self.name,
            epoch=self.epoch,
            head=self.log.head,
            messages=len(self.log),
            bytes=self.log.size,
            topics=len(self._topics),
            retained=len(self.retained),
            keys=len(self.keys),
            subscribers=len(self.watch),
            account=self.account.statistics(),
        )
