"""The one-shot calls."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest
import trio

import tercet

if TYPE_CHECKING:
    from tests.client.conftest import Beside, ScriptedBroker


async def test_publish_connects_and_disconnects(broker: ScriptedBroker, beside: Beside) -> None:
    call = await beside(tercet.publish, "ws://broker.test", "a/x", [1], retain=True, dial=broker.dial, token="t")
    peer = await broker.welcome()
    assert peer.hello["token"] == "t"
    request = await peer.expect("publish", data=[1], retain=True)
    await peer.send({"op": "published", "id": request["id"], "epoch": "e1", "seq": 4})
    assert (await call.outcome()).position == tercet.Position("e1", 4)
    assert await peer.closed() == 1000


async def test_fetch_returns_what_is_kept(
    broker: ScriptedBroker, beside: Beside, caplog: pytest.LogCaptureFixture
) -> None:
    call = await beside(tercet.fetch, "ws://broker.test", "a/+", last=5, dial=broker.dial)
    peer = await broker.welcome()
    sub = await peer.subscribed("a/+", live=False, seq=9)
    with caplog.at_level(logging.WARNING, "tercet"):
        await peer.message(4, sub=sub, retained=True)
        await peer.send({"op": "gap", "sub": sub, "epoch": "e1", "after": 4, "through": 6, "reason": "overflow"})
        await peer.message(8, sub=sub)
        await peer.send({"op": "live", "sub": sub, "seq": 9})
        assert [message.seq for message in await call.outcome()] == [4, 8]
    assert "overflow" in caplog.text
    assert await peer.closed() == 1000


async def test_fetch_of_nothing(broker: ScriptedBroker, beside: Beside) -> None:
    call = await beside(tercet.fetch, "ws://broker.test", "a/+", dial=broker.dial)
    peer = await broker.welcome()
    await peer.subscribed("a/+", seq=9)
    assert await call.outcome() == []
    await trio.lowlevel.checkpoint()
