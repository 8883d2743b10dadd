from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import pytest
from attrs.exceptions import FrozenInstanceError

from tercet_broker.runtime.admission import Turned

if TYPE_CHECKING:
    from tests.runtime.conftest import Serve


async def test_statistics_are_frozen_copies_of_every_count(serve: Serve) -> None:
    async with serve() as harness:
        client = await harness.client()
        await client.ask(op="subscribe", id=2, filter="a")
        await client.say(op="publish", topic="a", data=1)
        await client.expect("message", data=1)
        refused = await harness.raw()
        await refused.raw(b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n")
        await refused.end_writing()
        await refused.ended()
        statistics = harness.daemon.statistics()
        (connection,) = statistics.connections
        (session,) = statistics.sessions
        assert connection.label == session.connection
        assert connection.messages_in == 3
        assert connection.bytes_in > 100
        assert connection.bytes_out > 100
        assert session.account.delivered == 1
        assert statistics.admission.accepted == 2
        assert statistics.admission.connections == 1
        assert set(statistics.admission.turned_away) == set(Turned)
        assert statistics.admission.turned_away[Turned.REQUEST] == 1
        for thing in (statistics, statistics.admission, statistics.rates, connection, session, session.account):
            assert attrs.has(type(thing))
            with pytest.raises(FrozenInstanceError):
                thing.seconds = 1  # type: ignore[union-attr,misc]
