"""A connection that is behind: what its cursor gives it, and what it does not."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from tercet_broker.core import HistorySettings, NamespaceSettings
from tercet_broker.core.catching_up import Cursor
from tercet_broker.core.log import Record
from tercet_broker.core.namespace import Namespace
from tercet_broker.core.replay import Replay
from tercet_broker.core.subscription import Subscription
from tercet_protocol import parse_filter

if TYPE_CHECKING:
    from tests.core.conftest import Peer, World

KEPT = 8


@pytest.fixture
def slow_world(make_world: Callable[..., World]) -> World:
    """A broker whose connections fall behind with the fifth message, and whose logs keep eight."""
    return make_world(NamespaceSettings(history=HistorySettings(messages=KEPT)), outbox_messages=4)


@pytest.fixture
def namespace(world: World) -> Namespace:
    return world.broker.namespace("t")


def publish(world: World, *topics: str) -> None:
    publisher = world.join()
    for topic in topics:
        publisher.publish(topic)
    publisher.hang_up()


def records(namespace: Namespace) -> list[Record]:
    return list(namespace.log.after(0, 1000))


def subscription(filter_: str, namespace: Namespace | None, *, live: bool = True) -> Subscription:
    parsed = parse_filter(filter_)
    replay = (
        None
        if live or namespace is None
        else Replay(namespace, parsed, 0, cursor=0, beyond_after=0, with_retained=False)
    )
    return Subscription(1, parsed, namespace, replay)


def test_cursor_wants_what_its_live_subscriptions_match(world: World, namespace: Namespace) -> None:
    """Of this namespace, or of all; what is being replayed has a place of its own."""
    publish(world, "t/a", "t/b", "t/c", "t/d")
    mine = [
        subscription("t/a", namespace),
        subscription("+/b", None),
        subscription("t/c", namespace, live=False),
        subscription("t/d", world.broker.namespace("other")),
    ]
    cursor = Cursor.open(namespace, 0, mine)
    assert [record.seq for record in records(namespace) if cursor.wants(record)] == [1, 2]


def test_cursor_wants_nothing_from_before_a_subscription(world: World, namespace: Namespace) -> None:
    """One that came while the connection was behind gets what was published since, and the others get all."""
    publish(world, "t/a", "t/b", "t/a", "t/b")
    cursor = Cursor.open(namespace, 0, [subscription("t/b", namespace)])
    late = subscription("t/#", namespace)
    cursor.add(late, 2)
    assert [record.seq for record in records(namespace) if cursor.wants(record)] == [2, 3, 4]
    cursor.discard(late)
    assert [record.seq for record in records(namespace) if cursor.wants(record)] == [2, 4]
    cursor.discard(late)  # (it is nothing new that it wants nothing)


def test_cursor_says_what_the_log_has_lost_once(world: World, namespace: Namespace) -> None:
    namespace.reconfigure(NamespaceSettings(history=HistorySettings(messages=2)))
    cursor = Cursor.open(namespace, 0, [])
    publish(world, "t/a", "t/a")
    assert cursor.skip_lost() is None
    assert cursor.behind == 2
    publish(world, "t/a", "t/a", "t/a")
    assert cursor.skip_lost() == (0, 3)
    assert cursor.skip_lost() is None
    assert cursor.behind == 2


def fall_behind(world: World, *filters: str) -> Peer:
    peer = world.join()
    for number, filter_ in enumerate(filters, 1):
        peer.send("subscribe", id=number, filter=filter_)
    peer.take()
    publish(world, *["t/x"] * 5)
    assert peer.session.outbox.cursors
    return peer


def seqs(peer: Peer) -> list[int]:
    return [event["seq"] for event in peer.take() if event["op"] == "message"]


def test_connection_that_catches_up_gets_all_in_order_and_is_live_again(slow_world: World) -> None:
    """M-005, M-007."""
    peer = fall_behind(slow_world, "t/#")
    publish(slow_world, "t/y", "t/x")
    assert seqs(peer) == [1, 2, 3, 4, 5, 6, 7]
    assert not peer.session.outbox.cursors
    publish(slow_world, "t/x")
    assert len(peer.queued()) == 1, "live: queued as it is published"


def test_subscription_that_ends_while_behind_gets_no_more(slow_world: World) -> None:
    peer = fall_behind(slow_world, "t/x", "t/y")
    publish(slow_world, "t/y", "t/x")
    peer.send("unsubscribe", sub=1)
    assert seqs(peer) == [1, 2, 3, 4, 6]


def test_subscription_that_begins_while_behind_gets_what_is_published_since(slow_world: World) -> None:
    peer = fall_behind(slow_world, "t/x")
    publish(slow_world, "t/y")
    peer.send("subscribe", id=2, filter="t/y", retained=False)
    publish(slow_world, "t/y")
    assert seqs(peer) == [1, 2, 3, 4, 5, 7]


def test_own_messages_are_not_echoed_from_the_log(slow_world: World) -> None:
    peer = fall_behind(slow_world, "t/x")
    peer.publish("t/x", echo=False)
    publish(slow_world, "t/x")
    assert seqs(peer) == [1, 2, 3, 4, 5, 7]


def test_log_that_overruns_the_cursor_is_a_gap(slow_world: World) -> None:
    """G-003, G-004: in its place, and it names the namespace."""
    peer = fall_behind(slow_world, "t/x")
    publish(slow_world, *["t/x"] * 10)
    found = [(e["op"], e.get("seq"), e.get("after"), e.get("through")) for e in peer.take() if e["op"] != "position"]
    assert found == [
        *(("message", seq, None, None) for seq in range(1, 5)),
        ("gap", None, 4, 7),
        *(("message", seq, None, None) for seq in range(8, 16)),
    ]


def test_another_namespace_goes_on_while_one_is_behind(slow_world: World) -> None:
    peer = fall_behind(slow_world, "t/x", "u/x")
    peer.flush()
    peer.arrived()
    publish(slow_world, "u/x")
    peer.flush()
    assert [event["topic"] for event in peer.arrived()] == ["u/x"]
