"""Rules on what one subscription is told: rising seqs, no skip without a gap, nothing after its end."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import assert_never

from attrs import define, field

from tercet_protocol import Filter, GapReason, parse_filter

from ..events import Delivered, Event, GapTold, LiveTold, Told
from .ledger import Fact, Ledger, Sequence, Subscription, namespace_of
from .segments import Segments
from .violation import Rule, Violation

_SHOWN = 3  # missing messages that a violation names


def judge_stream(
    ledger: Ledger, subscription: Subscription, *, quiet: bool, conflating: Collection[str]
) -> Iterator[Violation]:
    """Judge what one subscription was told, in order."""
    stream = _Stream(ledger, subscription, conflating)
    for now, event in subscription.told:
        if subscription.ended is not None and now > subscription.ended:
            text = f"{subscription.name} had ended, and yet something came for it."
            yield Violation(Rule.UNSUBSCRIBED, text, (ledger.events[subscription.ended], event))
            continue
        yield from stream.take(now, event)
    if quiet and subscription.is_open:
        yield from stream.judge_rest()


@define(eq=False)
class _Stream:
    """One subscription, as far as it has been told.

    `owes` says what it must get; the rest is bookkeeping of what it got.

    Attributes:
        epochs: in the order in which it came to them, the one of `since` first. Empty over namespaces.
        marks: {sequence: everything owed up to here was handed out, or lost with a gap}.
        tops: {sequence: the highest seq that was handed out, and how}.
        gaps: {sequence: [(after, through)]}.
        anchors: {sequence, or with its topic: it certainly began before this seq}.
        blurs: {namespace: when a gap without numbers was told; under None, one for all}.
        newest: {namespace: when its last message or mark came}.
    """

    ledger: Ledger
    subscription: Subscription
    conflating: Collection[str]
    filter: Filter = field(init=False)
    segments: Segments = field(init=False)
    got: dict[Sequence, set[int]] = field(factory=dict)
    epochs: list[str] = field(factory=list)
    marks: dict[Sequence, int] = field(factory=dict)
    tops: dict[Sequence, tuple[int, Event]] = field(factory=dict)
    gaps: dict[Sequence, list[tuple[int, int]]] = field(factory=dict)
    anchors: dict[Sequence | tuple[str, str, str], int] = field(factory=dict)
    blurs: dict[str | None, int] = field(factory=dict)
    newest: dict[str, int] = field(factory=dict)
    _changed: Event | None = None  # came with a new epoch, before any gap
    _matched: dict[str, bool] = field(factory=dict)  # {topic: whether the filter matches it}

    def __attrs_post_init__(self) -> None:
        """Look ahead at what is going to be delivered."""
        asked = self.subscription.event
        self.filter = parse_filter(asked.filter)
        self.segments = Segments.of(self.ledger, self.subscription)
        if asked.since is not None:
            self.epochs.append(asked.since.epoch)
            if self.filter.namespace is not None:
                self.anchors[self.filter.namespace, asked.since.epoch] = asked.since.seq
        for now, event in self.subscription.told:
            if isinstance(event, Delivered):
                self.got.setdefault(self.segments.sequence(now, event), set()).add(event.seq)

    # What it is told

    def take(self, now: int, event: Told) -> Iterator[Violation]:
        """Take in one event."""
        match event:
            case Delivered():
                yield from self._deliver(now, event)
            case LiveTold():
                namespace, position = self.filter.namespace, event.position
                if namespace is not None and position is not None:
                    sequence = (namespace, position.epoch)
                    yield from self._enter(position.epoch, event, is_firm=True)
                    yield from self._advance(sequence, position.seq, event)
                    self.anchors.setdefault(sequence, position.seq)
                    self.newest[namespace] = now
                    if self.tops.get(sequence, (0, event))[0] < position.seq:
                        self.tops[sequence] = (position.seq, event)
            case GapTold():
                yield from self._lose(now, event)
            case _:
                assert_never(event)

    def _deliver(self, now: int, event: Delivered) -> Iterator[Violation]:
        name = self.subscription.name
        if not self._matches(event.topic):
            yield Violation(Rule.FILTER, f"{name} was handed {event.topic!r}.", (self.subscription.event, event))
            return
        namespace = namespace_of(event.topic)
        sequence = self.segments.sequence(now, event)
        if event.epoch is not None:
            yield from self._enter(event.epoch, event, is_firm=not event.retained)
        if namespace in self.conflating:
            self.newest[namespace] = now
            return
        top = self.tops.get(sequence)
        if top is not None and event.seq <= top[0]:
            text = f"{name} was handed {_place(event)} after {top[0]} of the same sequence."
            yield Violation(Rule.SEQ_RISES, text, (top[1], event))
            return
        self.tops[sequence] = (event.seq, event)
        if event.retained:
            return
        if self._is_blurred(namespace):
            self.marks[sequence] = max(self.marks.get(sequence, 0), event.seq)
        yield from self._advance(sequence, event.seq, event)
        self.newest[namespace] = now
        if self.subscription.event.last is None:
            self.anchors.setdefault(sequence, event.seq)
        else:
            # What is kept of a topic is its newest, without holes; of several topics it may have some.
            self.anchors.setdefault((*sequence, event.topic), event.seq)

    def _lose(self, now: int, event: GapTold) -> Iterator[Violation]:
        namespace = event.namespace or self.filter.namespace
        if namespace is None or event.epoch is None or event.after is None or event.through is None:
            self.blurs[namespace] = now
            self._changed = None
            return
        if self.filter.namespace is not None:
            yield from self._enter(event.epoch, event, is_firm=False)
            self._changed = None
        sequence = (namespace, event.epoch)
        self.gaps.setdefault(sequence, []).append((event.after, event.through))
        if event.reason == GapReason.UNKNOWN_POSITION:
            self.anchors[sequence] = self.marks[sequence] = event.through
            self.tops.pop(sequence, None)

    def _enter(self, epoch: str, event: Told, *, is_firm: bool) -> Iterator[Violation]:
        """Note in which epoch it is; a new one needs a gap before the first message of the log."""
        if self.filter.namespace is None:
            return
        if not self.epochs:
            self.epochs.append(epoch)
        elif epoch != self.epochs[-1]:
            if epoch in self.epochs:
                text = f"{self.subscription.name} came from epoch {self.epochs[-1]} back to {epoch}."
                yield Violation(Rule.EPOCH, text, (event,))
                self.epochs.remove(epoch)
            elif not self._is_blurred(self.filter.namespace):
                self._changed = event
            self.epochs.append(epoch)
        if is_firm and self._changed is not None:
            yield self._lack_epoch_gap(event)
            # One violation is enough for all that came before.
            if isinstance(event, Delivered):
                self.marks[self.filter.namespace, epoch] = event.seq
            elif isinstance(event, LiveTold) and event.position is not None:
                self.marks[self.filter.namespace, epoch] = event.position.seq

    def _lack_epoch_gap(self, event: Event) -> Violation:
        changed, self._changed = self._changed or event, None
        text = f"{self.subscription.name} came to epoch {self.epochs[-1]} without being told of a gap."
        return Violation(Rule.EPOCH_GAP, text, (changed, event))

    def _is_blurred(self, namespace: str) -> bool:
        """Tell whether a gap without numbers was told, and nothing came since."""
        told = max(self.blurs.get(None, -1), self.blurs.get(namespace, -1))
        return told > self.newest.get(namespace, -1)

    # What it is owed

    def _advance(self, sequence: Sequence, through: int, event: Told) -> Iterator[Violation]:
        """Demand everything up to `through`."""
        mark = self.marks.get(sequence, 0)
        if through <= mark or sequence[0] in self.conflating:
            return
        missing = self._missing(self.ledger.between(sequence, mark, through))
        self.marks[sequence] = through
        if missing:
            text = (
                f"{self.subscription.name} was told of {sequence[0]!r} up to {sequence[1]}:{through}, "
                f"but neither handed {_list(missing)} nor told of a gap."
            )
            yield Violation(Rule.SKIP, text, (*(fact.proof for fact in missing[:_SHOWN]), event))

    def _missing(self, facts: Iterable[Fact]) -> list[Fact]:
        return [fact for fact in facts if self._is_owed(fact) and not self._has(fact)]

    def _has(self, fact: Fact) -> bool:
        """Tell whether it was handed out, some time, or lies in a gap that was told."""
        sequence = fact.place[:2]
        if fact.seq in self.got.get(sequence, ()):
            return True
        return any(after < fact.seq <= through for after, through in self.gaps.get(sequence, ()))

    def _is_owed(self, fact: Fact) -> bool:
        """Tell whether it lies after the subscription's start, for all that is known of that."""
        if not self._matches(fact.topic) or fact.is_muted_for(self.subscription.event.client):
            return False
        accepted = self.subscription.accepted
        if accepted is not None and fact.begun > accepted:
            return True
        sequence = fact.place[:2]
        if sequence[1] in self.epochs[1:]:
            return True  # it was subscribed before this epoch began
        anchors = (self.anchors.get(sequence), self.anchors.get((*sequence, fact.topic)))
        return any(anchor is not None and fact.seq > anchor for anchor in anchors)

    def _matches(self, topic: str) -> bool:
        if topic not in self._matched:
            self._matched[topic] = self.filter.matches(topic)
        return self._matched[topic]

    # When all is quiet

    def judge_rest(self) -> Iterator[Violation]:
        """Demand what came after the last that it was handed."""
        if self._changed is not None:
            yield self._lack_epoch_gap(self._changed)
        for sequence in sorted(self.ledger.sequences):
            namespace = sequence[0]
            mine = self.filter.namespace
            if mine not in (None, namespace) or self._is_blurred(namespace) or not self._is_current(sequence):
                continue
            facts = list(self.ledger.between(sequence, self.marks.get(sequence, 0)))
            if namespace in self.conflating:
                facts = list({fact.topic: fact for fact in facts}.values())
            missing = self._missing(facts)
            if missing:
                text = f"{self.subscription.name} was never handed {_list(missing)}, nor told of a gap."
                yield Violation(Rule.QUIET, text, (self.subscription.event, *(fact.proof for fact in missing[:_SHOWN])))

    def _is_current(self, sequence: Sequence) -> bool:
        """Tell whether what stands there last is owed."""
        namespace, epoch = sequence
        if self.filter.namespace is None:
            newest = self.newest.get(namespace)
            return newest is None or self.segments.at(newest, namespace) == epoch
        if epoch in self.epochs:
            return epoch == self.epochs[-1]
        return all(self.ledger.is_later(namespace, epoch, other) for other in self.epochs)


def _place(event: Delivered) -> str:
    return f"{event.topic!r} at {'?' if event.epoch is None else event.epoch}:{event.seq}"


def _list(facts: list[Fact]) -> str:
    shown = ", ".join(f"{fact.topic!r} at {fact.place[1]}:{fact.seq}" for fact in facts[:_SHOWN])
    return shown if len(facts) <= _SHOWN else f"{shown} and {len(facts) - _SHOWN} more"
