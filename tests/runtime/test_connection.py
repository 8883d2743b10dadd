"""What is timed in a connection, on a virtual clock: exact to the float."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing
from trio.testing import MockClock
from wsproto.events import CloseConnection, Ping, Pong, TextMessage

from tercet_broker.runtime import DaemonSettings, TimeoutSettings
from tercet_protocol import CloseCode

if TYPE_CHECKING:
    from tests.runtime.conftest import Logs, Serve


async def test_connect_is_due_within_its_timeout(serve: Serve, autojump_clock: MockClock) -> None:
    """R-002."""
    async with serve() as broker:
        await trio.sleep(3)
        peer = await broker.peer()
        assert await peer.closed() == CloseCode.TIMEOUT
        assert trio.current_time() == 13.0


async def test_connect_is_due_even_if_pongs_come(serve: Serve, autojump_clock: MockClock) -> None:
    async with serve() as broker, trio.open_nursery() as nursery:
        peer = await broker.peer()

        async def ping() -> None:
            while True:
                await peer.send(Pong())
                await trio.sleep(1)

        nursery.start_soon(ping)
        assert isinstance(event := await peer.frame(), CloseConnection)
        assert (event.code, trio.current_time()) == (CloseCode.TIMEOUT, 10.0)
        nursery.cancel_scope.cancel()


async def test_quiet_connection_is_pinged_and_then_closed(serve: Serve, autojump_clock: MockClock) -> None:
    """L-001, L-002, L-003."""
    async with serve() as broker:
        peer = await broker.client()
        assert isinstance(await peer.event(), Ping)
        assert trio.current_time() == 25.0
        assert isinstance(event := await peer.event(), CloseConnection)
        assert (event.code, trio.current_time()) == (CloseCode.TIMEOUT, 35.0)


async def test_heartbeat_is_a_message_where_that_was_asked_for(serve: Serve, autojump_clock: MockClock) -> None:
    """L-003, L-004."""
    async with serve() as broker:
        peer = await broker.client(heartbeat=True)
        for i in range(1, 4):
            event = await peer.event()
            assert isinstance(event, TextMessage)
            assert json.loads(event.data) == {"op": "ping"}
            assert trio.current_time() == 25.0 * i
            await peer.say(op="pong")
        event = await peer.event()
        assert isinstance(event, TextMessage)
        assert isinstance(event := await peer.event(), CloseConnection)
        assert (event.code, trio.current_time()) == (CloseCode.TIMEOUT, 110.0)


@pytest.mark.parametrize("answer", ["pong", "ping", "text", "half a frame"])
async def test_any_frame_is_a_sign_of_life(serve: Serve, autojump_clock: MockClock, tools: Any, answer: str) -> None:
    """L-002."""
    data = {
        "pong": tools.client_frame(10),
        "ping": tools.client_frame(9),
        "text": tools.say(op="pong"),
        "half a frame": tools.say(op="pong")[:5],
    }[answer]
    async with serve() as broker:
        peer = await broker.client()
        assert isinstance(await peer.event(), Ping)
        await trio.sleep(9.5)
        await peer.raw(data)
        event = await peer.event()
        if answer == "ping":  # what we are sent in return is a frame as well
            assert isinstance(event, Pong)
            event = await peer.event()
        assert isinstance(event, Ping)
        assert trio.current_time() == (59.5 if answer == "ping" else 50.0)


@pytest.mark.parametrize("quiet", ["client", "broker"])
async def test_quieter_direction_decides_when_to_ping(serve: Serve, autojump_clock: MockClock, quiet: str) -> None:
    """L-001: the ping comes exactly 25 s after the last frame in that direction."""
    async with serve() as broker, trio.open_nursery() as nursery:
        peer, other = await broker.client(), await broker.client()
        await peer.ask(op="subscribe", id=2, filter="a/#")

        async def chat() -> None:
            while True:
                await trio.sleep(1)
                if quiet == "client":
                    await other.say(op="publish", topic="a/b", data=1)
                else:
                    await peer.say(op="pong")

        nursery.start_soon(chat)
        while not isinstance(await peer.event(), Ping):
            pass
        assert trio.current_time() == 25.0
        if quiet == "client":
            event = await peer.frame()
            while not isinstance(event, CloseConnection):
                event = await peer.frame()
            assert (event.code, trio.current_time()) == (CloseCode.TIMEOUT, 35.0)
        else:
            assert isinstance(await peer.event(), Ping)
            assert trio.current_time() == 50.0
        nursery.cancel_scope.cancel()


async def test_busy_connection_is_not_pinged(serve: Serve, autojump_clock: MockClock) -> None:
    async with serve() as broker:
        peer = await broker.client()
        for _ in range(10):
            await trio.sleep(24)
            await peer.say(op="ping")
            assert isinstance(await peer.event(), TextMessage)


@pytest.mark.parametrize("heartbeat", [0.5, 3.0, 8.5])
async def test_heartbeat_may_be_shorter_than_connect(serve: Serve, autojump_clock: MockClock, heartbeat: float) -> None:
    settings = DaemonSettings(timeouts=TimeoutSettings(heartbeat=heartbeat, pong=1.0))
    async with serve(settings) as broker:
        silent = await broker.peer()
        peer = await broker.client()
        assert isinstance(await peer.event(), Ping)
        assert trio.current_time() == heartbeat
        assert isinstance(await peer.event(), CloseConnection)
        assert trio.current_time() == heartbeat + 1
        assert isinstance(event := await silent.event(), CloseConnection)
        assert (event.reason, trio.current_time()) == ("no 'connect' within 10 s", 10.0)


async def test_tls_and_head_share_one_deadline(serve: Serve, logs: Logs) -> None:
    """A peer that does not even say hello to TLS is dropped without a word, one that then is silent gets 408."""
    settings = DaemonSettings(timeouts=TimeoutSettings(handshake=0.1, close=0.1))
    async with serve(settings, transport="wss") as broker:
        port = int(broker.urls[0].rpartition(":")[2])
        mute = await trio.open_tcp_stream("127.0.0.1", port)
        broker.dialled.append(mute)
        assert await mute.receive_some(100) == b""
        peer = await broker.raw()
        assert isinstance(peer.stream, trio.SSLStream)
        await peer.stream.do_handshake()
        await peer.ended()
        assert peer.received.startswith(b"HTTP/1.1 408 ")


async def test_plain_bytes_to_a_tls_listener_end_quietly(serve: Serve, tools: Any, logs: Logs) -> None:
    async with serve(transport="wss") as broker:
        port = int(broker.urls[0].rpartition(":")[2])
        plain = tools.Peer(await trio.open_tcp_stream("127.0.0.1", port))
        broker.dialled.append(plain.stream)
        await plain.raw(tools.head())
        await plain.ended()
    assert [entry for entry in logs if "fault" in entry["event"]] == []
