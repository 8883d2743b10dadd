"""A namespace: its sequence, who gets what is published, and its retained values."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from tercet_broker.core import HistorySettings, NamespaceSettings

if TYPE_CHECKING:
    from tests.core.conftest import Peer, World


def live(peer: Peer) -> list[int]:
    events = peer.take()
    assert all(event["op"] == "message" and "sub" not in event for event in events)
    return [event["seq"] for event in events]


def received(peer: Peer) -> list[int]:
    """Return the seqs of all messages that ever arrived."""
    events = [json.loads(payload) for payload in peer.payloads]
    return [event["seq"] for event in events if event["op"] == "message"]


def snapshot(peer: Peer, filter_: str) -> list[tuple[str, Any]]:
    id_ = 1 + peer.session.connection
    peer.send("subscribe", id=id_, filter=filter_)
    values = [(event["topic"], event["data"]) for event in peer.take() if event.get("retained")]
    peer.ask("unsubscribe", sub=id_)
    return values


def test_sequence_is_one_for_all_topics_of_a_namespace(world: World) -> None:
    """[N-020] [M-006]: without holes, refused publishes included; another namespace has its own."""
    peer, other = world.join(), world.join()
    seqs = [
        one.ask("publish", topic=topic, data=0).get("seq")
        for one, topic in ((peer, "t/a"), (other, "t/b"), (peer, "t/#"), (peer, "t"), (other, "u/a"), (peer, "t/a"))
    ]
    assert seqs == [1, 2, None, 3, 1, 4]


def test_message_comes_once_however_many_filters_match(world: World) -> None:
    """[M-002] [M-001] [M-005] [N-010] [N-011]: within the namespace and spanning; the same bytes for everyone."""
    peer, other = world.join(), world.join()
    for id_, filter_ in enumerate(("t/a", "t/+", "t/#", "#", "+/a", "+/#"), 1):
        peer.ask("subscribe", id=id_, filter=filter_)
    other.ask("subscribe", id=77, filter="+/+")
    world.join().publish("t/a", {"x": 1})
    assert live(peer) == live(other) == [1]
    assert peer.payloads[-1] == other.payloads[-1]


@pytest.mark.parametrize("filter_", ["t/a", "t/+", "t/#", "+/a", "#"])
def test_fan_out_follows_every_change_of_subscriptions(world: World, filter_: str) -> None:
    """Whom a topic reaches is cached; each subscribe, unsubscribe and end must be seen by the next publish."""
    publisher, peer, other = world.join(), world.join(), world.join()
    publisher.publish("t/a")
    peer.ask("subscribe", id=1, filter=filter_)
    publisher.publish("t/a")
    other.ask("subscribe", id=1, filter=filter_)
    publisher.publish("t/a")
    peer.ask("unsubscribe", sub=1)
    other.ask("subscribe", id=2, filter="t/a")
    publisher.publish("t/a")
    other.ask("unsubscribe", sub=1)
    publisher.publish("t/a")
    other.take()
    other.hang_up()
    publisher.publish("t/a")
    assert received(peer) == [2, 3]
    assert received(other) == [3, 4, 5]
    assert world.broker.statistics().namespaces[0].account.offered == 5


def test_fan_out_sees_a_replay_becoming_live(make_world: Callable[..., World]) -> None:
    """[S-005]: the cache was filled while it was not."""
    world = make_world(outbox_messages=8)
    publisher, peer = world.join(), world.join()
    for _ in range(4):
        publisher.publish("t")
    peer.send("subscribe", id=1, filter="t", last=4)
    publisher.publish("t")
    peer.take()
    publisher.publish("t")
    assert live(peer) == [6]


def test_retained_value_is_the_newest_and_may_be_forgotten(world: World) -> None:
    """[P-003] [P-004]: null forgets it, and is delivered like any other."""
    publisher, peer, listener = world.join(), world.join(), world.join()
    listener.ask("subscribe", id=1, filter="#")
    publisher.publish("t/a", 1, retain=True)
    publisher.publish("t/b", 2, retain=True)
    publisher.publish("t/a", 3)
    assert snapshot(peer, "t/#") == [("t/a", 1), ("t/b", 2)]
    publisher.publish("t/a", 4, retain=True)
    assert snapshot(peer, "t/#") == [("t/b", 2), ("t/a", 4)]
    assert snapshot(peer, "t/a") == [("t/a", 4)]
    publisher.publish("t/b", None)
    assert len(snapshot(peer, "t/#")) == 2
    publisher.publish("t/b", None, retain=True)
    publisher.publish("t/none", None, retain=True)
    assert snapshot(peer, "t/+") == [("t/a", 4)]
    assert snapshot(peer, "t/b") == []
    assert live(listener) == [1, 2, 3, 4, 5, 6, 7]


def test_retained_values_are_bounded(make_world: Callable[..., World]) -> None:
    """A new one too many is `unavailable`; replacing and forgetting always go [E-002]."""
    world = make_world(NamespaceSettings(topics=2))
    peer = world.join()
    for topic, data, code in (
        ("t/a", 1, None),
        ("t/b", 1, None),
        ("t/c", 1, "unavailable"),
        ("t/a", 2, None),
        ("t/c", None, None),
        ("t/a", None, None),
        ("t/c", 1, None),
    ):
        reply = peer.ask("publish", topic=topic, data=data, retain=True)
        assert reply.get("code") == code
        if code is not None:
            assert reply["retry_after"] > 0
    assert world.broker.statistics().namespaces[0].retained == 2


def retain(peer: Peer, topic: str, size: int) -> str | None:
    """Retain data of a size in bytes, 0 to forget; return the code of the refusal, if it is one."""
    reply = peer.ask("publish", topic=topic, data="x" * (size - 2) if size else None, retain=True)
    code = reply.get("code")
    assert code is None or reply["retry_after"] > 0
    return None if code is None else str(code)


def retained_bytes(world: World, topic: str) -> int:
    """Return what the one value of a namespace takes: its frame."""
    return world.broker.namespace_of_topic(topic).retained.size


def test_retained_values_are_bounded_in_bytes(make_world: Callable[..., World]) -> None:
    """Of a namespace: what grows is refused over the bound, what shrinks never is [E-002]."""
    world = make_world(NamespaceSettings(retained_bytes=1500))
    peer = world.join()
    assert retain(peer, "t/a", 1000) is None
    assert retain(peer, "t/b", 600) == "unavailable"
    assert retain(peer, "u/b", 600) is None, "another namespace has a bound of its own"
    assert retain(peer, "t/b", 300) is None
    assert retain(peer, "t/b", 600) == "unavailable"
    assert retain(peer, "t/a", 900) is None
    assert retain(peer, "t/b", 0) is None
    assert retain(peer, "t/a", 1300) is None
    before = retained_bytes(world, "t/a")
    assert retain(peer, "t/a", 1600) == "unavailable"
    assert retained_bytes(world, "t/a") == before, "a refusal changes nothing"
    assert retain(peer, "t/a", 0) is None
    assert retained_bytes(world, "t/a") == 0


def test_retained_value_does_not_creep_over_the_bound(make_world: Callable[..., World]) -> None:
    """Data that is as long as the frame before is no shorter than the data before: each would be a little larger."""
    world = make_world(NamespaceSettings(retained_bytes=1050))
    peer = world.join()
    assert retain(peer, "t/a", 1000) is None
    assert retain(peer, "t/a", retained_bytes(world, "t/a")) == "unavailable"
    assert retain(peer, "t/a", 1000) is None


def test_bound_in_bytes_that_is_lowered_forgets_nothing(make_world: Callable[..., World]) -> None:
    """What is there stays, and may shrink or go; nothing grows."""
    world = make_world(NamespaceSettings())
    peer = world.join()
    assert retain(peer, "t/a", 1000) is None
    world.broker.namespace("t").reconfigure(NamespaceSettings(retained_bytes=500))
    assert retain(peer, "t/a", 1100) == "unavailable"
    assert retain(peer, "t/a", 800) is None
    assert retain(peer, "t/b", 10) == "unavailable"


def test_retained_values_are_bounded_in_bytes_over_all_namespaces(make_world: Callable[..., World]) -> None:
    world = make_world(NamespaceSettings(), retained_bytes=1500)
    peer = world.join()
    assert retain(peer, "t/a", 1000) is None
    assert retain(peer, "u/a", 600) == "unavailable"
    assert retain(peer, "u/a", 300) is None
    assert retain(peer, "t/a", 0) is None
    assert retain(peer, "u/b", 1000) is None
    total = world.broker.namespace("u").retained.total.size
    assert total == retained_bytes(world, "u/a")
    assert retain(peer, "t/a", 1000) == "unavailable"


def test_retain_is_refused_where_nothing_is_retained(make_world: Callable[..., World]) -> None:
    """[P-003]; asking for values there is not refused, there are none."""
    world = make_world(NamespaceSettings(retained=False))
    peer = world.join()
    assert peer.ask("publish", topic="t", data=None, retain=True)["code"] == "unsupported"
    assert peer.ask("subscribe", id=1, filter="t", retained=True)["live"] is True


def test_topics_exist_only_while_something_is_kept(make_world: Callable[..., World]) -> None:
    """A million topics that are published to once take no room for ever."""
    world = make_world(NamespaceSettings(history=HistorySettings(messages=3)))
    peer = world.join()
    peer.publish("t/kept", retain=True)
    for number in range(20):
        peer.publish(f"t/{number}")
    assert world.broker.statistics().namespaces[0].topics == 4
    peer.publish("t/kept", None, retain=True)
    for _ in range(3):
        peer.publish("t/last")
    assert world.broker.statistics().namespaces[0].topics == 1


def test_sweep_lets_go_of_what_is_too_old(make_world: Callable[..., World]) -> None:
    """[N-024]: messages, and the keys."""
    world = make_world(NamespaceSettings(history=HistorySettings(seconds=10.0)), key_seconds=20.0)
    peer = world.join()
    peer.publish("t", key="k" * 16)
    found = []
    for seconds in (9.9, 0.2, 9.8, 0.2):
        world.wait(seconds)
        (statistics,) = world.broker.statistics().namespaces
        found.append((statistics.messages, statistics.topics, statistics.keys, statistics.bytes > 0))
    assert found == [(1, 1, 1, True), (0, 0, 1, False), (0, 0, 1, False), (0, 0, 0, False)]


def test_publish_lets_go_of_what_is_too_old(make_world: Callable[..., World]) -> None:
    """[N-024]: without waiting for the sweeper."""
    world = make_world(NamespaceSettings(history=HistorySettings(seconds=10.0)))
    peer = world.join()
    peer.publish("t")
    world.now = 10.0
    peer.publish("t")
    assert world.broker.statistics().namespaces[0].messages == 1


def test_a_sweep_lets_go_of_a_large_log_in_slices(make_world: Callable[..., World]) -> None:
    """Ten thousand messages that expire together are no step of their own; who reads finds none of them either way."""
    world = make_world(NamespaceSettings(history=HistorySettings(messages=20_000, bytes=1 << 24, seconds=5.0)))
    publisher = world.join()
    for number in range(10_000):
        publisher.session.receive(b'{"op":"publish","topic":"t/a","data":%d}' % number, world.moment)
    world.now += 6.0
    log, kept = world.broker.namespace("t").log, [10_000]
    kept += (len(log) for _ in world.broker.sweep(world.now))
    kept.append(len(log))
    assert kept[-1] == 0
    assert len(kept) > 2
    assert max(before - after for before, after in itertools.pairwise(kept)) <= 4096


def test_a_reader_finds_nothing_that_has_expired_before_the_sweep_comes(make_world: Callable[..., World]) -> None:
    world = make_world(NamespaceSettings(history=HistorySettings(seconds=5.0)))
    reader = world.join()
    reader.publish("t/a")
    world.now += 6.0
    assert reader.ask("history", filter="t/#")["messages"] == []
