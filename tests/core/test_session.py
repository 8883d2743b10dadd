"""What a session answers, refuses, and how it ends."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from tercet_broker.core import DropReason, HistorySettings, NamespaceSettings, Overflow
from tercet_protocol import CloseCode, encode_close_frame

if TYPE_CHECKING:
    from tests.core.conftest import Peer, World

KEY = "0123456789abcdef"
CUT_OFF = NamespaceSettings(history=HistorySettings(), overflow=Overflow.DISCONNECT)


def codes(events: list[dict[str, Any]]) -> list[str]:
    return [event["code"] if event["op"] == "error" else event["op"] for event in events]


def subs_of(events: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [(event["op"], event.get("sub"), event.get("seq")) for event in events]


# connect


def test_connect_tells_the_limits(make_world: Callable[..., World]) -> None:
    """[R-005]"""
    peer = make_world(subscriptions=7, last=8, key_seconds=9.0, message_bytes=1000).open()
    reply = peer.ask("connect", client="test/1", token="ignored")
    assert reply["limits"] == {
        "message_bytes": 1000,
        "subscriptions": 7,
        "topic_bytes": 255,
        "topic_levels": 16,
        "last": 8,
        "key_seconds": 9.0,
    }
    assert (reply["heartbeat"], reply["server"]) == (25.0, "tercet")
    assert "user" not in reply
    assert "expires_in" not in reply


@pytest.mark.parametrize(
    "request_",
    [
        {"op": "subscribe", "filter": "t"},
        {"op": "publish", "topic": "t", "data": 1},
        {"op": "history", "filter": "t"},
        {"op": "ping"},
        {"op": "presence", "topic": "t"},
    ],
    ids=lambda request: request["op"],
)
def test_connect_comes_first(world: World, request_: dict[str, Any]) -> None:
    """[R-001]: an error and 3000, and nothing happens."""
    peer = world.open()
    peer.send(**request_, id=4)
    peer.send("connect")
    (error,) = peer.take()
    assert (error["code"], error["id"]) == ("unauthorized", 4)
    assert peer.close_code == 3000
    assert world.broker.statistics().namespaces == ()


def test_bad_request_before_connect_closes_as_well(world: World) -> None:
    peer = world.open()
    peer.send_raw("no json")
    assert codes(peer.take()) == ["bad_request"]
    assert peer.close_code == 3000


def test_bad_connect_may_be_corrected(world: World) -> None:
    peer = world.open()
    peer.send("connect", id=1, colour="red")
    assert peer.take()[0]["id"] == 1
    assert peer.close_code is None
    assert peer.ask("connect")["op"] == "connected"


def test_connect_and_further_requests_need_no_waiting(world: World) -> None:
    """[R-004] [C-021]: each takes effect in order, and is answered in order."""
    peer = world.open()
    peer.send("connect", id=1)
    peer.send("subscribe", id=2, filter="t/#")
    peer.send("publish", id=3, topic="t/a", data=1)
    peer.send("ping", id=4)
    assert [event["op"] for event in peer.take()] == ["connected", "subscribed", "message", "published", "pong"]


def test_second_connect_is_a_bad_request(world: World) -> None:
    """[R-003]"""
    assert world.join().ask("connect")["code"] == "bad_request"


# Bad requests


def test_ten_bad_requests_in_a_minute_close(world: World) -> None:
    """[C-015]: with 1008; nine do not."""
    peer = world.join()
    for _ in range(9):
        peer.send("nonsense")
        world.now += 6.6
    assert peer.close_code is None
    peer.send("nonsense")
    assert codes(peer.take()) == ["bad_request"] * 10
    assert peer.close_code == 1008


def test_ten_bad_requests_in_more_than_a_minute_are_served(world: World) -> None:
    """[C-015]: it is the last minute that counts."""
    peer = world.join()
    for _ in range(40):
        peer.send("nonsense")
        world.now += 6.7
    assert peer.close_code is None


def test_refusals_of_other_kinds_are_no_bad_requests(world: World) -> None:
    peer = world.join()
    for _ in range(20):
        peer.send("publish", topic="a/#", data=1)
    assert codes(peer.take()) == ["invalid_topic"] * 20
    assert peer.close_code is None


def test_bad_request_has_the_id_where_it_can_be_read(world: World) -> None:
    """[C-023]"""
    peer = world.join()
    for payload, id_ in [('{"op":"ping","id":5,"x":1}', 5), ('{"op":"ping","id":0}', None), ("[]", None)]:
        peer.send_raw(payload)
        (error,) = peer.take()
        assert error.get("id") == id_
        assert error["retry_after"] is None


# Replies


def test_requests_without_an_id_are_answered_only_when_they_fail(world: World) -> None:
    """[C-022] [R-022] [R-023]"""
    peer = world.join()
    peer.send("subscribe", id=1, filter="t")
    peer.take()
    for request in (
        {"op": "publish", "topic": "t/x", "data": 1},
        {"op": "history", "filter": "t/#"},
        {"op": "pong"},
        {"op": "pong", "id": 9},
        {"op": "unsubscribe", "sub": 1},
    ):
        peer.send(**request)
    assert peer.take() == []
    peer.send("ping")
    assert peer.take() == [{"op": "pong"}]
    for request in (
        {"op": "subscribe", "filter": "t"},
        {"op": "publish", "topic": "", "data": 1},
        {"op": "history", "filter": "#"},
        {"op": "unsubscribe", "sub": 1},
        {"op": "presence", "topic": "t"},
        {"op": "authenticate", "token": "t"},
    ):
        peer.send(**request)
    errors = peer.take()
    assert all("id" not in error for error in errors)
    assert codes(errors) == [
        "bad_request",
        "invalid_topic",
        "invalid_filter",
        "unknown_subscription",
        "unsupported",
        "unsupported",
    ]


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        ({"op": "presence", "topic": "t"}, "unsupported"),
        ({"op": "authenticate", "token": "t"}, "unsupported"),
        ({"op": "publish", "topic": "$sys/x", "data": 1}, "forbidden"),
        ({"op": "publish", "topic": "$sys", "data": 1}, "forbidden"),
        ({"op": "publish", "topic": "a//b", "data": 1}, "invalid_topic"),
        ({"op": "publish", "topic": "$a/#", "data": 1}, "invalid_topic"),
        ({"op": "subscribe", "filter": "$sys/x"}, "unsupported"),
        ({"op": "subscribe", "filter": "$sys/#"}, "unsupported"),
        ({"op": "history", "filter": "$sys/#"}, "unsupported"),
        ({"op": "subscribe", "filter": "a/#/b"}, "invalid_filter"),
        ({"op": "history", "filter": "a+/b"}, "invalid_filter"),
        ({"op": "history", "filter": "+/b"}, "invalid_filter"),
        ({"op": "unsubscribe", "sub": 3}, "unknown_subscription"),
        ({"op": "subscribe", "filter": "#", "since": {"epoch": "e", "seq": 0}}, "bad_request"),
        ({"op": "subscribe", "filter": "+/a", "last": 0}, "bad_request"),
        ({"op": "subscribe", "filter": "+", "retained": True}, "bad_request"),
        ({"op": "subscribe", "filter": "t", "last": 1, "since": {"epoch": "e", "seq": 0}}, "bad_request"),
        ({"op": "subscribe", "filter": "t", "last": 10_001}, "bad_request"),
    ],
    ids=lambda value: value if isinstance(value, str) else json.dumps(value),
)
def test_refusal_has_its_code_and_the_id(world: World, request_: dict[str, Any], code: str) -> None:
    """[N-004] [N-006] [N-012] [N-030] [N-031] [R-006] [R-014] [R-015] [R-017] [R-020] [R-021]; nothing stays."""
    peer = world.join()
    reply = peer.ask(**request_)
    assert (reply["op"], reply["code"]) == ("error", code)
    assert peer.session.statistics().subscriptions == 0


def test_subscribe_needs_an_id(world: World) -> None:
    """[R-010]"""
    peer = world.join()
    peer.send("subscribe", filter="t")
    assert codes(peer.take()) == ["bad_request"]


def test_subscription_name_is_free_again_after_its_end(world: World) -> None:
    """[R-011]; a refused one changes nothing."""
    peer = world.join()
    peer.ask("subscribe", id=2, filter="t")
    assert peer.ask("subscribe", id=2, filter="u")["code"] == "duplicate_id"
    peer.ask("publish", topic="u", data=1)
    assert peer.session.statistics().account.offered == 0
    peer.ask("unsubscribe", sub=2)
    assert peer.ask("subscribe", id=2, filter="u")["op"] == "subscribed"


def test_subscriptions_are_limited(make_world: Callable[..., World]) -> None:
    """[R-012]; those of all kinds count, and those that ended do not."""
    peer = make_world(subscriptions=2).join()
    peer.ask("subscribe", id=1, filter="#")
    peer.ask("subscribe", id=2, filter="t")
    assert peer.ask("subscribe", id=3, filter="t")["code"] == "too_many_subscriptions"
    peer.ask("unsubscribe", sub=1)
    assert peer.ask("subscribe", id=3, filter="t")["op"] == "subscribed"


def test_same_filter_twice_is_two_subscriptions(world: World) -> None:
    """[R-013] [M-002]: the message comes once, and until both have ended."""
    peer = world.join()
    peer.ask("subscribe", id=1, filter="t")
    peer.ask("subscribe", id=2, filter="t")
    peer.ask("unsubscribe", sub=1)
    peer.publish("t")
    assert subs_of(peer.take()) == [("message", None, 1)]
    peer.ask("unsubscribe", sub=2)
    peer.publish("t")
    assert peer.take() == []


def test_too_large_request_before_connect_closes_as_well(make_world: Callable[..., World]) -> None:
    """R-001."""
    peer = make_world(message_bytes=100).open()
    peer.send_raw("x" * 101)
    assert codes(peer.take()) == ["too_large"]
    assert peer.close_code == 3000


def test_positions_do_not_pile_up_where_nobody_reads(make_world: Callable[..., World]) -> None:
    """A log of one message turns over with each publish, and each turn would tell a position."""
    world = make_world(NamespaceSettings(history=HistorySettings(messages=1)))
    reader, writer = world.join(), world.join()
    reader.send("subscribe", id=1, filter="t/rare")
    for _ in range(1000):
        writer.publish("t/busy")
    assert reader.session.outbox.notices <= 100


def test_last_counts_what_the_connection_may_get(world: World) -> None:
    """S-003: the newest two for this connection, not the newest two of which it may get one."""
    peer = world.join()
    for number in range(3):
        peer.publish("t/a", number)
    peer.publish("t/a", 3, echo=False)
    peer.take()
    peer.send("subscribe", id=90, filter="t/a", last=2)
    assert [event["data"] for event in peer.take() if event["op"] == "message"] == [1, 2]
    assert [event["data"] for event in peer.ask("history", filter="t/a", limit=2)["messages"]] == [1, 2]


@pytest.mark.parametrize("as_text", [True, False])
def test_request_over_the_limit_is_too_large(make_world: Callable[..., World], as_text: bool) -> None:
    """[E-010]: the bytes of it count, however it was handed over, and the connection goes on."""
    peer = make_world(message_bytes=100).join()
    for size, code in ((100, "published"), (101, "too_large")):
        frame = '{"op":"publish","id":7,"topic":"t","data":"%s"}'
        room = size - len(frame % "")
        payload = frame % ("ü" * (room // 2) + "x" * (room % 2))
        assert len(payload.encode()) == size
        peer.send_raw(payload if as_text else payload.encode())
        (reply,) = peer.take()
        assert codes([reply]) == [code]
        assert reply["id"] == 7
    assert peer.close_code is None


# Publishing


def test_publisher_gets_its_own_copy_before_published(world: World) -> None:
    """[P-001]: by then the message has been offered to everyone."""
    peer = world.join()
    peer.ask("subscribe", id=1, filter="t")
    peer.send("publish", id=2, topic="t", data=1)
    assert [event["op"] for event in peer.take()] == ["message", "published"]


def test_echo_false_is_not_delivered_to_its_publisher(world: World) -> None:
    """[P-005]: not live, not from the log, not as a retained value, not from history."""
    peer, other = world.join(), world.join()
    for one in (peer, other):
        one.ask("subscribe", id=1, filter="t")
    peer.publish("t", echo=False, retain=True)
    assert peer.take() == []
    assert subs_of(other.take()) == [("message", None, 1)]
    for options in ({"last": 5}, {"since": {"epoch": world.broker.epoch, "seq": 0}}, {}):
        for one, expected in ((peer, []), (other, [("message", 2, 1)])):
            one.send("subscribe", id=2, filter="t", **options)
            replay = [event for event in one.take() if event["op"] == "message"]
            assert subs_of(replay) == expected
            one.ask("unsubscribe", sub=2)
    assert peer.ask("history", filter="t")["messages"] == []
    assert len(other.ask("history", filter="t")["messages"]) == 1


def test_refused_publish_has_no_effect(make_world: Callable[..., World]) -> None:
    """[P-002]: no seq, no delivery, and its key is not remembered."""
    world = make_world(NamespaceSettings(retained=False))
    peer = world.join()
    peer.ask("subscribe", id=1, filter="#")
    assert peer.ask("publish", topic="t", data=1, retain=True, key=KEY)["code"] == "unsupported"
    reply = peer.ask("publish", topic="t", data=1, key=KEY)
    assert reply["seq"] == 1
    assert "duplicate" not in reply


def test_repeated_key_is_answered_and_not_published(world: World) -> None:
    """[P-010] [P-011]: by another connection as well; within the namespace only."""
    peer, other = world.join(), world.join()
    other.ask("subscribe", id=1, filter="#")
    assert peer.ask("publish", topic="t/a", data=1, key=KEY)["seq"] == 1
    again = other.ask("publish", topic="t/a", data=1, key=KEY, retain=True)
    assert (again["seq"], again["duplicate"]) == (1, True)
    assert other.ask("publish", topic="t/b", data=1, key=KEY)["code"] == "key_reused"
    assert other.ask("publish", topic="u/a", data=2, key=KEY)["seq"] == 1
    world.now = 300.0
    later = peer.ask("publish", topic="t/a", data=1, key=KEY)
    assert later["seq"] == 2
    assert "duplicate" not in later


def test_keys_are_bounded(make_world: Callable[..., World]) -> None:
    """[P-012] [E-002]: no room is `unavailable`, with the time until there is some; without a key it goes."""
    world = make_world(NamespaceSettings(keys=1))
    peer = world.join()
    peer.ask("publish", topic="t", data=1, key="a" * 16)
    world.now = 100.0
    reply = peer.ask("publish", topic="t", data=1, key="b" * 16)
    assert (reply["code"], reply["retry_after"]) == ("unavailable", 200.0)
    assert peer.ask("publish", topic="t", data=1)["seq"] == 2


def test_drain_tells_positions_and_refuses_publishes(world: World) -> None:
    """[D-001] [D-002] [P-006] [S-023]"""
    peer, other = world.join(), world.join()
    peer.ask("subscribe", id=1, filter="t/#")
    peer.ask("subscribe", id=2, filter="u")
    other.ask("publish", topic="t/a", data=1)
    waits = iter([1.5, 2.5])
    list(world.broker.drain(lambda: next(waits)))
    position = {"op": "position", "epoch": world.broker.epoch}
    assert peer.take()[1:] == [
        position | {"namespace": "t", "seq": 1},
        position | {"namespace": "u", "seq": 0},
        {"op": "drain", "retry_after": 1.5},
    ]
    assert other.take() == [{"op": "drain", "retry_after": 2.5}]
    reply = other.ask("publish", topic="t/a", data=1)
    assert reply["code"] == "unavailable"
    assert reply["retry_after"] > 0
    assert peer.ask("subscribe", id=3, filter="t/a")["seq"] == 1


# Unsubscribing


def test_nothing_comes_after_unsubscribed(make_world: Callable[..., World]) -> None:
    """[R-018], in the middle of a replay too; what was queued before comes before."""
    world = make_world(outbox_messages=8)
    peer = world.join()
    for number in range(20):
        peer.publish("t", number)
    peer.send("subscribe", id=1, filter="t", last=20)
    assert peer.session.outbox.is_behind
    peer.send("unsubscribe", id=2, sub=1)
    peer.publish("t")
    events = peer.take()
    assert subs_of(events)[1:] == [("message", 1, 1), ("message", 1, 2), ("unsubscribed", None, None)]
    assert not peer.session.outbox.is_behind


# Slow consumers


def test_slow_consumer_is_closed_and_accounted_for(make_world: Callable[..., World]) -> None:
    """[E-024]: with 4000; the others are not delayed."""
    world = make_world(CUT_OFF, outbox_messages=3)
    slow, fast, publisher = world.join(), world.join(), world.join()
    for peer in (slow, fast):
        peer.ask("subscribe", id=1, filter="t")
    for number in range(5):
        publisher.publish("t", number)
        assert len(fast.take()) == 1
    assert slow.close_code == 4000
    account = slow.session.outbox.account.statistics()
    assert (account.offered, account.queued) == (4, 0)
    assert account.dropped == {DropReason.OVERFLOW: 1, DropReason.CLOSED: 3}
    assert len(world.broker.sessions) == 2
    (namespace,) = world.broker.statistics().namespaces
    assert namespace.subscribers == 1
    assert namespace.account.offered == 9


def test_overflow_of_the_publisher_itself_stops_nothing(make_world: Callable[..., World]) -> None:
    """In the middle of its own fan-out: who comes after it is served; it gets no reply behind the loss."""
    world = make_world(CUT_OFF, outbox_messages=1)
    first, publisher, last = world.join(), world.join(), world.join()
    for peer in (first, publisher, last):
        peer.ask("subscribe", id=1, filter="t")
    publisher.publish("t", 1)
    assert [len(peer.take()) for peer in (first, last)] == [1, 1]
    publisher.send("publish", id=2, topic="t", data=2)
    assert [subs_of(peer.take()) for peer in (first, last)] == [[("message", None, 2)]] * 2
    assert publisher.close_code == 4000
    assert publisher.take() == []
    publisher.send("publish", id=3, topic="t", data=3)
    assert world.broker.statistics().namespaces[0].head == 2, "an ended session is not served"


def test_overflow_by_a_replay_ends_the_session(make_world: Callable[..., World]) -> None:
    """`sub` and `retained` make a replayed message longer: the smallest outbox may have no room for one."""
    world = make_world(message_bytes=51, outbox_bytes=102)
    peer = world.join()
    peer.send_raw(b'{"op":"publish","topic":"t","data":1,"retain":true}')
    peer.send_raw(b'{"op":"subscribe","id":1000000000000,"filter":"t"}')
    assert codes(peer.take()) == ["subscribed"]
    assert peer.close_code == 4000
    assert peer.session.outbox.account.statistics().dropped[DropReason.OVERFLOW] == 1


@pytest.mark.parametrize("is_behind", [True, False])
def test_closing_connection_is_not_taken_for_a_slow_one(make_world: Callable[..., World], is_behind: bool) -> None:
    """Once the outbox is sealed, what it holds is flushed whatever is published or left to replay."""
    world = make_world(outbox_messages=4)
    peer, publisher = world.join(), world.join()
    for _ in range(3):
        publisher.publish("t")
    peer.ask("subscribe", id=1, filter="t")
    peer.send("subscribe", id=2, filter="t/#", **({"last": 3} if is_behind else {}))
    assert peer.session.outbox.is_behind == is_behind
    peer.session.outbox.seal()
    publisher.publish("t")
    queued = len(peer.session.outbox)
    assert queued
    events = peer.take()
    assert len(events) == queued
    assert peer.session.is_ended
    assert peer.close_code is None
    assert peer.session.outbox.account.statistics().dropped == {DropReason.OVERFLOW: 0, DropReason.CLOSED: 1}


# Slow for too long: more than half of its queue has been full


def fill(world: World, peer: Peer, topic: str, count: int) -> None:
    """Publish, and look."""
    publisher = world.join()
    for _ in range(count):
        publisher.publish(topic)
    publisher.hang_up()
    world.wait(0)


@pytest.fixture
def soft(make_world: Callable[..., World]) -> Callable[[Overflow | None], tuple[World, Peer]]:
    """Make a world with room for 8, and 5 s for more than 4; and a subscriber to all topics of t."""

    def make(overflow: Overflow | None) -> tuple[World, Peer]:
        kept = NamespaceSettings(history=HistorySettings(messages=100), overflow=overflow)
        world = make_world(kept, outbox_messages=8, slow_seconds=5.0)
        peer = world.join()
        peer.ask("subscribe", id=1, filter="t/#")
        return world, peer

    return make


def test_half_a_queue_may_stay_for_ever(soft: Callable[[Overflow | None], tuple[World, Peer]]) -> None:
    world, peer = soft(Overflow.DISCONNECT)
    fill(world, peer, "t/x", 4)
    world.wait(100)
    assert (peer.close_code, len(peer.take())) == (None, 4)


def test_more_than_half_is_an_overflow_after_a_time(soft: Callable[[Overflow | None], tuple[World, Peer]]) -> None:
    """[E-024]: counted from when it was first seen, not from when it last grew."""
    world, peer = soft(Overflow.DISCONNECT)
    fill(world, peer, "t/x", 5)
    world.wait(4.0)
    fill(world, peer, "t/x", 1)
    found = []
    for seconds in (0.9, 0.1):
        world.wait(seconds)
        found.append(peer.close_code)
    assert found == [None, 4000]
    assert peer.session.outbox.account.statistics().dropped == {DropReason.OVERFLOW: 0, DropReason.CLOSED: 6}


def test_who_makes_up_in_between_is_not_slow(soft: Callable[[Overflow | None], tuple[World, Peer]]) -> None:
    world, peer = soft(Overflow.DISCONNECT)
    fill(world, peer, "t/x", 5)
    world.wait(4)
    assert len(peer.take()) == 5
    world.wait(0.5)  # (that is when it is seen)
    fill(world, peer, "t/x", 5)
    world.wait(4.9)
    assert peer.close_code is None
    world.wait(0.1)
    assert peer.close_code == 4000


def test_half_in_bytes_is_too_much_as_well(make_world: Callable[..., World]) -> None:
    world = make_world(CUT_OFF, outbox_bytes=2048, message_bytes=1024, slow_seconds=5.0)
    peer = world.join()
    peer.ask("subscribe", id=1, filter="t/#")
    publisher = world.join()
    publisher.publish("t/x", "x" * 900)
    for _ in range(10):
        peer.send("ping")  # whose replies are no deliveries
    world.wait(0)
    world.wait(5)
    assert peer.close_code is None
    publisher.publish("t/x", "x" * 200)
    world.wait(0)
    world.wait(5)
    assert peer.close_code == 4000


def test_slow_for_too_long_is_served_from_the_log(soft: Callable[[Overflow | None], tuple[World, Peer]]) -> None:
    """Nothing is lost: what stands in the queue stays, what is published since is read from the log."""
    world, peer = soft(None)
    fill(world, peer, "t/x", 5)
    world.wait(5)
    assert len(peer.queued()) == 5
    fill(world, peer, "t/x", 2)
    assert len(peer.queued()) == 5
    assert [event["seq"] for event in peer.take() if event["op"] == "message"] == [1, 2, 3, 4, 5, 6, 7]
    assert peer.close_code is None


def test_slow_for_too_long_loses_the_oldest(soft: Callable[[Overflow | None], tuple[World, Peer]]) -> None:
    world, peer = soft(Overflow.DROP_OLDEST)
    fill(world, peer, "t/x", 7)
    world.wait(5)
    assert [(e["op"], e.get("through", e.get("seq"))) for e in peer.queued()] == [
        ("gap", 3),
        *(("message", seq) for seq in (4, 5, 6, 7)),
    ]


def test_namespace_of_which_most_is_queued_pays_for_it(make_world: Callable[..., World]) -> None:
    world = make_world(NamespaceSettings(overflow=Overflow.DROP_OLDEST), outbox_messages=8, slow_seconds=5.0)
    peer = world.join()
    for number, filter_ in enumerate(("t/#", "u/#"), 1):
        peer.ask("subscribe", id=number, filter=filter_)
    fill(world, peer, "t/x", 2)
    fill(world, peer, "u/x", 3)
    world.wait(5)
    topics = [event["topic"] for event in peer.queued() if event["op"] == "message"]
    assert topics == ["t/x", "t/x", "u/x", "u/x"]


def test_hanging_up_leaves_nothing_behind(world: World) -> None:
    """Live, replaying and spanning subscriptions, and what was queued."""
    publisher = world.join()
    publisher.publish("t", retain=True)
    peer = world.join()
    for id_, filter_ in enumerate(("t", "#", "u/+", "t/#"), 1):
        peer.send("subscribe", id=id_, filter=filter_)
    publisher.publish("t")
    peer.hang_up()
    peer.hang_up()
    publisher.publish("t")
    world.wait(1.0)
    assert all(item.subscribers == item.account.queued == 0 for item in world.broker.statistics().namespaces)
    assert world.broker.spanning.is_empty
    assert len(world.broker.sessions) == 1
    assert peer.session.statistics().subscriptions == 0
    assert publisher.close_code is None


def test_ping_goes_out_as_a_message(world: World) -> None:
    peer = world.open()
    peer.ask("connect", heartbeat=True)
    assert peer.session.wants_pings
    peer.session.ping()
    assert peer.take() == [{"op": "ping"}]


def test_fault_is_told_before_the_end(world: World) -> None:
    peer = world.join()
    peer.session.fail("a fault")
    assert codes(peer.take()) == ["internal"]


def test_large_replies_do_not_make_a_slow_consumer(make_world: Callable[..., World]) -> None:
    """A page of history is more than the outbox's room for deliveries."""
    world = make_world(message_bytes=1000, outbox_bytes=2000)
    peer = world.join()
    peer.ask("subscribe", id=1, filter="u")
    for _ in range(5):
        peer.publish("t", "x" * 500)
    peer.send("history", id=11, filter="t")
    peer.publish("u", 1)
    assert peer.close_code is None
    assert [event["op"] for event in peer.take()] == ["history", "message"]


def test_history_ends_with_what_is_kept(make_world: Callable[..., World]) -> None:
    world = make_world(namespaces={"t": NamespaceSettings(history=HistorySettings(messages=2))})
    peer = world.join()
    for _ in range(3):
        peer.publish("t")
    assert [message["seq"] for message in peer.ask("history", filter="t")["messages"]] == [2, 3]


@pytest.mark.parametrize("how", ["sealed", "slow"])
def test_who_leaves_while_a_run_is_settled_turns_nothing_around_for_others(
    make_world: Callable[..., World], how: str
) -> None:
    world = make_world(NamespaceSettings(overflow=Overflow.DISCONNECT), settles_later=True, outbox_messages=3)
    leaving, other, publisher = world.join(), world.join(), world.join()
    for peer in (leaving, other):
        peer.ask("subscribe", filter="a/b")
    if how == "slow":
        for number in range(3):
            publisher.publish("a/b", number)
        world.broker.fan_out.settle()
        other.take()
    publisher.publish("a/b", "one")
    world.broker.fan_out.close_run()  # the flusher has begun with it …
    publisher.publish("a/b", "two")  # … and this comes between two slices
    if how == "sealed":
        leaving.session.outbox.seal()  # its link closes, and it has not heard of that
    world.broker.fan_out.settle()
    assert [event["data"] for event in other.take() if event["op"] == "message"] == ["one", "two"]


def test_nothing_follows_what_a_cut_off_has_dropped(make_world: Callable[..., World]) -> None:
    """Else the client would resume behind that, and never know what it has missed [M-007]."""
    world = make_world(NamespaceSettings(overflow=Overflow.DISCONNECT), settles_later=True, outbox_messages=3)
    slow, publisher = world.join(), world.join()
    slow.ask("subscribe", filter="a/b")
    for number in range(3):
        publisher.publish("a/b", number)
    world.broker.fan_out.settle()
    publisher.publish("a/b", "one")
    world.broker.fan_out.close_run()
    publisher.publish("a/b", "two")
    world.broker.fan_out.send(100, 0.0)
    assert slow.close_code == 4000
    assert slow.queued() == []


def test_nothing_is_read_from_the_log_behind_a_close(make_world: Callable[..., World]) -> None:
    """No frame follows a Close (RFC 6455, 5.5.1), though the session has not heard of it yet."""
    world = make_world(NamespaceSettings(history=HistorySettings(), overflow=Overflow.CATCH_UP), outbox_messages=4)
    slow, publisher = world.join(), world.join()
    slow.ask("subscribe", filter="a/b")
    for number in range(20):
        publisher.publish("a/b", number)
    slow.flush()
    outbox = slow.session.outbox
    assert outbox.is_behind
    close = encode_close_frame(CloseCode.PROTOCOL_ERROR, "x")
    outbox.notify(close)
    outbox.seal()
    slow.session.advance()
    assert outbox.peek(1 << 20).endswith(close)
