"""Looking for the newest few that match: in pages, and what a page does not see."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tercet_broker.core import HistorySettings, NamespaceSettings
from tercet_broker.core.search import NewestSearch
from tercet_protocol import parse_filter

if TYPE_CHECKING:
    from tests.core.conftest import World

NOBODY = -1
same_fixture = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)


def search_for(world: World, filter_: str, wanted: int, connection: int = NOBODY) -> NewestSearch:
    return NewestSearch(world.broker.namespace("t"), parse_filter(filter_), connection, wanted)


def find(search: NewestSearch, limit: int) -> list[int]:
    """Return the seqs of all that it finds, `limit` looked at in each page."""
    found: list[int] = []
    for _ in range(100):
        found += [record.seq for record in search.look(limit)]
        if search.is_over:
            return found
    raise AssertionError("it gets nowhere")


@given(
    st.lists(st.sampled_from(["t/a", "t/b", "t/b", "t/c/d"]), max_size=40),
    st.sampled_from(["t/a", "t/+", "t/#", "t/c/d", "t/none"]),
    st.integers(1, 12),
    st.integers(1, 15),
)
@same_fixture
def test_search_finds_the_newest_that_are_kept(
    make_world: Callable[..., World], topics: list[str], filter_: str, wanted: int, limit: int
) -> None:
    """In the run and beyond it; whatever the size of a page is."""
    world = make_world(NamespaceSettings(history=HistorySettings(messages=8, per_topic=2)))
    publisher = world.join()
    for topic in topics:
        publisher.publish(topic)
    first, matches = len(topics) - 7, parse_filter(filter_).matches
    kept = [
        seq for seq, topic in enumerate(topics, 1) if matches(topic) and (seq >= first or topics[seq:].count(topic) < 2)
    ]
    search = search_for(world, filter_, wanted)
    found = find(search, limit)
    assert found == kept[::-1][:wanted]
    assert search.start == min(found, default=len(topics) + 1)
    assert search.start_in_run == min((seq for seq in found if seq >= first), default=len(topics) + 1)


def test_search_passes_over_what_is_not_for_this_connection(world: World) -> None:
    """[P-005]: and does not count it."""
    peer = world.join()
    for echo in (True, False, True, False):
        peer.publish("t", echo=echo)
    assert find(search_for(world, "t", 2, peer.session.connection), 10) == [3, 1]
    assert find(search_for(world, "t", 2), 10) == [4, 3]


def test_search_does_not_see_what_is_published_meanwhile(world: World) -> None:
    """It comes after all that is found, and need not be looked for."""
    peer = world.join()
    for _ in range(4):
        peer.publish("t")
    search = search_for(world, "t/#", 3)
    assert [record.seq for record in search.look(1)] == [4]
    peer.publish("t")
    assert find(search, 1) == [3, 2]


def test_search_goes_on_behind_what_has_left_the_run_meanwhile(make_world: Callable[..., World]) -> None:
    """What is kept no more is not found, and what was found in the run is told apart from what topics keep."""
    world = make_world(NamespaceSettings(history=HistorySettings(messages=4, per_topic=1)))
    peer = world.join()
    for topic in ("t/old", "t/a", "t/b", "t/b", "t/b", "t/b"):
        peer.publish(topic)
    search = search_for(world, "t/#", 10)
    assert [record.seq for record in search.look(2)] == [6, 5]
    for _ in range(3):
        peer.publish("t/b")  # the run is 6 to 9 now
    assert find(search, 2) == [2, 1]
    assert (search.start, search.start_in_run) == (1, 5)
