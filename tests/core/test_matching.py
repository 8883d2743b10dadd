"""The index of filters against the filters themselves."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercet_broker.core.matching import FilterIndex
from tercet_broker.core.outbox import Outbox
from tercet_protocol import parse_filter

words = st.sampled_from(["a", "b", "c", "$", "$x"])
topics = st.lists(words, min_size=1, max_size=4).map("/".join)
filters = st.builds(
    lambda levels, rest: "/".join(levels + (["#"] if rest or not levels else [])),
    st.lists(words | st.just("+"), max_size=4),
    st.booleans(),
)


def make_outbox(number: int) -> Outbox:
    return Outbox(number, 1, 1, 1, wake=lambda: None, overflow=lambda _: False)


def split(topic: str) -> tuple[str, ...]:
    return tuple(topic.split("/"))


@given(st.lists(st.tuples(filters, st.integers(0, 3)), max_size=20), st.lists(topics, min_size=1, max_size=10))
def test_index_matches_as_the_filters_do(entries: list[tuple[str, int]], names: list[str]) -> None:
    """[N-010] [N-011] [N-013], each outbox once [M-002]."""
    outboxes = [make_outbox(number) for number in range(4)]
    index = FilterIndex[Outbox]()
    for text, number in entries:
        index.add(parse_filter(text), outboxes[number])
    for topic in names:
        expected = {outboxes[number] for text, number in entries if parse_filter(text).matches(topic)}
        assert set(index.match(split(topic))) == expected


@given(st.lists(st.tuples(filters, st.integers(0, 3)), max_size=20), st.randoms(use_true_random=False), topics)
def test_index_forgets_what_is_removed(entries: list[tuple[str, int]], random: object, topic: str) -> None:
    """Halfway what is left still matches; at the end nothing is left behind."""
    outboxes = [make_outbox(number) for number in range(4)]
    index = FilterIndex[Outbox]()
    for text, number in entries:
        index.add(parse_filter(text), outboxes[number])
    random.shuffle(entries)  # type: ignore[attr-defined]
    half = len(entries) // 2
    for text, number in entries[:half]:
        index.remove(parse_filter(text), outboxes[number])
    expected = {outboxes[number] for text, number in entries[half:] if parse_filter(text).matches(topic)}
    assert set(index.match(split(topic))) == expected
    assert index.is_empty == (half == len(entries))
    for text, number in entries[half:]:
        index.remove(parse_filter(text), outboxes[number])
    assert index.is_empty


def test_index_match_is_in_a_settled_order() -> None:
    """The same adds give the same order: a replay of the simulation depends on it."""
    outboxes = [make_outbox(number) for number in range(20)]
    index = FilterIndex[Outbox]()
    for outbox in reversed(outboxes):
        index.add(parse_filter("a/+"), outbox)
    assert list(index.match(("a", "b"))) == outboxes[::-1]


def test_index_version_grows_with_every_change() -> None:
    index, outbox = FilterIndex[Outbox](), make_outbox(1)
    versions = [index.version]
    for change in (index.add, index.add, index.remove, index.remove):
        change(parse_filter("a/#"), outbox)
        versions.append(index.version)
    assert versions == sorted(set(versions))


def test_index_refuses_to_remove_what_was_not_added() -> None:
    index = FilterIndex[Outbox]()
    index.add(parse_filter("a/b"), make_outbox(1))
    for text in ("a/b", "a", "a/#", "x/y"):
        with pytest.raises(KeyError):
            index.remove(parse_filter(text), make_outbox(2))
