"""What travels: each kind of message there and back, and positions as text."""

from __future__ import annotations

import json
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from tercet_protocol import (
    MAX_ID,
    AnyEvent,
    AnyRequest,
    Authenticate,
    Authenticated,
    Connect,
    Connected,
    Drain,
    Error,
    Event,
    Gap,
    History,
    HistoryReply,
    Limits,
    Live,
    Member,
    Message,
    Ping,
    PingEvent,
    Pong,
    PongEvent,
    Position,
    PositionEvent,
    Presence,
    PresenceReply,
    Publish,
    Published,
    Request,
    Subscribe,
    Subscribed,
    Unsubscribe,
    Unsubscribed,
    decode_event,
    decode_request,
    encode,
)

HERE = Position("9f1c", 57)
LIMITS = Limits(message_bytes=1, subscriptions=2, topic_bytes=255, topic_levels=16, last=3, key_seconds=300.0)
LIVE = Message(topic="a", seq=1, time=2, data=Raw(b"[1]"))

# {message: its wire form}; section 3 of the contract
REQUESTS: list[tuple[Request, dict[str, object]]] = [
    (Connect(id=1), {"op": "connect", "id": 1}),
    (
        Connect(token="t", client="c/1", heartbeat=True),
        {"op": "connect", "token": "t", "client": "c/1", "heartbeat": True},
    ),
    (Subscribe(id=2, filter="a/+"), {"op": "subscribe", "id": 2, "filter": "a/+"}),
    (
        Subscribe(id=2, filter="a", since=HERE, retained=False),
        {"op": "subscribe", "id": 2, "filter": "a", "since": {"epoch": "9f1c", "seq": 57}, "retained": False},
    ),
    (Subscribe(id=2, filter="a", last=0), {"op": "subscribe", "id": 2, "filter": "a", "last": 0}),
    (Unsubscribe(sub=2), {"op": "unsubscribe", "sub": 2}),
    (Publish(topic="a", data=Raw(b"null")), {"op": "publish", "topic": "a", "data": None}),
    (
        Publish(topic="a", data=Raw(b"1"), retain=True, key="k" * 16, echo=False),
        {"op": "publish", "topic": "a", "data": 1, "retain": True, "key": "k" * 16, "echo": False},
    ),
    (
        History(id=MAX_ID, filter="a", since=HERE, limit=1),
        {"op": "history", "id": MAX_ID, "filter": "a", "since": {"epoch": "9f1c", "seq": 57}, "limit": 1},
    ),
    (Presence(topic="a"), {"op": "presence", "topic": "a"}),
    (Authenticate(token="t"), {"op": "authenticate", "token": "t"}),
    (Ping(), {"op": "ping"}),
    (Pong(id=3), {"op": "pong", "id": 3}),
]

EVENTS: list[tuple[Event, dict[str, object]]] = [
    (
        Connected(id=1, connection="c", server="s", heartbeat=25.0, limits=LIMITS),
        {
            "op": "connected",
            "id": 1,
            "connection": "c",
            "server": "s",
            "heartbeat": 25.0,
            "limits": {
                "message_bytes": 1,
                "subscriptions": 2,
                "topic_bytes": 255,
                "topic_levels": 16,
                "last": 3,
                "key_seconds": 300.0,
            },
        },
    ),
    (Subscribed(id=2, live=True), {"op": "subscribed", "id": 2, "live": True}),
    (
        Subscribed(id=2, live=False, epoch="e", seq=0, recovered=False),
        {"op": "subscribed", "id": 2, "live": False, "epoch": "e", "seq": 0, "recovered": False},
    ),
    (Unsubscribed(id=2), {"op": "unsubscribed", "id": 2}),
    (
        Unsubscribed(sub=2, code="forbidden", message="m"),
        {"op": "unsubscribed", "sub": 2, "code": "forbidden", "message": "m"},
    ),
    (Published(id=3, epoch="e", seq=1), {"op": "published", "id": 3, "epoch": "e", "seq": 1}),
    (
        Published(id=3, epoch="e", seq=1, duplicate=True),
        {"op": "published", "id": 3, "epoch": "e", "seq": 1, "duplicate": True},
    ),
    (LIVE, {"op": "message", "topic": "a", "seq": 1, "time": 2, "data": [1]}),
    (
        Gap(namespace="n", epoch="e", after=1, through=2, dropped=1, reason="overflow"),
        {
            "op": "gap",
            "namespace": "n",
            "epoch": "e",
            "after": 1,
            "through": 2,
            "dropped": 1,
            "reason": "overflow",
        },
    ),
    (
        HistoryReply(id=4, messages=[LIVE], next=HERE, head=HERE, more=False),
        {
            "op": "history",
            "id": 4,
            "messages": [{"op": "message", "topic": "a", "seq": 1, "time": 2, "data": [1]}],
            "next": {"epoch": "9f1c", "seq": 57},
            "head": {"epoch": "9f1c", "seq": 57},
            "more": False,
        },
    ),
    (
        HistoryReply(id=4, messages=[LIVE], next=HERE, head=HERE, more=False, since=HERE),
        {
            "op": "history",
            "id": 4,
            "messages": [{"op": "message", "topic": "a", "seq": 1, "time": 2, "data": [1]}],
            "next": {"epoch": "9f1c", "seq": 57},
            "head": {"epoch": "9f1c", "seq": 57},
            "more": False,
            "since": {"epoch": "9f1c", "seq": 57},
        },
    ),
    (
        PresenceReply(members=[Member("u", 2)], count=1),
        {"op": "presence", "members": [{"user": "u", "connections": 2}], "count": 1},
    ),
    (Authenticated(user="u"), {"op": "authenticated", "user": "u"}),
    (PingEvent(), {"op": "ping"}),
    (PongEvent(id=1), {"op": "pong", "id": 1}),
    (Live(sub=2, seq=57), {"op": "live", "sub": 2, "seq": 57}),
    (
        PositionEvent(namespace="n", epoch="e", seq=1),
        {"op": "position", "namespace": "n", "epoch": "e", "seq": 1},
    ),
    (Drain(retry_after=3.5), {"op": "drain", "retry_after": 3.5}),
    (
        Error(code="forbidden", message="m", retry_after=None),
        {"op": "error", "code": "forbidden", "message": "m", "retry_after": None},
    ),
]


@pytest.mark.parametrize(("message", "wire"), REQUESTS)
def test_requests_there_and_back(message: Request, wire: dict[str, object]) -> None:
    """Absent fields are not written; `op` names the kind."""
    assert json.loads(encode(message)) == wire
    assert encode(decode_request(encode(message))) == encode(message)


@pytest.mark.parametrize(("message", "wire"), EVENTS)
def test_events_there_and_back(message: Event, wire: dict[str, object]) -> None:
    """Absent fields are not written; an error's `retry_after` is (E-001)."""
    assert json.loads(encode(message)) == wire
    event = decode_event(encode(message))
    assert event is not None
    assert encode(event) == encode(message)


def test_every_kind_is_among_the_examples() -> None:
    assert {type(message) for message, _ in REQUESTS} == set(get_args(AnyRequest))
    assert {type(message) for message, _ in EVENTS} == set(get_args(AnyEvent))


epochs = st.text(min_size=1, max_size=64)


@given(epochs, st.integers(0, MAX_ID))
def test_position_text_round_trips(epoch: str, seq: int) -> None:
    position = Position(epoch, seq)
    assert Position.parse(str(position)) == position


@pytest.mark.parametrize("text", ["", ":", "e:", ":1", "e", "e:-1", "e:x", "e:\u0661", f"e:{MAX_ID + 1}", "e: 1"])
def test_position_text_is_checked(text: str) -> None:
    with pytest.raises(ValueError, match="EPOCH:SEQ"):
        Position.parse(text)
