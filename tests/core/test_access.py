"""Who is let in, what they may do, and what happens when that changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from attrs import evolve

from tercet_broker.core import (
    Access,
    Action,
    Arrival,
    HistorySettings,
    Identity,
    NamespaceSettings,
    RefusedError,
    Rule,
    Rules,
)
from tercet_protocol import ErrorCode

if TYPE_CHECKING:
    from tests.core.conftest import Peer, World

ALL = tuple(Action)
ALICE = Identity("alice", frozenset({"traders"}), None, "token:alice")
OPEN = Rules((Rule(("*",), ALL, ("#",)),))


@pytest.fixture
def closed(make_world: Callable[..., World]) -> World:
    """A broker that wants tokens."""
    world = make_world(NamespaceSettings(history=HistorySettings(messages=100)))
    world.broker.access = Access(takes_tokens=True, required=True, grace=10.0)
    return world


def answer(peer: Peer, verdict: Identity | RefusedError) -> None:
    """Let the verification of the oldest token end."""
    _, tell = peer.carrier.asked.popleft()
    tell(verdict, peer.world.moment)
    peer.world.check()


def is_held(peer: Peer) -> bool:
    return peer.session.outbox.is_congested


def join(world: World, identity: Identity, arrival: Arrival | None = None) -> Peer:
    peer = world.open()
    if arrival is not None:
        peer.session.arrival = arrival
    peer.send("connect", id=1, token="a.b")
    answer(peer, identity)
    assert peer.take()[0]["op"] == "connected"
    return peer


def rules(*filters: str, allow: tuple[Action, ...] = ALL, who: str = "*") -> Rules:
    return Rules((Rule((who,), allow, filters),))


# Coming in


def test_connect_without_a_token_where_one_is_required(closed: World) -> None:
    """A-001."""
    peer = closed.open()
    peer.send("connect", id=1)
    (error,) = peer.take()
    assert (error["op"], error["id"], error["code"]) == ("error", 1, "unauthorized")
    assert peer.close_code == 3000


def test_connect_without_a_token_where_none_is_required(closed: World) -> None:
    closed.broker.access = evolve(closed.broker.access, required=False)
    peer = closed.open()
    assert "user" not in peer.ask("connect")
    assert peer.close_code is None


def test_connect_with_a_token(closed: World) -> None:
    """A-002: nothing is answered, or read, before the token was verified; then the user is told."""
    peer = closed.open()
    peer.send("connect", id=1, token="id.secret")
    assert peer.take() == []
    assert is_held(peer)
    assert peer.carrier.asked[0][0] == "id.secret"
    answer(peer, evolve(ALICE, expires_at=peer.world.moment.time / 1000 + 60))
    assert not is_held(peer)
    (connected,) = peer.take()
    assert (connected["user"], connected["expires_in"]) == ("alice", 60.0)


def test_connect_with_a_wrong_token(closed: World) -> None:
    """A-002."""
    peer = closed.open()
    peer.send("connect", id=1, token="id.wrong")
    answer(peer, RefusedError(ErrorCode.UNAUTHORIZED, "the token is not valid"))
    (error,) = peer.take()
    assert (error["id"], error["code"]) == (1, "unauthorized")
    assert peer.close_code == 3000


def test_connect_while_tokens_cannot_be_verified(closed: World) -> None:
    """Waiting helps, so it is closed with a code after which clients come back."""
    peer = closed.open()
    peer.send("connect", id=1, token="id.secret")
    answer(peer, RefusedError(ErrorCode.UNAVAILABLE, "busy", retry_after=1.0))
    (error,) = peer.take()
    assert (error["code"], error["retry_after"]) == ("unavailable", 1.0)
    assert peer.close_code == 1013


def test_verdict_after_the_connection_has_ended(closed: World) -> None:
    peer = closed.open()
    peer.send("connect", id=1, token="id.secret")
    peer.hang_up()
    answer(peer, ALICE)
    assert not peer.session.is_connected


def test_token_of_the_handshake(closed: World) -> None:
    """A-003; the one in `connect` comes first."""
    for token, expected in ((None, "from.header"), ("from.connect", "from.connect")):
        peer = closed.open()
        peer.session.arrival = Arrival(bearer="from.header")
        peer.send("connect", token=token)
        assert peer.carrier.asked[0][0] == expected


def test_token_over_a_connection_that_others_can_read(closed: World) -> None:
    """A-005."""
    for fields, bearer in (({"token": "a.b"}, None), ({}, "a.b")):
        peer = closed.open()
        peer.session.arrival = Arrival(bearer=bearer, is_private=False)
        peer.send("connect", id=1, **fields)
        (error,) = peer.take()
        assert error["code"] == "unauthorized"
        assert "wss://" in error["message"]
        assert peer.close_code == 3000
        assert not peer.carrier.asked


def test_identity_of_the_listener(closed: World) -> None:
    """A-001, A-030: a certificate is enough; a token of the same user takes its place, and none of another's."""
    arrival = Arrival(identity=Identity("alice", source="certificate"))
    peer = closed.open()
    peer.session.arrival = arrival
    assert peer.ask("connect")["user"] == "alice"
    assert join(closed, ALICE, arrival).session.identity is ALICE
    for other in (evolve(ALICE, user="bob"), evolve(ALICE, user=None)):
        peer = closed.open()
        peer.session.arrival = arrival
        peer.send("connect", id=1, token="a.b")
        answer(peer, other)
        (error,) = peer.take()
        assert (error["id"], error["code"], peer.close_code) == (1, "unauthorized", 3000)
        assert closed.broker.users.connections("bob") == 0


def test_connections_of_a_user_are_counted_once_the_token_is_verified(closed: World) -> None:
    """Whichever way the user became known; `authenticate` does not count again."""
    closed.broker.users.limit = 2
    first = join(closed, ALICE)
    first.send("authenticate", id=2, token="c.d")
    answer(first, ALICE)
    assert first.take()[0]["op"] == "authenticated"
    join(closed, ALICE, Arrival(identity=Identity("alice", source="certificate")))
    third = closed.open()
    third.send("connect", id=1, token="a.b")
    answer(third, ALICE)
    assert (third.take()[0]["code"], third.close_code) == ("unavailable", 1013)
    first.hang_up()
    join(closed, ALICE)
    assert closed.broker.users.connections("alice") == 2


def test_token_where_they_mean_nothing(world: World) -> None:
    peer = world.open()
    assert "user" not in peer.ask("connect", token="whatever")
    assert not peer.carrier.asked
    assert peer.ask("authenticate", token="whatever")["code"] == "unsupported"


# What they may do


def test_publish_subscribe_and_history_where_it_is_forbidden(closed: World) -> None:
    """A-010, A-012, A-013."""
    closed.broker.access = evolve(closed.broker.access, rules=rules("a/#"))
    peer = join(closed, ALICE)
    for op, fields in (
        ("publish", {"topic": "b/x", "data": 1}),
        ("subscribe", {"filter": "b/x"}),
        ("subscribe", {"filter": "+/x"}),
        ("subscribe", {"filter": "#"}),
        ("history", {"filter": "b/#"}),
    ):
        error = peer.ask(op, **fields)
        assert error["code"] == "forbidden", op
        assert "may not" in error["message"]
    assert "b" not in {space.name for space in closed.broker.statistics().namespaces}
    assert peer.ask("publish", topic="a/x", data=1)["op"] == "published"
    assert peer.ask("subscribe", filter="a/+")["op"] == "subscribed"
    assert peer.ask("history", filter="a/#")["op"] == "history"
    assert peer.close_code is None


def test_each_action_is_for_itself(closed: World) -> None:
    """A-012."""
    requests: dict[Action, tuple[str, dict[str, Any]]] = {
        Action.PUBLISH: ("publish", {"topic": "a", "data": 1}),
        Action.SUBSCRIBE: ("subscribe", {"filter": "a"}),
        Action.HISTORY: ("history", {"filter": "a"}),
    }
    for action in requests:
        closed.broker.set_rules(rules("a/#", allow=(action,)))
        peer = join(closed, ALICE)
        for other, (op, fields) in requests.items():
            assert (peer.ask(op, **fields)["op"] == "error") == (other is not action)


@pytest.fixture
def leaky(closed: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """A broker in which, by a fault, every filter counts as granted: only the check of each topic is left."""
    monkeypatch.setattr("tercet_broker.core.rules.Grants.covers", lambda *_: True)
    closed.broker.access = evolve(closed.broker.access, rules=rules("a/ok"))
    return closed


def test_every_delivery_is_checked_against_its_topic(leaky: World) -> None:
    """A-014: live, replayed, retained and history."""
    feed = join(leaky, ALICE)
    feed.session.outbox.grants = None  # may publish
    for topic in ("a/ok", "a/secret"):
        feed.publish(topic, "old", retain=True)
    reader = join(leaky, ALICE)
    for fields in ({}, {"last": 10}, {"since": {"epoch": leaky.broker.epoch, "seq": 0}}, {"retained": True}):
        reader.send("subscribe", id=5, filter="a/#", **fields)
        feed.publish("a/ok", "new")
        feed.publish("a/secret", "new")
        heard = [event["topic"] for event in reader.take() if event["op"] == "message"]
        assert heard
        assert set(heard) == {"a/ok"}, fields
        reader.send("unsubscribe", sub=5)
    for fields in ({}, {"since": {"epoch": leaky.broker.epoch, "seq": 0}}):
        page = reader.ask("history", filter="a/#", **fields)
        assert {message["topic"] for message in page["messages"]} == {"a/ok"}


def test_check_of_a_topic_holds_for_filters_that_span_namespaces(leaky: World) -> None:
    """A-014."""
    feed, reader = join(leaky, ALICE), join(leaky, ALICE)
    feed.session.outbox.grants = None
    reader.send("subscribe", id=5, filter="#")
    feed.publish("a/secret")
    feed.publish("a/ok")
    assert [event["topic"] for event in reader.take() if event["op"] == "message"] == ["a/ok"]


# When it changes


def test_rules_that_are_taken_back_end_subscriptions(closed: World) -> None:
    """A-020: these and no others, in the step in which the rules change."""
    closed.broker.set_rules(OPEN)
    feed, reader = join(closed, ALICE), join(closed, ALICE)
    reader.send("subscribe", id=2, filter="a/#")
    reader.send("subscribe", id=3, filter="b/#")
    reader.send("subscribe", id=4, filter="#")
    feed.publish("a/x", 1)
    closed.broker.set_rules(rules("b/#", allow=ALL))
    feed.session.outbox.grants = None
    feed.publish("a/x", 2)
    feed.publish("b/x", 3)
    events = [event for event in reader.take() if event["op"] in {"message", "unsubscribed"}]
    assert [(e["op"], e.get("data"), e.get("sub"), e.get("code")) for e in events] == [
        ("message", 1, None, None),
        ("unsubscribed", None, 2, "forbidden"),
        ("unsubscribed", None, 4, "forbidden"),
        ("message", 3, None, None),
    ]
    assert reader.close_code is None
    assert reader.ask("subscribe", id=2, filter="b/x")["op"] == "subscribed", "the id is free again"


def test_rules_that_are_taken_back_end_a_replay_in_its_middle(make_world: Callable[..., World]) -> None:
    """A-020, R-018."""
    world = make_world(outbox_bytes=2048, message_bytes=1024)
    world.broker.access = Access(OPEN, takes_tokens=True, required=True)
    feed, reader = join(world, ALICE), join(world, ALICE)
    for number in range(50):
        feed.publish("a/x", [number, "x" * 100])
        feed.take()
    reader.send("subscribe", id=2, filter="a/#", last=50)
    assert reader.session.outbox.is_behind
    world.broker.set_rules(rules("b/#"))
    events = reader.take()
    assert events[-1]["op"] == "unsubscribed"
    assert len(events) < 40


def test_rules_that_grant_more(closed: World) -> None:
    closed.broker.set_rules(rules("a/#"))
    peer = join(closed, ALICE)
    closed.broker.set_rules(OPEN)
    assert peer.ask("subscribe", filter="b/#")["op"] == "subscribed"


def test_renewal(closed: World) -> None:
    """A-006."""
    peer = join(closed, evolve(ALICE, expires_at=closed.moment.time / 1000 + 60))
    peer.send("authenticate", id=9, token="new.one")
    answer(peer, evolve(ALICE, expires_at=closed.moment.time / 1000 + 600))
    (reply,) = peer.take()
    assert reply == {"op": "authenticated", "id": 9, "user": "alice", "expires_in": 600.0}
    closed.wait(100)
    assert peer.close_code is None


def test_renewal_with_other_claims(closed: World) -> None:
    """A-006, A-020: what the new token does not allow ends."""
    closed.broker.set_rules(rules("a/#", who="group:traders"))
    peer = join(closed, ALICE)
    peer.send("subscribe", id=2, filter="a/#")
    peer.take()
    peer.send("authenticate", id=9, token="new.one")
    answer(peer, evolve(ALICE, groups=frozenset()))
    assert [event["op"] for event in peer.take()] == ["unsubscribed", "authenticated"]
    assert peer.ask("subscribe", filter="a/#")["code"] == "forbidden"


def test_renewal_with_another_users_token(closed: World) -> None:
    """A-007."""
    peer = join(closed, ALICE)
    peer.send("authenticate", id=9, token="other.one")
    answer(peer, Identity("bob"))
    (error,) = peer.take()
    assert (error["id"], error["code"]) == (9, "forbidden")
    assert peer.session.identity is ALICE
    assert peer.close_code is None


def test_renewal_with_a_wrong_token(closed: World) -> None:
    """A-006."""
    peer = join(closed, ALICE)
    peer.send("authenticate", id=9, token="wrong.one")
    answer(peer, RefusedError(ErrorCode.UNAUTHORIZED, "the token is not valid"))
    (error,) = peer.take()
    assert (error["id"], error["code"]) == (9, "unauthorized")
    assert peer.close_code == 3000


def test_renewal_that_has_to_wait_keeps_the_connection(closed: World) -> None:
    peer = join(closed, ALICE)
    peer.send("authenticate", id=9, token="new.one")
    answer(peer, RefusedError(ErrorCode.UNAVAILABLE, "busy", retry_after=1.0))
    assert peer.take()[0]["code"] == "unavailable"
    assert peer.close_code is None


def test_expiry(closed: World) -> None:
    """A-008: closed when the grace is over, and not before."""
    peer = join(closed, evolve(ALICE, expires_at=closed.moment.time / 1000 + 60))
    closed.wait(69.9)
    assert peer.ask("ping")["op"] == "pong"
    closed.wait(0.1)
    (error,) = peer.take()
    assert (error["code"], error.get("id")) == ("unauthorized", None)
    assert peer.close_code == 3000


def test_expired_sessions_are_forgotten(closed: World) -> None:
    peer = join(closed, evolve(ALICE, expires_at=closed.moment.time / 1000 + 60))
    peer.hang_up()
    assert not closed.broker._expiring  # noqa: SLF001 - nothing else shows that it is not kept


def test_access_that_is_taken_back(closed: World) -> None:
    """A-021: who is not known any more is closed; the others go on."""
    alice, bob = join(closed, ALICE), join(closed, Identity("bob", source="token:bob"))
    stranger = closed.open()
    closed.broker.set_access(
        closed.broker.access, lambda identity: identity if identity.user == "bob" else None, closed.moment
    )
    assert [event["code"] for event in alice.take()] == ["unauthorized"]
    assert (alice.close_code, bob.close_code, stranger.close_code) == (3000, None, None)


def test_anonymous_where_that_is_not_wanted_any_more(closed: World) -> None:
    """A-021."""
    required = closed.broker.access
    closed.broker.access = evolve(required, required=False)
    peer = closed.open()
    peer.ask("connect")
    closed.broker.set_access(required, lambda identity: identity, closed.moment)
    assert peer.close_code == 3000


def test_keys_are_each_users_own(closed: World) -> None:
    """P-010: the same key of another user is another key."""
    key = "0123456789abcdef"
    alice, bob = join(closed, ALICE), join(closed, Identity("bob"))
    first = alice.ask("publish", topic="a", data=1, key=key)
    assert bob.ask("publish", topic="a", data=2, key=key)["seq"] == first["seq"] + 1
    assert alice.ask("publish", topic="a", data=1, key=key)["duplicate"]
