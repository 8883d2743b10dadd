"""The same behaviour over memory streams and over real sockets: ws, wss, unix; with the lane and without."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import trio
from wsproto.events import CloseConnection, Ping, TextMessage

from tercet_broker.core import BrokerSettings, LimitSettings
from tercet_broker.runtime import DaemonSettings, TimeoutSettings
from tercet_protocol import CloseCode

if TYPE_CHECKING:
    from tests.runtime.conftest import Serve

pytestmark = pytest.mark.parametrize("transport", ["memory", "ws", "wss", "unix"])

NARROW = BrokerSettings(limits=LimitSettings(message_bytes=64 * 1024, outbox_bytes=128 * 1024))


@pytest.mark.parametrize("lane", [True, False])
async def test_published_message_reaches_its_subscribers(serve: Serve, transport: str, lane: bool) -> None:
    async with serve(transport=transport, lane=lane) as broker:
        alice, bob = await broker.client(), await broker.client()
        await alice.ask(op="subscribe", id=2, filter="chat/#")
        answer = await bob.ask(op="publish", id=3, topic="chat/lobby", data={"n": 1})
        assert (answer["op"], answer["id"], answer["seq"]) == ("published", 3, 1)
        await alice.expect("message", topic="chat/lobby", seq=1, data={"n": 1})
        broker.assert_balanced()


async def test_large_message_arrives_whole(serve: Serve, transport: str) -> None:
    text = "x" * 60_000
    async with serve(transport=transport) as broker:
        alice = await broker.client()
        await alice.ask(op="subscribe", id=2, filter="chat/#")
        await alice.say(op="publish", topic="chat/lobby", data=text)
        await alice.expect("message", data=text)


async def test_silent_client_is_pinged_and_closed(serve: Serve, transport: str) -> None:
    settings = DaemonSettings(timeouts=TimeoutSettings(heartbeat=0.05, pong=0.05))
    async with serve(settings, transport=transport) as broker:
        alice = await broker.client()
        assert isinstance(await alice.frame(), Ping)
        assert await alice.closed() == CloseCode.TIMEOUT


async def test_drain_closes_everyone(serve: Serve, transport: str) -> None:
    settings = DaemonSettings(timeouts=TimeoutSettings(drain=0.05))
    async with serve(settings, transport=transport) as broker:
        alice = await broker.client()
        await alice.ask(op="subscribe", id=2, filter="chat/#")
        broker.daemon.drain()
        await alice.expect("position", namespace="chat", seq=0)
        assert 0 <= (await alice.expect("drain"))["retry_after"] <= 0.05
        assert await alice.closed() == CloseCode.SERVICE_RESTART
        with trio.fail_after(30):
            await broker.done.wait()
        assert broker.daemon.statistics().sessions == ()


async def test_slow_reader_is_closed_after_whole_frames(serve: Serve, transport: str, tools: Any) -> None:
    """E-024: what it had been sent stays in order and whole, the Close says why, and nobody else waits for it.

    The bytes that were waiting for room when the queue was cleared went out all the same, and the
    Close was taken for one of them.
    """
    async with serve(DaemonSettings(broker=NARROW), transport=transport, lockstep=True) as broker:
        slow, other = await broker.client(), await broker.client()
        await slow.ask(op="subscribe", id=2, filter="chat/#")
        session = broker.daemon.broker.sessions[0]
        sent = 0
        while not session.is_ended:
            await other.ask(op="publish", id=3, topic="chat/lobby", data=[sent, "x" * 30_000])
            sent += 1
            assert sent < 2000
        received = []
        while not isinstance(event := await slow.frame(), CloseConnection):
            assert isinstance(event, TextMessage), event
            message = json.loads(event.data)
            if message["op"] == "message":
                received.append(message["seq"])
        assert received == list(range(1, len(received) + 1))
        assert len(received) < sent
        assert event.code == CloseCode.SLOW_CONSUMER
        assert (await other.ask(op="ping", id=4))["op"] == "pong"
        broker.assert_balanced()


async def test_violation_is_told_before_the_connection_ends(serve: Serve, transport: str, tools: Any) -> None:
    """The declared length alone is refused, and the Close is not lost to bytes that nobody reads."""
    async with serve(DaemonSettings(broker=NARROW), transport=transport) as broker, trio.open_nursery() as nursery:
        alice = await broker.client()

        async def send() -> None:
            try:
                await alice.raw(tools.client_frame(1, b"x" * 1_000_000))
            except trio.BrokenResourceError:
                pytest.fail("it was cut off")

        nursery.start_soon(send)
        event = await alice.frame()
        assert isinstance(event, CloseConnection)
        assert event.code == CloseCode.MESSAGE_TOO_BIG
        await alice.ended()
