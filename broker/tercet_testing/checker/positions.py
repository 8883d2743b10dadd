"""Rules on publishes and their acks: one position each, in the order of time, once; epochs that change with cause."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, pairwise

from attrs import define, field

from .ledger import Ledger, Publish, Sequence
from .violation import Rule, Violation


def judge_positions(ledger: Ledger, key_seconds: float) -> Iterator[Violation]:
    """Judge all publishes of a history."""
    for conflict in ledger.conflicts:
        yield Violation(Rule.ONE_POSITION, f"{conflict.text}.", (conflict.first, conflict.second))
    yield from _judge_order(ledger)
    yield from _judge_keys(ledger, key_seconds)
    yield from _judge_epochs(ledger, key_seconds)


def _outcomes(ledger: Ledger) -> list[tuple[int, Publish]]:
    """Return beginnings and acks, in the order of time."""
    publishes = ledger.publishes.values()
    times = [(publish.begun, publish) for publish in publishes]
    times += [(publish.acked, publish) for publish in publishes if publish.ack is not None]
    times.sort(key=lambda pair: pair[0])
    return times


def _judge_order(ledger: Ledger) -> Iterator[Violation]:
    """What began after another was acknowledged stands after it."""
    heads: dict[str, dict[str, Publish]] = {}  # {namespace: {epoch: the acked publish of the highest seq}}
    floors: dict[Publish, dict[str, Publish]] = {}  # the same when a publish began
    for now, publish in _outcomes(ledger):
        head = heads.setdefault(publish.namespace, {})
        if now == publish.begun:
            floors[publish] = dict(head)
            continue
        ack = publish.ack
        if ack is None or (ack.duplicate and publish.identity is not None):
            continue  # a repetition has the place of the first
        epoch, seq = ack.position.epoch, ack.position.seq
        floor = floors.pop(publish).get(epoch)
        if floor is not None and floor.ack is not None and seq <= floor.ack.position.seq:
            whose = "its own" if floor.event.client == publish.event.client else f"{floor.event.client}'s"
            yield Violation(
                Rule.PUBLISH_ORDER,
                f"{publish.event.client}'s publish {publish.event.number} in {publish.namespace!r} began when {whose} "
                f"publish {floor.event.number} had been acknowledged at {floor.ack.position}, "
                f"and yet it stands before that, at {ack.position}.",
                (floor.ack, publish.event, ack),
            )
        top = head.get(epoch)
        if top is None or top.ack is None or top.ack.position.seq < seq:
            head[epoch] = publish


def _judge_keys(ledger: Ledger, key_seconds: float) -> Iterator[Violation]:
    """One key of one client stands in one place of an epoch, within the time for which keys are remembered."""
    groups: dict[tuple[object, ...], list[Publish]] = {}
    for publish in ledger.publishes.values():
        if publish.identity is not None and publish.ack is not None:
            group = (publish.event.client, publish.identity, publish.ack.position.epoch)
            groups.setdefault(group, []).append(publish)
    for group_of in groups.values():
        firsts: dict[int, Publish] = {}  # {seq: the first of its publishes}
        for publish in group_of:
            if publish.ack is not None:
                firsts.setdefault(publish.ack.position.seq, publish)
        places = [firsts[seq] for seq in sorted(firsts)]
        for first, second in pairwise(places):
            if first.ack is None or second.ack is None:
                continue
            since = first.event.at
            if first.ack.duplicate:
                since = min(publish.event.at for publish in group_of)
            if second.ack.at - since < key_seconds:
                yield Violation(
                    Rule.ONCE,
                    f"{first.event.client} published under the key {first.event.key!r} twice within {key_seconds:g} s, "
                    f"and both stand in {first.namespace!r}: {first.ack.position} and {second.ack.position}.",
                    (first.event, first.ack, second.event, second.ack),
                )


@define(eq=False)
class _Count:
    """How many publishes a sequence can hold at most, so far."""

    begun: int = 0
    elsewhere: dict[str, int] = field(factory=dict)  # {epoch: how many of them turned out to be in it}


def _judge_epochs(ledger: Ledger, key_seconds: float) -> Iterator[Violation]:
    """An epoch begins at 1 and does not come back."""
    counts: dict[str, _Count] = {}
    judged: set[Sequence] = set()
    for now, publish in _outcomes(ledger):
        count = counts.setdefault(publish.namespace, _Count())
        if now == publish.begun:
            if not publish.is_refused:
                copies = _copies(ledger, publish, key_seconds)
                count.begun += copies
                if publish.ack is not None:
                    epoch = publish.ack.position.epoch
                    count.elsewhere[epoch] = count.elsewhere.get(epoch, 0) + copies
            continue
        ack = publish.ack
        if ack is None:
            continue
        sequence = (publish.namespace, ack.position.epoch)
        others = sum(
            many for epoch, many in count.elsewhere.items() if ledger.is_later(publish.namespace, sequence[1], epoch)
        )
        if ack.position.seq > count.begun - others and sequence not in judged:
            judged.add(sequence)
            yield Violation(
                Rule.EPOCH,
                f"{ack.position} in {publish.namespace!r} is more than the {count.begun - others} messages that can "
                f"have been published in this epoch: its sequence did not begin at 1, or has holes.",
                (publish.event, ack),
            )
    yield from _judge_returns(ledger)


def _copies(ledger: Ledger, publish: Publish, key_seconds: float) -> int:
    """Return how often it can have been published: again whenever its key may have been forgotten."""
    end = publish.ack or publish.failed or ledger.events[-1]
    return 1 + int(max(end.at - publish.event.at, 0.0) / key_seconds)


def _judge_returns(ledger: Ledger) -> Iterator[Violation]:
    """Of two epochs, each cannot be later than the other."""
    acked: dict[Sequence, list[Publish]] = {}
    for publish in ledger.publishes.values():
        if publish.ack is not None:
            acked.setdefault((publish.namespace, publish.ack.position.epoch), []).append(publish)
    for (one, these), (other, those) in combinations(acked.items(), 2):
        if one[0] != other[0]:
            continue
        chain = _returns(these, those) or _returns(those, these)
        if chain:
            events = [event for publish in chain for event in (publish.event, publish.ack) if event is not None]
            first, second, third = (publish.ack.position for publish in chain if publish.ack is not None)
            yield Violation(
                Rule.EPOCH,
                f"The epoch of {one[0]!r} came back: {first}, then {second}, then {third}.",
                tuple(events),
            )


def _returns(these: list[Publish], those: list[Publish]) -> tuple[Publish, Publish, Publish] | None:
    """Return one of these, one of those and one of these again, each begun after the one before was acked."""
    first = min(these, key=lambda publish: publish.acked)
    last = max(these, key=lambda publish: publish.begun)
    for middle in those:
        if middle.begun > first.acked and last.begun > middle.acked:
            return first, middle, last
    return None
