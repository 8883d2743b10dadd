"""What is timed in a connection, on a virtual clock: exact to the float."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing
from trio.testing import MockClock
from wsproto.events import CloseConnection, Ping, Pong, TextMessage

from tercet_broker.core import BrokerSettings, LimitSettings
from tercet_broker.runtime import DaemonSettings, TimeoutSettings
from tercet_broker.runtime.connection import Connection
from tercet_protocol import CloseCode, Opcode

if TYPE_CHECKING:
    from tests.runtime.conftest import Logs, Serve


async def test_connect_is_due_within_its_timeout(serve: Serve, autojump_clock: MockClock) -> None:
    """R-002."""
    async with serve() as broker:
        await trio.sleep(3)
        peer = await broker.peer()
        assert await peer.closed() == CloseCode.TIMEOUT
        assert trio.current_time() == 13.0


async def test_who_came_at_nearly_the_same_time_is_looked_at_together(serve: Serve, autojump_clock: MockClock) -> None:
    """Late by a fiftieth of the timeout at most: a look at a time of its own for each would be a wake-up each."""
    ends: list[float] = []

    async def stay_silent(peer: Any) -> None:
        assert await peer.closed() == CloseCode.TIMEOUT
        ends.append(trio.current_time())

    async with serve() as broker, trio.open_nursery() as nursery:
        for _ in range(5):
            await trio.sleep(0.03)
            nursery.start_soon(stay_silent, await broker.peer())
    assert ends == [pytest.approx(10.2)] * 5
    assert len(set(ends)) == 1


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


async def test_served_messages_are_signs_of_life_as_well(serve: Serve, autojump_clock: MockClock) -> None:
    """L-002: those that wait before the pong keep it from being read, and may take long: `history` takes turns."""
    async with serve() as broker:
        peer = await broker.client()
        assert isinstance(await peer.event(), Ping)
        (session,) = broker.daemon.broker.sessions
        assert isinstance(session.carrier, Connection)
        assert session.carrier.meter is not None
        session.carrier.meter.served(1, 30.0)
        assert isinstance(await peer.event(), Ping)
        assert trio.current_time() == 35.0
        assert await peer.closed() == CloseCode.TIMEOUT
        assert trio.current_time() == 45.0


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


# A message that has begun has to end


@pytest.mark.parametrize("what", ["frame", "fragments", "empty fragments and pings"])
@pytest.mark.parametrize("heartbeat", [25.0, 3600.0])
async def test_message_without_an_end_is_closed(
    serve: Serve, autojump_clock: MockClock, tools: Any, what: str, heartbeat: float
) -> None:
    """L-005: each byte is a sign of life, and no more than that; other frames in between help nobody."""
    pieces = {
        "frame": [tools.client_frame(Opcode.TEXT, b" " * 60_000)[:4], *[b" "] * 100],
        "fragments": [
            tools.client_frame(Opcode.TEXT, fin=False),
            *[tools.client_frame(Opcode.CONTINUATION, b" ", fin=False)] * 100,
        ],
        "empty fragments and pings": [
            tools.client_frame(Opcode.TEXT, fin=False),
            *[tools.client_frame(Opcode.CONTINUATION, fin=False) + tools.client_frame(Opcode.PING)] * 100,
        ],
    }[what]
    settings = DaemonSettings(timeouts=TimeoutSettings(heartbeat=heartbeat, read=30.0, read_bytes=8192))
    async with serve(settings) as broker, trio.open_nursery() as nursery:
        peer = await broker.client()

        async def drip() -> None:
            for piece in pieces:
                await peer.raw(piece)
                await trio.sleep(1)

        nursery.start_soon(drip)
        event = await peer.frame()
        while not isinstance(event, CloseConnection):
            assert isinstance(event, Ping | Pong)
            event = await peer.frame()
        assert event.code == CloseCode.TIMEOUT
        assert 40.0 <= trio.current_time() < 41.0  # it was seen first where `connect` would have been due
        nursery.cancel_scope.cancel()


async def test_message_over_a_slow_line_has_the_time_it_takes(
    serve: Serve, autojump_clock: MockClock, tools: Any
) -> None:
    """1 MiB at 32 kbit/s, more than four minutes."""
    limits = LimitSettings(message_bytes=2 << 20, outbox_bytes=4 << 20)
    async with serve(DaemonSettings(broker=BrokerSettings(limits=limits))) as broker, trio.open_nursery() as nursery:
        peer = await broker.client()
        data = tools.say(op="publish", id=2, topic="a/b", data="x" * (1 << 20))

        async def creep() -> None:
            for start in range(0, len(data), 4096):
                await peer.raw(data[start : start + 4096])
                await trio.sleep(1)

        nursery.start_soon(creep)
        await peer.expect("published", id=2)
        assert 256.0 <= trio.current_time() < 258.0


async def test_messages_that_are_cut_at_each_look_are_not_one(
    serve: Serve, autojump_clock: MockClock, tools: Any
) -> None:
    """Fewer bytes than a single message would need, for ten minutes, and there is always half a request."""
    async with serve() as broker:
        peer = await broker.client()
        request = tools.say(op="pong")
        await peer.raw(request[:5])
        for _ in range(60):
            await trio.sleep(10)
            await peer.raw(request[5:] + request[:5])
        await peer.raw(request[5:] + tools.say(op="ping", id=9))
        await peer.expect("pong", id=9)


async def test_time_in_which_a_connection_is_not_read_from_does_not_count(
    serve: Serve, autojump_clock: MockClock, tools: Any
) -> None:
    """Its end may be what the broker does not read, because the client takes no answers: `write` watches over that."""
    settings = DaemonSettings(timeouts=TimeoutSettings(write=100.0))
    async with serve(settings, lockstep=True) as broker:
        peer = await broker.client()
        first, last = tools.client_frame(Opcode.TEXT, b'{"op":"ping",', fin=False), b'"id":4}'
        await peer.raw(first)
        await trio.sleep(15)  # it has been seen now
        await peer.raw(tools.client_frame(Opcode.PING) * 100)
        await trio.sleep(60)
        for _ in range(100):
            assert isinstance(await peer.event(), Pong)
        for _ in range(4):
            await trio.sleep(5)
            await peer.raw(tools.client_frame(Opcode.PONG))
        await peer.raw(tools.client_frame(Opcode.CONTINUATION, last))
        await peer.expect("pong", id=4)


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
