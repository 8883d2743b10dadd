"""Retained values: reading them page by page while they are replaced and forgotten."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tercet_broker.core.accounting import Account
from tercet_broker.core.log import Record
from tercet_broker.core.retained import RetainedValues
from tercet_broker.core.topic import Topic


class Values:
    """Retained values of topics by name, with the seqs that a sequence would give."""

    def __init__(self) -> None:
        self.kept = RetainedValues()
        self.topics: dict[str, Topic] = {}
        self.seq = 0

    def keep(self, name: str) -> None:
        topic = self.topics.setdefault(name, Topic(name, (name,), b"", lambda _: None))
        self.seq += 1
        self.kept.keep(Record(topic, self.seq, 0, 0.0, b"", 0, 0, Account()))

    def forget(self, name: str) -> None:
        self.seq += 1
        topic = self.topics.get(name)
        if topic is not None and topic.retained is not None:
            self.kept.forget(topic.retained)

    def now(self) -> dict[str, int]:
        return {name: topic.retained.seq for name, topic in self.topics.items() if topic.retained is not None}


changes = st.lists(st.tuples(st.sampled_from("abcdefgh"), st.booleans()), max_size=200)


def apply(values: Values, steps: list[tuple[str, bool]]) -> None:
    for name, is_kept in steps:
        if is_kept:
            values.keep(name)
        else:
            values.forget(name)


@given(changes)
def test_retained_values_are_the_newest_of_each_topic(steps: list[tuple[str, bool]]) -> None:
    values = Values()
    apply(values, steps)
    page = values.kept.records.after(0, 1000)
    assert {record.topic.name: record.seq for record in page} == values.now()
    assert [record.seq for record in page] == sorted(values.now().values())
    assert len(values.kept) == len(page)


@given(changes, st.lists(changes, min_size=1, max_size=6), st.integers(1, 5))
def test_snapshot_is_right_while_values_change(
    before: list[tuple[str, bool]], between: list[list[tuple[str, bool]]], limit: int
) -> None:
    """What was not changed meanwhile is found once, in order; nothing newer than the snapshot is."""
    values = Values()
    apply(values, before)
    start, through = values.now(), values.seq
    found: list[int] = []
    reached, turn = 0, 0
    while page := [record.seq for record in values.kept.records.after(reached, limit) if record.seq <= through]:
        assert page[0] > reached, "each page gets on"
        reached = page[-1]
        found += page
        if turn < len(between):
            apply(values, between[turn])
            turn += 1
    assert found == sorted(set(found))
    assert set(found) <= set(start.values())
    untouched = {seq for name, seq in start.items() if values.now().get(name) == seq}
    assert untouched <= set(found)


def test_retained_values_do_not_pile_up() -> None:
    """A value that is replaced a thousand times takes the room of a few."""
    values = Values()
    for _ in range(1000):
        values.keep("a")
    assert len(values.kept) == 1
    assert values.kept.records.after(0, 70) == [values.topics["a"].retained]
