"""Replays: snapshots that are larger than a page, and logs that move on meanwhile."""

from __future__ import annotations

import gc
import json
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tercet_broker.core import HistorySettings, NamespaceSettings
from tercet_broker.core.replay import SCAN
from tercet_protocol import Filter

if TYPE_CHECKING:
    from tests.core.conftest import Peer, World

same_fixture = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)


def seqs(events: list[dict[str, Any]], *, sub: int | None) -> list[int]:
    return [event["seq"] for event in events if event["op"] == "message" and event.get("sub") == sub]


def fill(peer: Peer, count: int, *, retain: bool = True, first: int = 0) -> None:
    for number in range(first, first + count):
        peer.session.receive(
            b'{"op":"publish","topic":"t/%d","data":%d,"retain":%b}'
            % (number, number, b"true" if retain else b"false"),
            peer.world.moment,
        )


def test_snapshot_larger_than_a_page_comes_whole(make_world: Callable[..., World]) -> None:
    """[S-003] [S-004] [N-025]: values that the handover run has long lost."""
    world = make_world(NamespaceSettings())
    publisher, peer = world.join(), world.join()
    count = 3 * SCAN + 7
    fill(publisher, count)
    peer.send("subscribe", id=1, filter="t/+")
    subscribed, *replay, live = peer.take()
    assert (subscribed["live"], subscribed["seq"]) == (False, count)
    assert [event["seq"] for event in replay] == list(range(1, count + 1))
    assert all(event["retained"] and event["sub"] == 1 for event in replay)
    assert live == {"op": "live", "sub": 1, "seq": count}


@given(
    st.lists(st.tuples(st.integers(0, SCAN + 40), st.sampled_from(["new", "null", "other"])), max_size=40), st.data()
)
@same_fixture
def test_snapshot_and_live_leave_nothing_between(
    make_world: Callable[..., World], changes: list[tuple[int, str]], data: st.DataObject
) -> None:
    """[S-005]: values are replaced and forgotten while they are read; what the client ends with is right."""
    world = make_world(outbox_messages=400)
    publisher, peer = world.join(), world.join()
    fill(publisher, SCAN + 40)
    peer.send("subscribe", id=1, filter="t/#")
    events: list[dict[str, Any]] = []
    expected: dict[str, Any] = {f"t/{number}": number for number in range(SCAN + 40)}
    for value, (number, change) in enumerate(changes, 10_000):
        peer.flush(data.draw(st.integers(0, 4000)))
        peer.session.advance()
        topic = f"t/{number}"
        expected[topic] = None if change == "null" else value
        publisher.publish(topic, expected[topic], retain=change != "other")
    events = peer.take()
    live = next(place for place, event in enumerate(events) if event["op"] == "live")
    messages = [event for event in events if event["op"] == "message"]
    assert [event["seq"] for event in messages] == sorted({event["seq"] for event in messages})
    assert all(("sub" in event) == (place < live) for place, event in enumerate(events) if event["op"] == "message")
    state: dict[str, Any] = {}
    for event in messages:
        state[event["topic"]] = event["data"]
    assert state == expected


def test_replay_that_is_overrun_tells_the_gap_where_it_is(make_world: Callable[..., World]) -> None:
    """[G-001] [G-003] [G-004] [M-007]: before it lower seqs, after it higher ones, everything between is in it."""
    world = make_world(NamespaceSettings(history=HistorySettings(messages=10)), outbox_messages=8)
    publisher, peer = world.join(), world.join()
    for number in range(10):
        publisher.publish("t", number)
    peer.send("subscribe", id=1, filter="t", since={"epoch": world.broker.epoch, "seq": 0})
    for number in range(25):
        publisher.publish("t", number)
    events = peer.take()
    gaps = [place for place, event in enumerate(events) if event["op"] == "gap"]
    assert len(gaps) == 1
    gap = events[gaps[0]]
    assert gap == {
        "op": "gap", "sub": 1, "epoch": world.broker.epoch, "after": 2, "through": 25, "reason": "overflow"
    }  # fmt: skip
    assert seqs(events[: gaps[0]], sub=1) == [1, 2]
    assert seqs(events[gaps[0] :], sub=1) == list(range(26, 36))
    assert events[-1] == {"op": "live", "sub": 1, "seq": 35}


def test_overrun_before_the_run_is_reached_is_told(make_world: Callable[..., World]) -> None:
    """The run moves on while retained values are still being sent."""
    world = make_world(NamespaceSettings(history=HistorySettings(messages=3)), outbox_messages=8)
    publisher, peer = world.join(), world.join()
    fill(publisher, 6)
    peer.send("subscribe", id=1, filter="t/#")
    fill(publisher, 9, retain=False, first=100)
    events = peer.take()
    messages = [event["seq"] for event in events if event["op"] == "message"]
    gap = next(event for event in events if event["op"] == "gap")
    assert (gap["after"], gap["through"], gap["reason"]) == (6, 12, "overflow")
    assert messages == [1, 2, 3, 4, 5, 6, 13, 14, 15]


HANDOVER = 256


@pytest.mark.parametrize("length", [3, HANDOVER])
@pytest.mark.parametrize(
    ("epoch", "seq", "gap"),
    [
        (None, 0, (0, 5, "expired")),
        (None, 4, (4, 5, "expired")),
        (None, 5, None),
        (None, 7, None),
        (None, "head", None),
        (None, "beyond", ("head", "head", "unknown_position")),
        ("old", 0, (0, 5, "epoch")),
        ("old", 7, (0, 5, "epoch")),
        ("old", "beyond", (0, 5, "epoch")),
    ],
)
def test_since_recovers_or_tells_the_gap(
    make_world: Callable[..., World], epoch: str | None, seq: int | str, gap: tuple[Any, ...] | None, length: int
) -> None:
    """[S-007] [S-008] [G-005] [G-006] [N-021] [N-023] [N-025]: five are gone, of configured history or handover run."""
    history = None if length == HANDOVER else HistorySettings(messages=length)
    world = make_world(NamespaceSettings(history=history))
    publisher, peer = world.join(), world.join()
    head = 5 + length
    for _ in range(head):
        publisher.publish("t")
    places: dict[Any, Any] = {"head": head, "beyond": head + 1}
    since = places.get(seq, seq)
    peer.send("subscribe", id=1, filter="t", since={"epoch": epoch or world.broker.epoch, "seq": since})
    subscribed, *rest = peer.take()
    assert subscribed["recovered"] is (gap is None)
    if gap is not None:
        told = rest.pop(0)
        assert (told["after"], told["through"], told["reason"]) == tuple(places.get(item, item) for item in gap)
        assert (told["sub"], told["epoch"]) == (1, world.broker.epoch)
    start = max(since, 5) if epoch is None else 5
    assert seqs(rest, sub=1) == list(range(start + 1, head + 1))


def test_since_with_a_gap_still_gives_what_topics_keep(make_world: Callable[..., World]) -> None:
    """[N-024] [S-003]: the newest few of a quiet topic are older than the run, and not lost."""
    world = make_world(NamespaceSettings(history=HistorySettings(messages=2, per_topic=2)))
    publisher, peer = world.join(), world.join()
    for topic in ("t/quiet", "t/quiet", "t/quiet", "t/busy", "t/busy", "t/busy"):
        publisher.publish(topic)
    peer.send("subscribe", id=1, filter="t/#", since={"epoch": world.broker.epoch, "seq": 1})
    _, gap, *rest = peer.take()
    assert (gap["after"], gap["through"]) == (1, 4)
    assert seqs(rest, sub=1) == [2, 3, 5, 6]


def test_last_and_retained_values_are_one_union(make_world: Callable[..., World]) -> None:
    """[S-003] [S-004] [S-006]: in order, each once, and only what is there for being retained says so."""
    world = make_world(NamespaceSettings(history=HistorySettings(messages=2, per_topic=1)))
    publisher, peer = world.join(), world.join()
    for topic, retain in (("t/a", True), ("t/b", True), ("t/c", False), ("t/d", True), ("t/e", False)):
        publisher.publish(topic, retain=retain)
    replays = {}
    for id_, options in enumerate(({"last": 2}, {"last": 2, "retained": False}, {"last": 0}, {}), 1):
        peer.send("subscribe", id=id_, filter="t/#", **options)
        messages = [event for event in peer.take() if event["op"] == "message"]
        replays[id_] = [(event["seq"], event.get("retained", False)) for event in messages]
    assert replays == {
        1: [(1, True), (2, True), (4, False), (5, False)],
        2: [(4, False), (5, False)],
        3: [(1, True), (2, True), (4, True)],
        4: [(1, True), (2, True), (4, True)],
    }


def test_handover_run_is_invisible_to_last(make_world: Callable[..., World]) -> None:
    """[N-025] [S-001]"""
    world = make_world(NamespaceSettings())
    peer = world.join()
    peer.publish("t")
    peer.send("subscribe", id=1, filter="t", last=5)
    (subscribed,) = peer.take()
    assert subscribed["live"] is True


def test_replays_take_turns(make_world: Callable[..., World]) -> None:
    """A long one does not hold up a short one."""
    world = make_world(outbox_messages=8)
    publisher, peer = world.join(), world.join()
    for _ in range(50):
        publisher.publish("t")
    publisher.publish("u")
    peer.send("subscribe", id=1, filter="t", last=50)
    peer.send("subscribe", id=2, filter="u", last=1)
    events = peer.take()
    ends = [event["sub"] for event in events if event["op"] == "live"]
    assert ends == [2, 1]
    assert seqs(events, sub=1) == list(range(1, 51))


def test_replay_that_is_not_begun_at_once_comes_with_the_next_page(world: World) -> None:
    """[S-005]: where many subscribe at once; what is published meanwhile is part of it."""
    publisher, peer = world.join(), world.join()
    world.broker.begin_reading = lambda _: None
    publisher.publish("t")
    peer.send("subscribe", id=1, filter="t", last=5)
    publisher.publish("t")
    peer.flush()
    (subscribed,) = peer.arrived()
    assert (subscribed["live"], subscribed["seq"]) == (False, 1)
    assert peer.session.outbox.is_behind
    events = peer.take()
    assert seqs(events, sub=1) == [1, 2]
    assert events[-1] == {"op": "live", "sub": 1, "seq": 2}


def test_replay_looks_at_a_bounded_number_of_records_in_a_step(world: World) -> None:
    """A rare topic in a long log: each step is short, and each gets on."""
    publisher, peer = world.join(), world.join()
    fill(publisher, 2 * SCAN + 1, retain=False)
    publisher.publish("t/rare")
    peer.send("subscribe", id=1, filter="t/rare", since={"epoch": world.broker.epoch, "seq": 0})
    steps = 1
    while peer.session.outbox.is_behind:
        peer.flush()
        peer.session.advance()
        steps += 1
    assert steps == 3
    assert seqs(peer.take(), sub=1) == [2 * SCAN + 2]


@pytest.mark.parametrize(("more", "gap"), [(2, None), (3, (2, 3)), (4, (2, 4))])
def test_replay_that_is_just_not_overrun_has_no_gap(
    make_world: Callable[..., World], more: int, gap: tuple[int, int] | None
) -> None:
    """[M-007]: the last message before the run's first is the first that can be lost."""
    world = make_world(NamespaceSettings(history=HistorySettings(messages=10)), outbox_messages=8)
    publisher, peer = world.join(), world.join()
    for _ in range(10):
        publisher.publish("t")
    peer.send("subscribe", id=1, filter="t", since={"epoch": world.broker.epoch, "seq": 0})
    for _ in range(more):
        publisher.publish("t")
    events = peer.take()
    assert [(event["after"], event["through"]) for event in events if event["op"] == "gap"] == ([gap] if gap else [])
    lost = range(3, gap[1] + 1) if gap else range(0)
    assert seqs(events, sub=1) == [seq for seq in range(1, 11 + more) if seq not in lost]


def test_value_that_is_replaced_while_it_waits_is_not_sent(make_world: Callable[..., World]) -> None:
    """Its successor comes as a message of the log; the old one would only be stale."""
    world = make_world(outbox_messages=8)
    publisher, peer = world.join(), world.join()
    fill(publisher, 4)
    peer.send("subscribe", id=1, filter="t/#")
    assert peer.session.outbox.is_behind
    publisher.publish("t/2", "new", retain=True)
    publisher.publish("t/3", None, retain=True)
    messages = [event for event in peer.take() if event["op"] == "message"]
    assert [(event["seq"], event.get("retained", False)) for event in messages] == [
        (1, True),
        (2, True),
        (5, False),
        (6, False),
    ]


def test_retained_value_within_the_run_comes_once(make_world: Callable[..., World]) -> None:
    """[S-003] [S-004]: after a gap it is a message of the log like any other."""
    world = make_world(NamespaceSettings(history=HistorySettings(messages=3)))
    publisher, peer = world.join(), world.join()
    fill(publisher, 6)
    peer.send("subscribe", id=1, filter="t/#", since={"epoch": world.broker.epoch, "seq": 0})
    messages = [(event["seq"], event.get("retained", False)) for event in peer.take() if event["op"] == "message"]
    assert messages == [(1, True), (2, True), (3, True), (4, False), (5, False), (6, False)]


@pytest.fixture
def looked_at(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The topics that a filter was compared with, since it was last cleared."""
    topics: list[str] = []
    matches = Filter.matches_levels

    def note(self: Filter, levels: tuple[str, ...]) -> bool:
        topics.append("/".join(levels))
        return matches(self, levels)

    monkeypatch.setattr(Filter, "matches_levels", note)
    return topics


BIG = 4 * SCAN


@pytest.mark.parametrize(
    ("run", "per_topic", "retain"),
    [(BIG, 0, False), (5, 1, False), (5, 1, True), (5, 0, True)],
    ids=["run", "beyond", "both", "retained"],
)
@pytest.mark.parametrize("start", [{"last": BIG}, {"last": 3}, {"since": 0}, {}], ids=str)
@pytest.mark.parametrize("filter_", ["t/#", "t/+/none", "t/7"])
def test_each_step_of_a_replay_is_bounded(
    make_world: Callable[..., World],
    looked_at: list[str],
    filter_: str,
    start: dict[str, Any],
    run: int,
    per_topic: int,
    retain: bool,
) -> None:
    """However many topics there are, whatever of them is kept, and however little of it matches."""
    world = make_world(NamespaceSettings(history=HistorySettings(messages=run, per_topic=per_topic)))
    publisher, peer = world.join(), world.join()
    fill(publisher, BIG, retain=retain)
    if "since" in start:
        start = {"since": {"epoch": world.broker.epoch, "seq": 0}}
    looked_at.clear()
    peer.send("subscribe", id=1, filter=filter_, **start)
    assert len(looked_at) <= 2 * SCAN, "the first page of the search, and the one of the replay"
    while peer.session.outbox.is_behind:
        peer.flush()
        looked_at.clear()
        peer.session.advance()
        assert len(looked_at) <= SCAN
    peer.flush()
    events = peer.arrived()
    live = max((place for place, event in enumerate(events) if event["op"] == "live"), default=None)
    assert live == len(events) - 1 or events[-1]["live"] is True


@pytest.mark.parametrize("start", [{"last": 100}, {"since": 0}, {}], ids=str)
def test_replay_keeps_nothing_alive(make_world: Callable[..., World], start: dict[str, Any]) -> None:
    """It holds positions: what the log lets go of is free, though a slow reader has not had it."""
    world = make_world(NamespaceSettings(history=HistorySettings(messages=20, per_topic=1)), outbox_messages=8)
    publisher, peer = world.join(), world.join()
    fill(publisher, 60)
    if "since" in start:
        start = {"since": {"epoch": world.broker.epoch, "seq": 0}}
    namespace = world.broker.namespace("t")
    kept = [weakref.ref(record) for record in [*namespace.log.after(0, 100), *namespace.log.beyond.after(0, 100)]]
    assert len(kept) == 60
    peer.send("subscribe", id=1, filter="t/#", **start)
    assert peer.session.outbox.is_behind
    fill(publisher, 60)
    fill(publisher, 60)
    gc.collect()
    assert [record for record in kept if record() is not None] == []
    assert peer.take()[-1]["op"] == "live"


def test_last_that_is_not_found_at_once_comes_all_the_same(make_world: Callable[..., World]) -> None:
    """[S-001] [S-003] [S-005]: a few in a long log, and more that are published while they are looked for."""
    world = make_world()
    publisher, peer = world.join(), world.join()
    for _ in range(3):
        publisher.publish("t/rare")
    fill(publisher, 3 * SCAN, retain=False)
    peer.send("subscribe", id=1, filter="t/rare/#", last=2)
    publisher.publish("t/rare")
    subscribed, *messages, live = peer.take()
    assert (subscribed["live"], subscribed["seq"]) == (False, 3 * SCAN + 3)
    assert [event["seq"] for event in messages] == [2, 3, 3 * SCAN + 4]
    assert live == {"op": "live", "sub": 1, "seq": 3 * SCAN + 4}


def test_last_that_was_found_and_is_overrun_is_told(make_world: Callable[..., World]) -> None:
    """[M-007]: what was found in the run, and left it before it was read."""
    world = make_world(NamespaceSettings(history=HistorySettings(messages=SCAN + 10)))
    publisher, peer = world.join(), world.join()
    fill(publisher, SCAN + 10, retain=False)
    peer.send("subscribe", id=1, filter="t/+", last=SCAN + 5)
    fill(publisher, 8, retain=False)
    assert peer.session.outbox.is_behind
    while not seqs(peer.arrived(), sub=1):
        fill(publisher, 1, retain=False)
        peer.session.advance()
        peer.flush()
    peer.send("unsubscribe", id=2, sub=1)
    gap = next(json.loads(payload) for payload in peer.payloads if b'"gap"' in payload)
    assert (gap["sub"], gap["after"], gap["reason"]) == (1, 5, "overflow")


def test_what_a_topic_keeps_no_more_when_its_turn_comes_is_left_out(make_world: Callable[..., World]) -> None:
    """[S-009]: it was replaced by newer ones of its topic, which come."""
    world = make_world(NamespaceSettings(history=HistorySettings(messages=4, per_topic=2)), outbox_messages=8)
    publisher, peer = world.join(), world.join()
    for topic in ("t/a", "t/a", "t/b", "t/b", "t/c", "t/c", "t/d", "t/d"):
        publisher.publish(topic)
    peer.send("subscribe", id=1, filter="t/+", last=8)
    assert seqs(peer.queued(), sub=1) == [1, 2]
    for _ in range(3):
        publisher.publish("t/b")  # the run is 8 to 11 now; 3 and 4 go
    events = peer.take()
    assert seqs(events, sub=1) == [1, 2, 8, 9, 10, 11]
    gap = next(event for event in events if event["op"] == "gap")
    assert (gap["after"], gap["through"]) == (4, 7)
