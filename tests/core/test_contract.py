"""Rules of the wire contract that hold for everything the core sends, whoever's turn it is."""

from __future__ import annotations

import json
from typing import Any

import pytest


def test_every_event_is_one_object_in_one_text_message(world: Any) -> None:
    """C-010. The peer that the tests use asserts that each frame is a whole text frame; R-016 and S-002 beside it."""
    peer = world.join()
    peer.send("publish", topic="kept/a", data=1, retain=True)
    peer.send("subscribe", id=10, filter="kept/#")
    peer.send("subscribe", id=11, filter="+/a")
    events = peer.take()
    assert all(isinstance(json.loads(payload), dict) for payload in peer.payloads)
    within, spanning = (event for event in events if event["op"] == "subscribed")
    assert (within["epoch"], within["seq"]) == (world.broker.epoch, 1)
    assert not {"epoch", "seq"} & spanning.keys()
    assert [event["sub"] for event in events if event["op"] == "message"] == [10]


@pytest.mark.parametrize(
    ("request_", "names"),
    [
        ({"op": "publish", "topic": "a//b", "data": 1}, "a//b"),
        ({"op": "publish", "topic": "a/+", "data": 1}, "+"),
        ({"op": "subscribe", "filter": "a#"}, "a#"),
        ({"op": "unsubscribe", "sub": 77}, "77"),
        ({"op": "publish", "topic": "$sys/a", "data": 1}, "$sys"),
        ({"op": "presence", "topic": "a"}, "presence"),
        ({"op": "subscribe", "filter": "a", "colour": 1}, "colour"),
        ({"op": "subscribe", "filter": 1}, "filter"),
    ],
)
def test_refusals_name_what_was_wrong(world: Any, request_: dict[str, Any], names: str) -> None:
    """E-003: one sentence for a person."""
    peer = world.join()
    peer.send(id=5, **request_)
    (error,) = [event for event in peer.take() if event["op"] == "error"]
    assert error["id"] == 5
    assert names in error["message"]
    assert "\n" not in error["message"]
    assert len(error["message"]) < 300
