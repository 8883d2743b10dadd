"""Positions: told early enough that none resumes from one that has expired, and not much more often."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from tercet_broker.core import HistorySettings, NamespaceSettings

if TYPE_CHECKING:
    from tests.core.conftest import Peer, World


def publish_and_look(publisher: Peer, data: Any = 0) -> None:
    """Publish to a busy topic, and let the sweeper come."""
    publisher.publish("t/busy", data)
    publisher.world.wait(0.0)


def positions(events: list[dict[str, Any]]) -> list[int]:
    return [event["seq"] for event in events if event["op"] == "position"]


def test_position_is_told_when_half_the_log_has_turned_over(make_world: Callable[..., World]) -> None:
    """[S-022], and to each from where it stands."""
    world = make_world(NamespaceSettings(history=HistorySettings(messages=10)))
    publisher, early, late = world.join(), world.join(), world.join()
    early.ask("subscribe", id=1, filter="t/rare")
    for _ in range(3):
        publish_and_look(publisher)
    late.ask("subscribe", id=1, filter="t/rare")
    for _ in range(12):
        publish_and_look(publisher)
    assert early.take() == [
        {"op": "position", "namespace": "t", "epoch": world.broker.epoch, "seq": seq} for seq in (5, 10, 15)
    ]
    assert positions(late.take()) == [8, 13]


def test_position_is_told_by_bytes(make_world: Callable[..., World]) -> None:
    world = make_world(NamespaceSettings(history=HistorySettings(messages=1000, bytes=2000)))
    publisher, peer = world.join(), world.join()
    peer.ask("subscribe", id=1, filter="t/rare")
    for _ in range(6):
        publish_and_look(publisher, "x" * 300)
    assert positions(peer.take()) == [3, 6]


def test_position_is_told_by_time(make_world: Callable[..., World]) -> None:
    """The sweeper tells it where nobody publishes any more; where nothing happened there is nothing to tell."""
    world = make_world(NamespaceSettings(history=HistorySettings(seconds=100.0)))
    publisher, peer = world.join(), world.join()
    peer.ask("subscribe", id=1, filter="t/rare")
    publisher.publish("t/busy")
    world.wait(49.0)
    assert peer.take() == []
    world.wait(1.0)
    assert positions(peer.take()) == [1]
    world.wait(500.0)
    assert peer.take() == []


@pytest.mark.parametrize("history", [HistorySettings(messages=4), HistorySettings(messages=1), None])
def test_position_comes_behind_what_it_speaks_of(
    make_world: Callable[..., World], history: HistorySettings | None
) -> None:
    """[S-020]"""
    world = make_world(NamespaceSettings(history=history))
    publisher, peer = world.join(), world.join()
    peer.ask("subscribe", id=1, filter="t")
    for _ in range(300):
        publisher.publish("t")
        world.wait(0.0)
    told = 0
    for event in peer.take():
        if event["op"] == "message":
            assert event["seq"] == told + 1
            told += 1
        else:
            assert event["seq"] == told
    assert told == 300


def test_position_is_not_told_to_those_who_left(make_world: Callable[..., World]) -> None:
    """Unsubscribed, or only spanning: for them there is nothing to resume."""
    world = make_world(NamespaceSettings(history=HistorySettings(messages=2)))
    publisher, gone, spanning = world.join(), world.join(), world.join()
    gone.ask("subscribe", id=1, filter="t/rare")
    gone.ask("subscribe", id=2, filter="t/rare")
    gone.ask("unsubscribe", sub=1)
    spanning.ask("subscribe", id=1, filter="+/rare")
    publish_and_look(publisher)
    assert positions(gone.take()) == [1]
    gone.ask("unsubscribe", sub=2)
    for _ in range(9):
        publish_and_look(publisher)
    assert gone.take() == spanning.take() == []


def test_position_is_not_put_off_by_a_further_subscription(make_world: Callable[..., World]) -> None:
    """Its `subscribed` tells the head for itself; the first one still stands where it stood."""
    world = make_world(NamespaceSettings(history=HistorySettings(messages=10)))
    publisher, peer = world.join(), world.join()
    peer.ask("subscribe", id=1, filter="t/rare")
    for _ in range(4):
        publish_and_look(publisher)
    peer.ask("subscribe", id=2, filter="t/rarer")
    publish_and_look(publisher)
    assert positions(peer.take()) == [5]


def test_positions_are_told_in_short_steps(make_world: Callable[..., World]) -> None:
    """However many connections there are to be told, others have their turn in between."""
    world = make_world(NamespaceSettings(history=HistorySettings(messages=2)))
    publisher, peers = world.join(), [world.join() for _ in range(600)]
    for peer in peers:
        peer.send("subscribe", id=1, filter="t/rare")
    publisher.publish("t/busy")

    def count() -> int:
        return sum(peer.session.outbox.notices for peer in peers) - len(peers)

    told = [0, *(count() for _ in world.broker.sweep(world.now)), count()]
    assert told[-1] == 600
    assert max(b - a for a, b in itertools.pairwise(told)) <= 64


def test_fast_log_is_told_of_seldom(make_world: Callable[..., World]) -> None:
    """Nobody could resume from a log that lasts less than a second; and when it has become slower, all are told."""
    world = make_world(NamespaceSettings(history=HistorySettings(messages=10)))
    publisher, peer = world.join(), world.join()
    peer.ask("subscribe", id=1, filter="t/rare")
    world.wait(1.0)
    heads = []
    for second in range(22):
        for _ in range(20 if second < 20 else 1):
            publisher.publish("t/busy")
        world.wait(1.0)
        heads += [(second, seq) for seq in positions(peer.take())]
    assert heads == [(9, 200), (19, 400)]
    for _ in range(4):
        publisher.publish("t/busy")
        world.wait(1.0)
    assert positions(peer.take()) == [405]


def test_sweep_ends_however_much_is_published_meanwhile(make_world: Callable[..., World]) -> None:
    """Who was told in this round is done: else a fast publisher would keep the sweeper from everything else."""
    world = make_world(NamespaceSettings(history=HistorySettings(messages=2)))
    publisher, peers = world.join(), [world.join() for _ in range(130)]
    for peer in peers:
        peer.ask("subscribe", filter="a/b")
    world.now += 60
    publisher.publish("a/b")
    for step, _ in enumerate(world.broker.sweep(world.now)):
        publisher.publish("a/b")
        assert step < 20
