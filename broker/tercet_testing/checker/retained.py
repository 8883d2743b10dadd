"""Rules on retained values: each is the last one, and none is missing."""

from __future__ import annotations

from collections.abc import Iterator

from tercet_protocol import parse_filter

from ..events import Delivered, GapTold, LiveTold
from .ledger import Fact, Ledger, Subscription, namespace_of
from .violation import Rule, Violation

_FORGET = b"null"


def judge_retained(ledger: Ledger, subscription: Subscription) -> Iterator[Violation]:
    """Judge the retained values that one subscription was handed."""
    judged: set[str] = set()
    for _, event in subscription.told:
        if isinstance(event, Delivered) and event.retained and event.epoch is not None:
            violation = _judge_value(ledger, subscription, event)
            if violation is not None:
                judged.add(event.topic)
                yield violation
    for violation, topic in _missing(ledger, subscription):
        if topic not in judged:
            yield violation


def _values(ledger: Ledger, namespace: str, epoch: str, asked: int) -> dict[str, Fact]:
    """Return {topic: its last value}, of those that were acked before `asked`."""
    return {
        fact.topic: fact
        for fact in ledger.between((namespace, epoch), 0)
        if fact.is_retained and fact.acked is not None and fact.acked < asked
    }


def _judge_value(ledger: Ledger, subscription: Subscription, event: Delivered) -> Violation | None:
    namespace, epoch = namespace_of(event.topic), event.epoch or ""
    name = f"{event.topic!r} at {epoch}:{event.seq}"
    fact = ledger.facts.get((namespace, epoch, event.seq))
    if fact is not None and not any(maker.event.retain for maker in fact.makers):
        text = f"{subscription.name} was handed {name} as a retained value, but it was not published as one."
        return Violation(Rule.RETAINED, text, (fact.makers[0].event, event))
    if event.data == _FORGET:
        text = f"{subscription.name} was handed {name} as a retained value, but null only forgets one."
        return Violation(Rule.RETAINED, text, (event,))
    last = _values(ledger, namespace, epoch, subscription.asked).get(event.topic)
    if last is not None and last.seq > event.seq:
        text = f"{subscription.name} was handed {name} as a retained value, but a newer one had been acknowledged."
        return Violation(Rule.RETAINED, text, (last.proof, subscription.event, event))
    return None


def _missing(ledger: Ledger, subscription: Subscription) -> Iterator[tuple[Violation, str]]:
    """Yield the topics whose last value a new subscription should have got before it went live."""
    asked = subscription.event
    filter_ = parse_filter(asked.filter)
    if filter_.namespace is None or asked.since is not None or asked.retained is False:
        return
    got: dict[str, int] = {}  # {topic: highest seq}
    live: LiveTold | None = None
    for _, event in subscription.told:
        if isinstance(event, GapTold):
            return
        if isinstance(event, LiveTold):
            live = event
            break
        got[event.topic] = max(event.seq, got.get(event.topic, 0))
    if live is None or live.position is None:
        return
    epoch = live.position.epoch
    for topic, last in _values(ledger, filter_.namespace, epoch, subscription.asked).items():
        if not filter_.matches(topic) or last.data == _FORGET or last.is_muted_for(asked.client):
            continue
        if got.get(topic, 0) < last.seq and not _may_be_hidden(ledger, last, asked.client):
            text = f"{subscription.name} went live without the retained value {topic!r} at {epoch}:{last.seq}."
            yield Violation(Rule.RETAINED, text, (last.proof, asked, live)), topic


def _may_be_hidden(ledger: Ledger, value: Fact, client: str) -> bool:
    """Tell whether a later publish may have forgotten it, or replaced it by one that this client does not get."""
    for publish in ledger.retaining.get(value.topic, []):
        event, ack = publish.event, publish.ack
        if publish.is_refused or not (event.data == _FORGET or (event.client == client and not event.echo)):
            continue
        if ack is None or ack.position.epoch != value.place[1] or ack.position.seq > value.seq:
            return True
    return False
