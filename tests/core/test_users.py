from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tercet_broker.core import Arrival, Identity
from tercet_broker.core.users import Users
from tercet_protocol import CloseCode

if TYPE_CHECKING:
    from tests.core.conftest import World


ANN = Arrival(identity=Identity("ann", source="certificate"))


def test_users_are_counted_and_forgotten() -> None:
    users = Users(limit=2)
    assert users.enter("ann")
    assert users.enter("ann")
    assert not users.enter("ann")
    assert users.enter("bob")
    users.leave("ann")
    assert users.enter("ann")
    assert (users.connections("ann"), len(users), users.refused) == (2, 2, 1)
    for name in ("ann", "ann", "bob"):
        users.leave(name)
    assert len(users) == 0


def test_anonymous_connections_are_not_counted() -> None:
    users = Users(limit=1)
    assert users.enter(None)
    assert users.enter(None)
    users.leave(None)
    assert len(users) == 0


def test_connection_over_a_users_limit_is_told_and_closed(world: World) -> None:
    world.broker.users.limit = 1
    first, second = world.open(), world.open()
    for peer in (first, second):
        peer.session.arrival = ANN
    assert first.ask("connect", id=1)["op"] == "connected"
    error = second.ask("connect", id=1)
    assert (error["op"], error["id"], error["code"]) == ("error", 1, "unavailable")
    assert error["retry_after"] > 0
    assert second.close_code == CloseCode.TRY_AGAIN_LATER
    first.hang_up()
    third = world.open()
    third.session.arrival = ANN
    assert third.ask("connect", id=1)["op"] == "connected"


def test_refused_request_is_answered_with_its_id(world: World) -> None:
    peer = world.join()
    peer.session.refuse(json.dumps({"op": "publish", "id": 7, "topic": "a", "data": 1}).encode(), 2.0)
    (error,) = peer.take()
    assert (error["op"], error["id"], error["code"], error["retry_after"]) == ("error", 7, "rate_limited", 2.0)
