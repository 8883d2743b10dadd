"""The broker as a whole: namespaces that come and go, sessions, statistics."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from tercet_broker.core import Arrival, Broker, BrokerSettings, HistorySettings, Identity, NamespaceSettings

if TYPE_CHECKING:
    from tests.core.conftest import World


def test_epoch_and_labels_come_from_the_entropy() -> None:
    """[N-021]: one life of a broker has one epoch, another life another."""
    epochs = [Broker(BrokerSettings(), random.Random(seed)).epoch for seed in (1, 1, 2)]
    assert epochs[0] == epochs[1] != epochs[2]
    assert len(epochs[0]) == 12


def test_only_configured_namespaces_exist_where_others_are_refused(make_world: Callable[..., World]) -> None:
    """[N-022]"""
    peer = make_world(only_named=True, namespaces={"t": NamespaceSettings()}).join()
    assert peer.ask("publish", topic="t/a", data=1)["seq"] == 1
    assert peer.ask("publish", topic="u/a", data=1)["code"] == "forbidden"
    assert peer.ask("subscribe", filter="u/#")["code"] == "forbidden"
    assert peer.ask("history", filter="u/#")["code"] == "forbidden"
    assert peer.ask("subscribe", filter="#")["live"] is True


def test_unnamed_namespaces_are_limited(make_world: Callable[..., World]) -> None:
    """[N-022] [E-002]: configured ones do not count."""
    peer = make_world(unnamed_limit=4, namespaces={"named": NamespaceSettings()}).join()
    for name in ("a", "b"):
        peer.ask("publish", topic=name, data=1)
    for op, fields in (
        ("publish", {"topic": "c", "data": 1}),
        ("subscribe", {"filter": "c"}),
        ("history", {"filter": "c"}),
    ):
        reply = peer.ask(op, **fields)
        assert reply["code"] == "unavailable"
        assert reply["retry_after"] > 0
    assert peer.ask("publish", topic="named", data=1)["seq"] == 1
    assert peer.ask("publish", topic="a/x", data=1)["seq"] == 2


def test_unused_namespaces_make_room(make_world: Callable[..., World]) -> None:
    """Nothing was published there and nobody listens; subscribers, live or replaying, hold theirs."""
    world = make_world(unnamed_limit=4, namespaces={"named": NamespaceSettings(), "more": NamespaceSettings()})
    peer = world.join()
    peer.ask("subscribe", id=1, filter="held")
    for number in range(10):
        assert peer.ask("history", filter=f"n{number}")["op"] == "history"
    peer.ask("publish", topic="full", data=1)
    assert peer.ask("subscribe", id=2, filter="over")["code"] == "unavailable"
    world.join().publish("held/x")
    peer.ask("unsubscribe", sub=1)
    assert peer.ask("subscribe", id=2, filter="over")["code"] == "unavailable", "a sequence that began is kept"
    assert {item.name for item in world.broker.statistics().namespaces} == {"named", "more", "held", "full"}


def test_namespace_that_made_room_comes_back_as_it_was(make_world: Callable[..., World]) -> None:
    world = make_world(unnamed_limit=1)
    peer = world.join()
    first = peer.ask("subscribe", id=1, filter="a")
    peer.ask("unsubscribe", sub=1)
    peer.ask("subscribe", id=2, filter="b")
    peer.ask("unsubscribe", sub=2)
    again = peer.ask("subscribe", id=1, filter="a", since={"epoch": first["epoch"], "seq": first["seq"]})
    assert again["recovered"] is True


def test_unnamed_namespace_is_forgotten_once_idle(make_world: Callable[..., World]) -> None:
    """And comes back with another epoch [N-021], though without history its handover run never ends by age."""
    world = make_world(NamespaceSettings(), unnamed_limit=1)
    peer = world.join()
    first = peer.ask("publish", topic="a", data=1)
    assert peer.ask("publish", topic="b", data=1)["code"] == "unavailable"
    world.wait(599.0)
    assert peer.ask("publish", topic="b", data=1)["code"] == "unavailable"
    world.wait(1.0)
    assert peer.ask("publish", topic="b", data=1)["seq"] == 1
    world.wait(600.0)
    again = world.join()
    reply = again.ask("publish", topic="a", data=1)
    assert reply["seq"] == 1
    assert reply["epoch"] != first["epoch"]


def test_one_connection_cannot_use_all_unnamed_namespaces(make_world: Callable[..., World]) -> None:
    world = make_world(unnamed_limit=10)
    greedy, other = world.join(), world.join()
    replies = [greedy.ask("publish", topic=f"g{number}", data=1)["op"] for number in range(10)]
    assert replies == ["published"] * 5 + ["error"] * 5
    assert other.ask("publish", topic="mine", data=1)["seq"] == 1


def test_place_has_one_share_however_often_its_client_comes_again(make_world: Callable[..., World]) -> None:
    """Of unnamed namespaces and of keys; where it comes from is not known of the last, which has one of its own."""
    world = make_world(unnamed_limit=10, namespaces={"named": NamespaceSettings(keys=10)})
    told: list[list[str]] = []
    for place in (b"here", b"here", b"there", None):
        peer = world.open()
        peer.session.arrival = Arrival(owner=place)
        peer.ask("connect")
        made = [peer.ask("publish", topic=f"u{len(told)}-{number}", data=1) for number in range(6)]
        keyed = [peer.ask("publish", topic="named", data=1, key=f"{len(told)}-{number:016}") for number in range(6)]
        assert [reply["op"] for reply in made] == [reply["op"] for reply in keyed]
        told.append([reply["op"] for reply in made])
        peer.hang_up()
    assert [replies.count("published") for replies in told] == [5, 0, 3, 1]


def test_user_has_his_own_share_wherever_he_comes_from(make_world: Callable[..., World]) -> None:
    """And one who calls himself what a place is counted as takes nothing of that place's."""
    world = make_world(unnamed_limit=10)
    for number, identity in enumerate((None, Identity("ann"), Identity("here"))):
        peer = world.open()
        peer.session.arrival = Arrival(identity=identity, owner=b"here")
        peer.ask("connect")
        assert peer.ask("publish", topic=f"u{number}", data=1)["op"] == "published"
        assert peer.session.owner == (b"here" if identity is None else identity.user)


def test_configured_namespaces_have_their_own_settings(make_world: Callable[..., World]) -> None:
    peer = make_world(
        NamespaceSettings(retained=False), namespaces={"t": NamespaceSettings(history=HistorySettings(messages=1))}
    ).join()
    for topic in ("t", "u"):
        peer.publish(topic)
        peer.publish(topic)
    assert len(peer.ask("history", filter="t")["messages"]) == 1
    assert peer.ask("history", filter="u")["messages"] == []
    assert "seq" in peer.ask("publish", topic="t", data=1, retain=True)
    assert peer.ask("publish", topic="u", data=1, retain=True)["code"] == "unsupported"


def test_statistics_show_what_there_is(world: World) -> None:
    publisher, peer = world.join(), world.join()
    peer.ask("subscribe", id=1, filter="t/+")
    publisher.publish("t/a", retain=True, key="k" * 16)
    statistics = world.broker.statistics()
    assert statistics.opened == 2
    assert [(item.connection, item.subscriptions, item.replaying) for item in statistics.sessions] == [
        (publisher.session.label, 0, 0),
        (peer.session.label, 1, 0),
    ]
    assert statistics.sessions[1].queued_bytes == peer.session.outbox.size > 0
    (namespace,) = statistics.namespaces
    assert (namespace.head, namespace.messages, namespace.topics, namespace.retained, namespace.keys) == (1, 1, 1, 1, 1)
    assert (namespace.epoch, namespace.subscribers, namespace.account.queued) == (world.broker.epoch, 1, 1)
    publisher.hang_up()
    assert world.broker.sessions == (peer.session,)
    assert world.broker.statistics().opened == 2


def test_reopened_broker_remembers_and_takes_publishes_again(make_world: Callable[..., World]) -> None:
    """After a drain, with the sessions gone: the same epoch, log, retained value and key."""
    world = make_world()
    peer = world.join()
    published = peer.ask("publish", topic="t/a", data=1, retain=True, key="k" * 16)
    world.broker.drain(lambda: 1.0)
    peer.take()
    assert peer.ask("publish", topic="t/a", data=2)["code"] == "unavailable"
    peer.hang_up()
    world.broker.reopen()
    peer = world.join()
    again = peer.ask("publish", topic="t/a", data=1, retain=True, key="k" * 16)
    assert again == published | {"id": again["id"], "duplicate": True}
    assert peer.ask("publish", topic="t/a", data=2)["seq"] == 2


def test_broker_that_serves_somebody_is_not_reopened(make_world: Callable[..., World]) -> None:
    world = make_world()
    world.join()
    with pytest.raises(ValueError, match="1 sessions of this broker have not ended"):
        world.broker.reopen()
