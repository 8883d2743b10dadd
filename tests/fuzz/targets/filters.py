"""Filters: the grammar, what contains what, and the index that finds who gets a topic, against brute force."""

from __future__ import annotations

import itertools

from tercet_broker.core.matching import FilterIndex
from tercet_broker.core.outbox import Outbox
from tercet_protocol import Filter, TopicError, parse_filter, split_topic

_NAMES = ("a", "b", "$x")
_DEPTH = 4
_UNIVERSE = [levels for depth in range(1, _DEPTH + 1) for levels in itertools.product(_NAMES, repeat=depth)]
_MOST = 12  # filters

WORDS = [b"a/", b"b/", b"$x/", b"+/", b"#", b"/", b"\n", b"\x00", b"\xc3\xa9", b"\xed\xa0\x80", b"a/" * 15 + b"a"]
SEEDS = [b"a/#\na\na/b/$x\n+/b\n#", b"+/+/#\n$x/#\n$x/a\na/+/b", "ü/é/#\n+/ü".encode(), b"a/" * 20]


def naive(levels: tuple[str, ...], topic: tuple[str, ...]) -> bool:
    """Tell whether a filter matches, by the contract's sentences alone."""
    if topic[0].startswith("$") and levels[0] in {"+", "#"}:
        return False
    if not levels:
        return not topic
    for place, level in enumerate(levels):
        if level == "#":
            return len(topic) >= place
        if place >= len(topic) or level not in {"+", topic[place]}:
            return False
    return len(levels) == len(topic)


def run(data: bytes) -> None:
    """Each line is a filter, or none."""
    filters: list[Filter] = []
    for line in data.split(b"\n")[:_MOST]:
        text = line.decode("utf-8", "surrogatepass" if line.isascii() else "replace")
        try:
            filter_ = parse_filter(text)
        except TopicError as error:
            assert str(error).isprintable() or "\n" not in str(error)
            continue
        assert len(text.encode()) <= 255
        assert 1 <= len(filter_.levels) <= 16
        assert "/".join(filter_.levels) == text
        assert all(level and (level in {"+", "#"} or not {"+", "#"} & set(level)) for level in filter_.levels)
        if filter_.is_exact:
            assert split_topic(text) == filter_.levels
        filters.append(filter_)
    _check_contained(filters)
    _check_index(filters)


def _topics(filters: list[Filter]) -> list[tuple[str, ...]]:
    own = [tuple("z" if level in {"+", "#"} else level for level in one.levels) for one in filters]
    return _UNIVERSE + own


def _check_contained(filters: list[Filter]) -> None:
    topics = _topics(filters)
    for one in filters:
        for topic in topics:
            assert one.matches_levels(topic) == naive(one.levels, topic) == one.matches("/".join(topic)), (one, topic)
    for outer, inner in itertools.product(filters[:4], repeat=2):
        found = outer.contains(inner)
        universe = topics
        if found:
            assert all(outer.matches_levels(topic) for topic in universe if inner.matches_levels(topic))
        elif len(outer.levels) < _DEPTH and len(inner.levels) < _DEPTH and _known(outer, inner):
            assert any(inner.matches_levels(topic) and not outer.matches_levels(topic) for topic in universe)


def _known(*filters: Filter) -> bool:
    return all(level in {*_NAMES, "+", "#"} for one in filters for level in one.levels)


def _check_index(filters: list[Filter]) -> None:
    outboxes = [Outbox(n, 1, 1, 1, wake=lambda: None, overflow=lambda _: False) for n in range(3)]
    index: FilterIndex[Outbox] = FilterIndex()
    entries = [(one, outboxes[number % 3]) for number, one in enumerate(filters)]
    for one, outbox in entries:
        index.add(one, outbox)
    for cut in (len(entries), len(entries) // 2):
        while len(entries) > cut:
            index.remove(*entries.pop())
        for topic in _topics(filters)[:: max(1, len(filters))]:
            assert set(index.match(topic)) == {outbox for one, outbox in entries if naive(one.levels, topic)}
    for one, outbox in entries:
        index.remove(one, outbox)
    assert index.is_empty
