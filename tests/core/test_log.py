"""The log against a list: what is kept by messages, bytes, seconds and topic."""

from __future__ import annotations

from collections import deque

import pytest
from attrs import define, field
from hypothesis import example, given
from hypothesis import strategies as st

from tercet_broker.core import HistorySettings
from tercet_broker.core.accounting import Account
from tercet_broker.core.log import Log, Record
from tercet_broker.core.topic import Topic


@define(eq=False)
class Shelf:
    """A log and the topics that it has not forgotten."""

    log: Log
    topics: dict[str, Topic] = field(factory=dict)

    def append(self, name: str, at: float = 0.0, size: int = 10) -> None:
        topic = self.topics.get(name)
        if topic is None:
            topic = self.topics[name] = Topic(name, (name,), b"", self.forget)
        seq = self.log.head + 1
        self.log.append(Record(topic, seq, 0, at, b"x" * size, 1, 0, Account()))

    def forget(self, topic: Topic) -> None:
        del self.topics[topic.name]

    def run(self) -> list[int]:
        return [record.seq for record in self.log.after(0, 1 << 30)]

    def kept(self) -> dict[str, list[int]]:
        return {name: [record.seq for record in topic.records] for name, topic in self.topics.items()}


steps = st.lists(st.tuples(st.sampled_from("abcde"), st.integers(5, 30), st.floats(0, 5)), max_size=60)


@given(
    steps=steps,
    messages=st.integers(1, 12),
    size=st.integers(20, 150),
    seconds=st.none() | st.floats(1, 12),
    per_topic=st.integers(0, 3),
)
def test_log_keeps_what_a_list_would(
    steps: list[tuple[str, int, float]], messages: int, size: int, seconds: float | None, per_topic: int
) -> None:
    """The run, and each topic's newest few; byte and topic bounds beyond the run are out of reach here."""
    bounds = HistorySettings(messages=messages, bytes=max(size, 500 if per_topic else 0), seconds=seconds)
    shelf = Shelf(Log(HistorySettings(messages, bounds.bytes, seconds, per_topic), 100))
    everything: list[tuple[str, int, float]] = []  # topic, size, at
    first, now = 1, 0.0
    for topic, length, pause in steps:
        now += pause
        shelf.append(topic, now, length)
        everything.append((topic, length, now))
        head = len(everything)
        while head + 1 - first > messages or (
            sum(item[1] for item in everything[first - 1 :]) > bounds.bytes and first < head
        ):
            first += 1
        shelf.log.expire(now)
        while seconds is not None and first <= head and everything[first - 1][2] <= now - seconds:
            first += 1

        log = shelf.log
        assert (log.head, log.first, len(log)) == (head, first, head + 1 - first)
        assert shelf.run() == list(range(first, head + 1))
        assert log.size == sum(item[1] for item in everything[first - 1 :])
        assert log.appended == sum(item[1] for item in everything)
        kept: dict[str, list[int]] = {}
        for seq in range(head, 0, -1):
            seqs = kept.setdefault(everything[seq - 1][0], [])
            if seq >= first or len(seqs) < per_topic:
                seqs.insert(0, seq)
        assert shelf.kept() == {name: seqs for name, seqs in kept.items() if seqs}
        for seq in range(head + 3):
            assert log.covers(seq) == (first - 1 <= seq <= head)


def test_log_after_is_bounded_and_starts_where_the_run_does() -> None:
    shelf = Shelf(Log(HistorySettings(messages=5), 1))
    for _ in range(8):
        shelf.append("a")
    assert [record.seq for record in shelf.log.after(0, 3)] == [4, 5, 6]
    assert [record.seq for record in shelf.log.after(5, 10)] == [6, 7, 8]
    assert list(shelf.log.after(8, 10)) == []
    assert shelf.log[4].seq == 4
    for missing in (3, 9):
        with pytest.raises(IndexError):
            shelf.log[missing]


def test_log_keeps_one_message_that_is_over_the_bound_in_bytes() -> None:
    shelf = Shelf(Log(HistorySettings(messages=5, bytes=50), 1))
    shelf.append("a", size=10)
    shelf.append("a", size=100)
    assert shelf.run() == [2]
    shelf.append("a", size=10)
    assert shelf.run() == [3]


@pytest.mark.parametrize("per_topic", [0, 1])
def test_log_stays_right_over_its_compactions(per_topic: int) -> None:
    """Trimmed places are given back now and then; numbers and memory stay what they were."""
    shelf = Shelf(Log(HistorySettings(messages=700, per_topic=per_topic), 100))
    for number in range(6000):
        shelf.append(f"t{number % 7}")
    assert shelf.run() == list(range(5301, 6001))
    assert shelf.log[5301].seq == 5301
    assert sum(len(seqs) for seqs in shelf.kept().values()) == 700


def test_log_forgets_the_bytes_of_the_quietest_topics() -> None:
    """Beyond the run the bound in bytes holds as well; who was published to longest ago goes first."""
    shelf = Shelf(Log(HistorySettings(messages=1, bytes=40, per_topic=5), 100))
    for name in "abcab":
        shelf.append(name, size=10)
    assert shelf.kept() == {"a": [1, 4], "b": [2, 5], "c": [3]}
    shelf.append("d", size=10)
    assert shelf.kept() == {"a": [1, 4], "b": [2, 5], "d": [6]}, "c was the quietest"


def test_log_forgets_the_quietest_topics_over_their_number() -> None:
    shelf = Shelf(Log(HistorySettings(messages=1, per_topic=2), 2))
    for name in "abac":
        shelf.append(name)
    assert shelf.kept() == {"a": [1, 3], "b": [2], "c": [4]}
    shelf.append("d")
    assert shelf.kept() == {"a": [1, 3], "c": [4], "d": [5]}


def test_log_counts_only_topics_beyond_the_run_against_their_number() -> None:
    """Many topics within the run are no reason to forget the one that left it."""
    shelf = Shelf(Log(HistorySettings(messages=3, per_topic=1), 1))
    for name in "abcd":
        shelf.append(name)
    assert shelf.kept() == {"a": [1], "b": [2], "c": [3], "d": [4]}
    shelf.append("e")
    assert shelf.kept() == {"b": [2], "c": [3], "d": [4], "e": [5]}


@given(
    topics=st.lists(st.sampled_from("abcdef"), max_size=60),
    messages=st.integers(1, 6),
    limit=st.integers(1, 4),
)
@example(topics=list("abcabdd"), messages=3, limit=1)
@example(topics=list("ab"), messages=1, limit=1)
def test_log_forgets_no_more_than_it_has_to(topics: list[str], messages: int, limit: int) -> None:
    """With one of each topic kept: as many as both bounds allow, those that were published to last."""
    shelf = Shelf(Log(HistorySettings(messages, 60, None, per_topic=1), limit))
    beyond: list[str] = []  # topics that are not in the run, quietest first
    for seq, name in enumerate(topics, 1):
        shelf.append(name)
        run = topics[shelf.log.first - 1 : seq]
        left = topics[shelf.log.first - 2] if shelf.log.first > 1 and len(run) == messages else None
        beyond = [topic for topic in beyond if topic not in run]
        if left is not None and left not in run and left not in beyond:
            beyond.append(left)
        beyond = beyond[-limit:]
        assert set(shelf.kept()) == {*run, *beyond}
        assert all(len([seq for seq in seqs if seq < shelf.log.first]) <= 1 for seqs in shelf.kept().values())


def test_topic_ceases_to_exist_with_its_last_record() -> None:
    shelf = Shelf(Log(HistorySettings(messages=2), 1))
    shelf.append("a")
    topic = shelf.topics["a"]
    topic.retained = topic.records[0]
    shelf.append("b")
    shelf.append("b")
    assert shelf.topics["a"].records == deque()
    shelf.append("c")
    shelf.append("c")
    assert list(shelf.topics) == ["a", "c"], "a is held by its retained value"
