"""The grammar of topics and filters, and matching against an independent oracle."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tercet_protocol import (
    InvalidFilterError,
    InvalidTopicError,
    TopicError,
    is_reserved,
    parse_filter,
    split_topic,
)

words = st.sampled_from(["a", "b", "ab", "$", "$sys", "ü", "A"])
topics = st.lists(words, min_size=1, max_size=5).map("/".join)
filters = st.builds(
    lambda levels, rest: "/".join(levels + (["#"] if rest or not levels else [])),
    st.lists(words | st.just("+"), max_size=5),
    st.booleans(),
)


def oracle(filter_: str, topic: str) -> bool:
    """Match the naive way: the filter as a regular expression over the whole text."""
    if filter_[0] in "+#" and topic[0] == "$":
        return False
    pattern = ""
    for level in filter_.split("/"):
        if level == "#":
            pattern += "(/.*)?"
        else:
            pattern += "/" + ("[^/]+" if level == "+" else re.escape(level))
    return re.fullmatch(pattern, "/" + topic, re.DOTALL) is not None


@given(filters, topics)
@example("a/#", "a")
@example("#", "$sys/x")
@example("+/+/#", "a/b")
@example("$sys/#", "$sys")
def test_matching_agrees_with_a_naive_oracle(filter_: str, topic: str) -> None:
    """N-005, N-010, N-011, N-013."""
    parsed = parse_filter(filter_)
    assert parsed.matches(topic) == oracle(filter_, topic)
    assert parsed.matches_levels(split_topic(topic)) == oracle(filter_, topic)


@pytest.mark.parametrize(
    ("filter_", "matching", "other"),
    [
        ("chat/lobby", ["chat/lobby"], ["chat", "chat/lobby/x", "Chat/lobby"]),
        ("chat/+", ["chat/lobby"], ["chat", "chat/lobby/x"]),
        ("chat/#", ["chat", "chat/lobby", "chat/lobby/x"], ["chats/lobby"]),
        ("+/lobby", ["chat/lobby", "game/lobby"], ["$sys/lobby"]),
        ("+/+/#", ["chat/lobby", "chat/lobby/x"], ["chat"]),
        ("#", ["chat", "chat/lobby"], ["$sys", "$sys/x"]),
        ("$sys/+", ["$sys/x"], ["$sys", "$other/x"]),
        ("caf\u00e9", ["caf\u00e9"], ["cafe\u0301"]),
    ],
)
def test_matching_table_of_the_contract(filter_: str, matching: list[str], other: list[str]) -> None:
    """N-005, N-010, N-011, N-013."""
    assert [topic for topic in matching + other if parse_filter(filter_).matches(topic)] == matching


@pytest.mark.parametrize(
    ("topic", "why"),
    [
        ("", "empty"),
        ("/a", "empty level"),
        ("a/", "empty level"),
        ("a//b", "empty level"),
        ("/", "empty level"),
        ("a/+", "'+'"),
        ("a+b", "'+'"),
        ("#", "'#'"),
        ("a\x00", "control"),
        ("a\n", "control"),
        ("a\x7f", "control"),
        ("a\x9f", "control"),
        ("a\ud800", "control"),
        ("/".join("a" * 17), "16 levels"),
        ("a" * 256, "255 bytes"),
        ("ü" * 128, "255 bytes"),
        ("\U0001f600" * 64, "255 bytes"),
    ],
)
def test_invalid_topics_are_refused_with_a_reason(topic: str, why: str) -> None:
    """N-001, N-002, N-003."""
    with pytest.raises(InvalidTopicError, match=re.escape(why)):
        split_topic(topic)


@pytest.mark.parametrize(
    "topic", ["a", "/".join("a" * 16), "a" * 255, "ü" * 127, "a b", "$sys/x", "a\u200bb", "\U0001f600", "."]
)
def test_valid_topics_split_into_levels(topic: str) -> None:
    """N-001, N-002, N-003: the bounds themselves are allowed."""
    assert split_topic(topic) == tuple(topic.split("/"))
    assert parse_filter(topic).is_exact


@pytest.mark.parametrize(
    ("filter_", "why"),
    [
        ("", "empty"),
        ("a/#/b", "last level"),
        ("#/#", "last level"),
        ("a#", "alone"),
        ("a/b+", "alone"),
        ("++", "alone"),
        ("a/##", "alone"),
        ("a//+", "empty level"),
        ("+\x00", "control"),
        ("/".join("+" * 17), "16 levels"),
        ("a" * 254 + "/+", "255 bytes"),
    ],
)
def test_invalid_filters_are_refused_with_a_reason(filter_: str, why: str) -> None:
    """N-012."""
    with pytest.raises(InvalidFilterError, match=re.escape(why)):
        parse_filter(filter_)


@given(st.text(max_size=300))
@example("a/\ud800")
def test_any_text_is_a_topic_or_refused(text: str) -> None:
    try:
        levels = split_topic(text)
    except InvalidTopicError as error:
        assert len(str(error)) < 2000
    else:
        assert "/".join(levels) == text
        assert 1 <= len(levels) <= 16
        assert all(levels)
        assert len(text.encode()) <= 255


@given(st.text(alphabet="ab+#/$\x00", max_size=40))
def test_any_text_is_a_filter_or_refused(text: str) -> None:
    try:
        parsed = parse_filter(text)
    except TopicError as error:
        assert isinstance(error, InvalidFilterError)
    else:
        assert str(parsed) == text
        assert parsed.is_exact == ("+" not in text and "#" not in text)


def test_filter_knows_its_namespace() -> None:
    assert parse_filter("prices/+").namespace == "prices"
    assert parse_filter("prices/#").namespace == "prices"
    assert parse_filter("+/a").namespace is None
    assert parse_filter("#").namespace is None


def test_equal_texts_are_equal_filters() -> None:
    assert parse_filter("a/+") == parse_filter("a/+")
    assert parse_filter("a/+") != parse_filter("a/#")
    assert len({parse_filter("a/+"), parse_filter("a/+")}) == 1


def test_reserved_names_begin_with_a_dollar() -> None:
    assert is_reserved("$sys")
    assert is_reserved("$sys/x")
    assert not is_reserved("sys/$x")
