"""Whether one filter lies inside another, against looking at every topic there is."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercet_protocol import Filter, parse_filter

NAMES = ("a", "b", "$x")
DEPTH = 4  # one more than any filter below has levels
TOPICS = [levels for depth in range(1, DEPTH + 1) for levels in itertools.product(NAMES, repeat=depth)]

levels = st.lists(st.sampled_from([*NAMES, "+"]), min_size=0, max_size=DEPTH - 1)


@st.composite
def filters(draw: st.DrawFn) -> Filter:
    chosen = draw(levels)
    if len(chosen) < DEPTH - 1 and (not chosen or draw(st.booleans())):
        chosen = [*chosen, "#"]
    return parse_filter("/".join(chosen))


def matched(filter_: Filter) -> set[tuple[str, ...]]:
    return {topic for topic in TOPICS if filter_.matches_levels(topic)}


@given(filters(), filters())
def test_containment_is_what_brute_force_finds(outer: Filter, inner: Filter) -> None:
    """Exact in both directions: A-013 would be unsafe with a yes too much, and useless with a no too much."""
    assert outer.contains(inner) == (matched(inner) <= matched(outer)), (outer, inner)


@given(filters(), filters(), filters())
def test_containment_is_transitive(one: Filter, two: Filter, three: Filter) -> None:
    assert not (one.contains(two) and two.contains(three)) or one.contains(three)


@pytest.mark.parametrize(
    ("outer", "inner", "is_inside"),
    [
        ("a/#", "a", True),
        ("a/#", "a/+", True),
        ("a/#", "a/b/#", True),
        ("a/+", "a/#", False),
        ("a/+", "a/b", True),
        ("a/+/#", "a/#", False),
        ("+/#", "#", True),
        ("#", "+/+", True),
        ("#", "$x/a", False),
        ("+/a", "$x/a", False),
        ("$x/#", "$x/a", True),
        ("a/b", "a/+", False),
    ],
)
def test_containment_by_example(outer: str, inner: str, is_inside: bool) -> None:
    assert parse_filter(outer).contains(parse_filter(inner)) is is_inside
