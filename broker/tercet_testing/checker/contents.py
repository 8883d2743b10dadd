"""Rules on what is delivered: it was published, byte for byte, once, and not refused."""

from __future__ import annotations

from collections.abc import Iterator

from attrs import define, field

from ..events import Delivered
from .ledger import Fact, Ledger, Place, Publish, namespace_of
from .violation import Rule, Violation


@define(eq=False)
class _Unacked:
    """The places of one epoch at which one content was delivered without an ack."""

    places: dict[Place, tuple[int, Delivered]] = field(factory=dict)  # {place: its first delivery}


def judge_contents(ledger: Ledger, key_seconds: float) -> Iterator[Violation]:
    """Judge all deliveries of a history, and add to the ledger what only they prove."""
    unacked: dict[tuple[str, str, bytes], _Unacked] = {}  # {(epoch, topic, data): places}
    seen: dict[Place, Delivered] = {}
    for now, event in _deliveries(ledger):
        if event.epoch is None:
            yield from _judge_unplaced(ledger, now, event)
            continue
        place = (namespace_of(event.topic), event.epoch, event.seq)
        fact = ledger.facts.get(place)
        if fact is not None:
            yield from _compare(fact, now, event)
            continue
        first = seen.setdefault(place, event)
        if (first.topic, first.data) != (event.topic, event.data):
            text = f"Two messages stand at {event.epoch}:{event.seq} in {place[0]!r}."
            yield Violation(Rule.ONE_POSITION, text, (first, event))
        else:
            content = unacked.setdefault((event.epoch, event.topic, event.data), _Unacked())
            content.places.setdefault(place, (now, event))
    for (epoch, topic, data), content in unacked.items():
        known = ledger.by_content.get((topic, data), [])
        makers = [publish for publish in known if not publish.is_refused and not publish.is_acked_in(epoch)]
        for used, (place, (now, event)) in enumerate(content.places.items()):
            possible = [publish for publish in makers if publish.begun < now]
            if used < len(possible):
                begun = min(publish.begun for publish in possible)
                ledger.add(Fact(place, topic, data, begun, None, possible, event))
            else:
                shown = [first.at for _, first in content.places.values()]
                shown += [publish.ack.at for publish in known if publish.ack and publish.is_acked_in(epoch)]
                yield from _explain(known, now, event, is_soon=_span(known, shown) < key_seconds)


def _span(known: list[Publish], shown: list[float]) -> float:
    """Return how long all copies of a message took at most, from the first publish until the last was seen."""
    return max(shown) - min((publish.event.at for publish in known), default=0.0)


def _deliveries(ledger: Ledger) -> list[tuple[int, Delivered]]:
    told = (pair for subscription in ledger.subscriptions.values() for pair in subscription.told)
    return sorted(((now, event) for now, event in told if isinstance(event, Delivered)), key=lambda pair: pair[0])


def _compare(fact: Fact, now: int, event: Delivered) -> Iterator[Violation]:
    """Compare a delivery with what was acknowledged there."""
    if (fact.topic, fact.data) != (event.topic, event.data):
        what = "other data" if fact.topic == event.topic else f"another topic, {fact.topic!r}"
        text = f"{event.client} was handed {_name(event)}, but what was published there has {what}."
        yield Violation(Rule.CONTENT, text, (fact.makers[0].event, event))
    elif now < fact.begun:
        text = f"{event.client} was handed {_name(event)} before it was published."
        yield Violation(Rule.CONTENT, text, (fact.makers[0].event, event))


def _judge_unplaced(ledger: Ledger, now: int, event: Delivered) -> Iterator[Violation]:
    """Judge a delivery whose epoch is not known."""
    known = ledger.by_content.get((event.topic, event.data), [])
    if not any(publish.begun < now and not publish.is_refused for publish in known):
        yield from _explain(known, now, event, is_soon=False)


def _explain(known: list[Publish], now: int, event: Delivered, *, is_soon: bool) -> Iterator[Violation]:
    """Say why a delivery has no publish: `known` are those of the same topic and data."""
    before = [publish for publish in known if publish.begun < now]
    refused = [publish for publish in before if publish.is_refused]
    if not before:
        text = f"{event.client} was handed {_name(event)}, which nobody had published."
        yield Violation(Rule.CONTENT, text, (event,))
    elif refused:
        text = f"{event.client} was handed {_name(event)}, whose publish had been refused."
        yield Violation(Rule.REFUSED, text, (refused[0].event, event))
    elif is_soon:
        text = f"{event.client} was handed {_name(event)}, which stands elsewhere already: it was published twice."
        yield Violation(Rule.ONCE, text, (before[0].event, event))


def _name(event: Delivered) -> str:
    return f"{event.topic!r} at {'?' if event.epoch is None else event.epoch}:{event.seq}"
