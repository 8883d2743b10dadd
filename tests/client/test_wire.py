"""What a broker that is broken, or worse, can do to a client: nothing but lose it."""

from __future__ import annotations

import random
import struct
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing
from trio.testing import wait_all_tasks_blocked

import tercet

if TYPE_CHECKING:
    from tests.client.conftest import Beside, ScriptedBroker


def frame(payload: bytes, first: int = 0x81, *, declared: int | None = None) -> bytes:
    size = len(payload) if declared is None else declared
    if size <= 125:
        return bytes((first, size)) + payload
    if size <= 0xFFFF:
        return struct.pack("!BBH", first, 126, size) + payload
    return struct.pack("!BBQ", first, 127, size) + payload


MESSAGE = b'{"op":"message","topic":"a/x","seq":%d,"time":1,"data":%d}'
BROKEN = {
    "no JSON": (frame(b"what"), 1002),
    "no object": (frame(b"[]"), 1002),
    "no op": (frame(b"{}"), 1002),
    "a field of the wrong type": (frame(b'{"op":"live","sub":"x","seq":1}'), 1002),
    "nested too deep": (frame(b'{"op":"message","data":' + b"[" * 100_000), 1002),
    "no UTF-8 in a text": (frame(b'{"op":"new","x":"\xff"}'), 1007),
    "a binary message": (frame(b"{}", 0x82), 1003),
    "a frame too long": (frame(b"", declared=2**62), 1009),
    "endless fragments": (frame(b"", 0x01) + frame(b"", 0x00) * 5000, 1009),
}


@pytest.mark.parametrize("name", BROKEN)
async def test_broken_events_close_and_reconnect(broker: ScriptedBroker, name: str) -> None:
    bad, code = BROKEN[name]
    async with broker.session() as (client, peer):
        await peer.send_bytes(bad + frame(MESSAGE % (1, 1)))
        assert await peer.closed() == code
        await broker.welcome()
        await client.wait_connected()
        assert client.statistics().connections == 2
        assert client.statistics().received == 0


@pytest.mark.parametrize(
    "data",
    [
        frame(b"x", 0xC1),  # a reserved bit
        frame(b"x", 0x83),  # a reserved opcode
        frame(b"x", 0x80),  # a continuation of nothing
        b"\x81\x81\x00\x00\x00\x00x",  # masked by a server
        frame(b"x" * 126, 0x89),  # a ping that is too long
        frame(b"x", 0x88),  # a Close of one byte
        frame(b"\x03\xec", 0x88),  # a Close with a code that must not be sent (1004)
    ],
)
async def test_broken_frames_reconnect(broker: ScriptedBroker, data: bytes) -> None:
    async with broker.session() as (client, peer):
        await peer.send_bytes(data)
        await broker.welcome()
        await client.wait_connected()
        assert client.statistics().connections == 2


@pytest.mark.parametrize("seed", range(20))
async def test_random_bytes_never_raise(broker: ScriptedBroker, seed: int) -> None:
    entropy = random.Random(seed)
    async with broker.session(close_timeout=0.1) as (client, peer):
        await peer.send_bytes(entropy.randbytes(entropy.randrange(1, 400)))
        await trio.sleep(1)
        await peer.cut()
        with trio.move_on_after(1):
            await broker.welcome()
        assert client.statistics().outstanding == 0


async def test_chopped_into_single_bytes(broker: ScriptedBroker, nursery: trio.Nursery) -> None:
    """Frames of every length form, byte by byte, and all in one piece."""
    async with broker.session() as (client, peer):
        nursery.start_soon(peer.subscribed, "a/x")
        async with client.subscribe("a/x") as subscription:
            long = b'{"op":"message","topic":"a/x","seq":2,"time":1,"data":"%b"}' % (b"y" * 300)
            huge = b'{"op":"message","topic":"a/x","seq":3,"time":1,"data":"%b"}' % (b"y" * 70_000)
            stream = frame(MESSAGE % (1, 1)) + frame(b"", 0x89) + frame(long)
            for place in range(len(stream)):
                await peer.stream.send_all(stream[place : place + 1])
            await peer.send_bytes(frame(huge) + frame(MESSAGE % (4, 4)))
            assert [(await subscription.receive()).seq for _ in range(4)] == [1, 2, 3, 4]


async def test_fragments_keep_their_place(broker: ScriptedBroker, nursery: trio.Nursery) -> None:
    """Nothing overtakes a fragmented message, and control frames may come between."""
    async with broker.session() as (client, peer):
        nursery.start_soon(peer.subscribed, "a/x")
        async with client.subscribe("a/x") as subscription:
            second = MESSAGE % (2, 2)
            await peer.send_bytes(
                frame(MESSAGE % (1, 1))
                + frame(second[:9], 0x01)
                + frame(b"", 0x89)
                + frame(second[9:], 0x80)
                + b"".join(frame(MESSAGE % (n, n)) for n in range(3, 50))
            )
            assert [(await subscription.receive()).seq for _ in range(49)] == list(range(1, 50))


async def test_refusal_in_pieces(broker: ScriptedBroker) -> None:
    async def serve() -> None:
        stream = await broker.stream()
        for piece in (b"HTTP/1.1 503 Busy\r\nContent-Len", b"gth: 4\r\nRetry-After: 5\r\n\r\nbu", b"sy"):
            await stream.send_all(piece)
            await wait_all_tasks_blocked()
        await broker.welcome()

    broker.nursery.start_soon(serve)
    async with broker.connect(wait=True):
        assert broker.dialled == [0.0, 5.0]


async def test_frames_right_behind_the_handshake(broker: ScriptedBroker) -> None:
    """In the same segment as the response; nothing is lost, and nothing is believed before `connected`."""

    class Joined(trio.abc.Stream):
        """Adds a message and half a ping to the handshake's response."""

        def __init__(self, stream: trio.abc.Stream) -> None:
            self.stream = stream
            self.extra = b"\x00"  # the other half

        async def send_all(self, data: bytes | bytearray | memoryview) -> None:
            await self.stream.send_all(data)

        async def wait_send_all_might_not_block(self) -> None:
            await trio.lowlevel.checkpoint()

        async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
            data = bytes(await self.stream.receive_some(max_bytes))
            if data.startswith(b"HTTP"):
                return data + frame(MESSAGE % (1, 1)) + b"\x89"
            extra, self.extra = self.extra, b""
            return extra + data

        async def aclose(self) -> None:
            await self.stream.aclose()

    async def dial() -> trio.abc.Stream:
        return Joined(await broker.dial())

    async with broker.session(dial=dial) as (client, _):
        assert client.statistics().received == 0


@pytest.mark.parametrize(
    "answer",
    [
        b"\x00" * 100 + b"\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\n\r\n",
        b"HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: no\r\n\r\n",
        b"HTTP/1.1 101 X\r\nConnection: \xff\r\nSec-WebSocket-Protocol: \xff\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 70_000,
        b"A" * 70_000,
        b"HTTP/1.1 101 cut",
    ],
)
async def test_broken_handshakes_are_cannot_connect(broker: ScriptedBroker, answer: bytes) -> None:
    async def serve() -> None:
        stream = await broker.stream()
        await stream.send_all(answer)
        await wait_all_tasks_blocked()
        await trio.aclose_forcefully(stream)

    broker.nursery.start_soon(serve)
    with pytest.raises(tercet.CannotConnectError):
        async with broker.connect():
            pytest.fail("connected")


async def test_broker_that_does_not_read_bounds_what_is_queued(broker: ScriptedBroker, beside: Beside) -> None:
    """Publishes wait for room; requests that are cancelled again and again end the connection."""

    class Stuck(trio.abc.Stream):
        def __init__(self, stream: trio.abc.Stream) -> None:
            self.stream = stream
            self.stuck = False

        async def send_all(self, data: bytes | bytearray | memoryview) -> None:
            if self.stuck:
                await trio.sleep_forever()
            await self.stream.send_all(data)

        async def wait_send_all_might_not_block(self) -> None:
            await trio.lowlevel.checkpoint()

        async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
            return await self.stream.receive_some(max_bytes)

        async def aclose(self) -> None:
            await self.stream.aclose()

    streams: list[Stuck] = []

    async def dial() -> trio.abc.Stream:
        streams.append(Stuck(await broker.dial()))
        return streams[-1]

    async with broker.session(dial=dial, pending=1000) as (client, peer):
        streams[0].stuck = True
        for _ in range(1000):
            call = await beside(client.publish, "a/x", "x" * 300_000)
            call.scope.cancel()
            await call.done.wait()
            if not client.connected:
                break
            assert client.statistics().queued <= 129 * 2**20
        assert not client.connected
        del peer


async def test_pings_while_it_closes_do_no_harm(broker: ScriptedBroker) -> None:
    """trio-websocket's own reader would fail on them (its issue #184)."""
    async with broker.session() as (client, peer):
        await peer.send_bytes(frame(b"what") + frame(b"", 0x89) * 10 + frame(MESSAGE % (1, 1)))
        assert await peer.closed() == 1002
        await broker.welcome()
        await client.wait_connected()


async def test_writing_fails_but_the_reason_is_still_read(broker: ScriptedBroker, beside: Beside) -> None:
    async with broker.session() as (client, peer):
        half = peer.stream
        assert isinstance(half, trio.StapledStream)
        await half.receive_stream.aclose()  # what we send breaks
        call = await beside(client.publish, "a/x", 1)
        await wait_all_tasks_blocked()
        await peer.send_bytes(frame(struct.pack("!H", 4500) + b"kicked", 0x88))
        with pytest.raises(tercet.BrokenClientError, match="kicked"):
            await call.outcome()
