"""What a history proves of the broker's log: which message stands where, and since when it can.

Time is the place of an event in the history. A publish took effect somewhere
between its beginning and its end, or never if it has no ack; what was
delivered took effect before that. Nothing else is known, so a rule may only
say of two things that one came first if one ended before the other began.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterable, Iterator
from typing import assert_never

from attrs import define, field, frozen

from ..events import (
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
    Told,
    Unsubscribed,
)

Place = tuple[str, str, int]  # namespace, epoch, seq
Sequence = tuple[str, str]  # namespace, epoch


def namespace_of(topic: str) -> str:
    """Return the namespace of a topic."""
    return topic.partition("/")[0]


@define(eq=False)
class Publish:
    """One publish and its outcome.

    Attributes:
        begun: when, as a place in the history.
        ack: None as long as the outcome is not known, and if the ack cannot be true.
        acked: when.
    """

    begun: int
    event: Publishing
    ack: Acked | None = None
    acked: int = -1
    failed: Failed | None = None

    @property
    def namespace(self) -> str:
        """Where it goes."""
        return namespace_of(self.event.topic)

    @property
    def is_refused(self) -> bool:
        """Whether the broker said that it did nothing."""
        return self.failed is not None and self.failed.refused

    @property
    def identity(self) -> tuple[str, str, bytes] | None:
        """What makes another publish a repetition of this one; None without a key."""
        event = self.event
        return None if event.key is None else (event.key, event.topic, event.data)

    def is_acked_in(self, epoch: str) -> bool:
        """Tell whether its place in this epoch is known."""
        return self.ack is not None and self.ack.position.epoch == epoch


@define(eq=False)
class Fact:
    """A message that stood in the log.

    Attributes:
        begun: it was not published before; -1 if that is not known.
        acked: when it was first acknowledged; None if it is known from deliveries alone.
        makers: the publishes one of which it came from.
        proof: the first event that shows it.
    """

    place: Place
    topic: str
    data: bytes
    begun: int
    acked: int | None
    makers: list[Publish]
    proof: Event

    @property
    def seq(self) -> int:
        """Its place in the sequence."""
        return self.place[2]

    @property
    def is_retained(self) -> bool:
        """Whether it certainly became its topic's last value, or made the broker forget that."""
        return bool(self.makers) and all(maker.event.retain for maker in self.makers)

    def is_muted_for(self, client: str) -> bool:
        """Tell whether this client may have published it with `echo: false`."""
        return any(maker.event.client == client and not maker.event.echo for maker in self.makers)


@define(eq=False)
class Subscription:
    """One subscription and everything that it was told.

    Attributes:
        asked, accepted, ended: when, as places in the history; None for never.
        told: [(when, what)], what came after its end included.
        is_abandoned: whether its client has left, so that nobody reads.
    """

    asked: int
    event: Subscribing
    accepted: int | None = None
    ended: int | None = None
    told: list[tuple[int, Told]] = field(factory=list)
    is_abandoned: bool = False

    @property
    def is_open(self) -> bool:
        """Whether somebody reads it when the history ends."""
        return self.accepted is not None and self.ended is None and not self.is_abandoned

    @property
    def name(self) -> str:
        """What to call it."""
        return f"{self.event.client}'s subscription {self.event.number} to {self.event.filter!r}"


@frozen
class Conflict:
    """An ack that cannot be true beside another."""

    first: Acked
    second: Acked
    text: str


@define(eq=False)
class Ledger:
    """Everything the rules need to know.

    Attributes:
        facts: what stood where; deliveries that no publish explains are left out.
        sequences: {sequence: seqs of its facts, rising}.
        first_seen: {sequence: when somebody first was told of it}.
        last_begun: {sequence: the latest beginning of a publish that was acked in it}.
    """

    events: list[Event] = field(factory=list)
    publishes: dict[tuple[str, int], Publish] = field(factory=dict)
    subscriptions: dict[tuple[str, int], Subscription] = field(factory=dict)
    by_content: dict[tuple[str, bytes], list[Publish]] = field(factory=dict)
    retaining: dict[str, list[Publish]] = field(factory=dict)  # {topic: its publishes with `retain`}
    facts: dict[Place, Fact] = field(factory=dict)
    sequences: dict[Sequence, list[int]] = field(factory=dict)
    conflicts: list[Conflict] = field(factory=list)
    first_seen: dict[Sequence, int] = field(factory=dict)
    last_begun: dict[Sequence, int] = field(factory=dict)

    @classmethod
    def read(cls, events: Iterable[Event]) -> Ledger:
        """Return the ledger of a history."""
        ledger = cls()
        for event in events:
            ledger._take(len(ledger.events), event)
            ledger.events.append(event)
        return ledger

    # Questions

    def between(self, sequence: Sequence, after: int, through: int | None = None) -> Iterator[Fact]:
        """Yield the facts of (after, through], by their seq."""
        seqs = self.sequences.get(sequence, [])
        end = len(seqs) if through is None else bisect_right(seqs, through)
        for seq in seqs[bisect_right(seqs, after) : end]:
            yield self.facts[*sequence, seq]

    def is_later(self, namespace: str, epoch: str, other: str) -> bool:
        """Tell whether `epoch` certainly came after `other`: something begun after that was seen was acked in it."""
        begun, seen = self.last_begun.get((namespace, epoch), -1), self.first_seen.get((namespace, other))
        return epoch != other and seen is not None and begun > seen

    def is_certain(self, fact: Fact) -> bool:
        """Tell whether the like of it can stand in no other epoch.

        Not in an earlier one, because it was published when this one was
        known; and not in a later one, because it was acked in this one.
        """
        if fact.begun <= self.first_seen.get(fact.place[:2], len(self.events)):
            return False
        known = self.by_content.get((fact.topic, fact.data), [])
        return all(publish in fact.makers and publish.is_acked_in(fact.place[1]) for publish in known)

    def add(self, fact: Fact) -> None:
        """Take up a fact."""
        self.facts[fact.place] = fact
        insort(self.sequences.setdefault(fact.place[:2], []), fact.seq)

    # Reading

    def _take(self, now: int, event: Event) -> None:  # noqa: C901 - a routing table
        match event:
            case Publishing():
                self._begin(Publish(now, event))
            case Acked():
                self._ack(now, event)
            case Failed():
                self._publish(event).failed = event
            case Subscribing():
                self.subscriptions[event.client, event.number] = Subscription(now, event)
            case Subscribed():
                self._subscription(event).accepted = now
            case Delivered() | GapTold() | LiveTold():
                self._subscription(event).told.append((now, event))
                self._see(now, event)
            case Unsubscribed():
                self._subscription(event).ended = now
            case Left():
                for subscription in self.subscriptions.values():
                    subscription.is_abandoned |= subscription.event.client == event.client
            case Revoked() | Granted():
                pass  # judged in the order of all events
            case _:
                assert_never(event)

    def _begin(self, publish: Publish) -> None:
        event = publish.event
        self.publishes[event.client, event.number] = publish
        self.by_content.setdefault((event.topic, event.data), []).append(publish)
        if event.retain:
            self.retaining.setdefault(event.topic, []).append(publish)

    def _see(self, now: int, event: Told) -> None:
        match event:
            case Delivered(epoch=str(epoch)):
                self.first_seen.setdefault((namespace_of(event.topic), epoch), now)
            case GapTold(namespace=str(namespace), epoch=str(epoch)):
                self.first_seen.setdefault((namespace, epoch), now)
            case LiveTold(position=position) if position is not None:
                namespace = namespace_of(self._subscription(event).event.filter)
                self.first_seen.setdefault((namespace, position.epoch), now)

    def _publish(self, event: Acked | Failed) -> Publish:
        try:
            return self.publishes[event.client, event.number]
        except KeyError:
            raise ValueError(f"no publish {event.number} of {event.client!r} has begun: {event}") from None

    def _subscription(self, event: Subscribed | Told | Unsubscribed) -> Subscription:
        try:
            return self.subscriptions[event.client, event.number]
        except KeyError:
            raise ValueError(f"no subscription {event.number} of {event.client!r} was asked for: {event}") from None

    def _ack(self, now: int, event: Acked) -> None:
        publish = self._publish(event)
        namespace, position = publish.namespace, event.position
        if publish.ack is not None:
            if publish.ack.position != position:
                text = (
                    f"{event.client}'s publish {event.number} was acked at {publish.ack.position}, then at {position}"
                )
                self.conflicts.append(Conflict(publish.ack, event, text))
            return
        fact = self.facts.get((namespace, position.epoch, position.seq))
        if fact is not None:
            holder = next((maker for maker in fact.makers if maker.ack is not None), None)
            if holder is not None and holder.ack is not None and not _may_share(holder, publish, event):
                text = (
                    f"{holder.event.client}'s publish {holder.event.number} and "
                    f"{event.client}'s publish {event.number} both have the position {position} in {namespace!r}"
                )
                self.conflicts.append(Conflict(holder.ack, event, text))
                return
        publish.ack, publish.acked = event, now
        sequence = (namespace, position.epoch)
        self.first_seen.setdefault(sequence, now)
        self.last_begun[sequence] = max(self.last_begun.get(sequence, -1), publish.begun)
        if fact is not None:
            fact.makers.append(publish)
            return
        topic, data = publish.event.topic, publish.event.data
        twins = [publish]
        begun = publish.begun
        if publish.identity is not None:
            twins += [
                twin
                for twin in self.by_content[topic, data]
                if twin.identity == publish.identity and twin is not publish
            ]
            begun = min(twin.begun for twin in twins)
            if event.duplicate and begun == publish.begun:
                begun = -1  # the first was made before the history
        makers = [publish, *(twin for twin in twins[1:] if twin.ack is None and not twin.is_refused)]
        self.add(Fact((*sequence, position.seq), topic, data, begun, now, makers, event))


def _may_share(holder: Publish, publish: Publish, ack: Acked) -> bool:
    """Tell whether two acks of one position are those of a publish and its repetition."""
    repeated = publish.identity is not None and publish.identity == holder.identity
    return repeated and (ack.duplicate or (holder.ack is not None and holder.ack.duplicate))
