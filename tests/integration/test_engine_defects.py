"""What trio-websocket does wrong as a server, each of it against the running daemon.

Everything happens beside a canary, a publisher
and a subscriber who must lose nothing, and afterwards tasks and descriptors
are what they were.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import trio
from attrs import evolve

from tercet_broker.core import BrokerSettings, DropReason, LimitSettings
from tercet_broker.runtime import Daemon, DaemonSettings, ListenerSettings, TimeoutSettings, open_daemon

if TYPE_CHECKING:
    from tests.integration.conftest import Peer, Running, Serve, Watched, Wire

SCHEMES = ("ws", "wss")
PATIENCE = 30.0
TEXT, BINARY, CLOSE, PING, PONG, CONTINUATION = 1, 2, 8, 9, 10, 0
MIB = 1 << 20
TIMEOUTS = TimeoutSettings(handshake=5, connect=5, heartbeat=20, pong=5, write=5, close=0.5, drain=0.5)
# Nothing of what these tests wait for may be due to a timeout of the handshake.
PATIENT = evolve(TIMEOUTS, handshake=10 * PATIENCE, connect=10 * PATIENCE)
SMALL = BrokerSettings(limits=LimitSettings(message_bytes=MIB // 2, outbox_bytes=2 * MIB))

both = pytest.mark.parametrize("scheme", SCHEMES)
Stage = Callable[..., Any]


@pytest.fixture
def stage(serve: Serve, watched: Watched, baseline: Callable[[], Any]) -> Stage:
    """A daemon with a canary in it; at the end, nothing may be left of what the test did beside them."""

    @asynccontextmanager
    async def run(
        settings: BrokerSettings = SMALL, timeouts: TimeoutSettings = TIMEOUTS, *, lane: bool = True
    ) -> AsyncIterator[Running]:
        async with serve(settings, timeouts, lane=lane) as running, watched(running):
            before, canaries = baseline(), len(running.peers)
            with trio.fail_after(PATIENCE):
                yield running
            await running.hang_up(after=canaries)
            await before.regained()

    return run


# 1. Non-ASCII bytes in the request ended the whole process

HEADERS = {
    "sec_websocket_protocol": 400,
    "sec_websocket_extensions": 101,
    "sec_websocket_key": 400,
    "sec_websocket_version": 426,
    "connection": 426,
    "upgrade": 426,
    "host": 101,
    "origin": 101,
    "user_agent": 101,
    "cookie": 101,
    "x_forwarded_for": 101,
}


@both
@pytest.mark.parametrize(("header", "status"), HEADERS.items())
async def test_non_ascii_header_is_answered(stage: Stage, wire: Wire, scheme: str, header: str, status: int) -> None:
    async with stage() as running:
        peer = await running.dial(scheme)
        await peer.send(wire.upgrade_request(**{header: b"\xff\xfe\x80caf\xc3\xa9"}))
        assert await peer.status() == status
        if status == 101:
            await peer.leave()


@both
@pytest.mark.parametrize("host", [b"xn--\xff", b"xn--a\x80.example", b"xn--99999999", b"xn--", b"[::", b"a" * 300])
async def test_bad_host_is_served_all_the_same(stage: Stage, wire: Wire, scheme: str, host: bytes) -> None:
    """Nothing here depends on the Host, so bad punycode in it has no effect."""
    async with stage() as running:
        peer = await running.dial(scheme)
        await peer.send(wire.upgrade_request(host=host))
        assert await peer.status() == 101
        await peer.leave()


# 2. and 3. A reset at the wrong moment ended the whole process


@both
@pytest.mark.parametrize("garbage", [b"\x00" * 100, b"\xff\x80" * 3000, b"GET\r\n\r\n", b"\x16\x03\x01" * 50])
async def test_garbage_and_reset(stage: Stage, scheme: str, garbage: bytes) -> None:
    async with stage(timeouts=PATIENT) as running:
        peer = await running.dial(scheme)
        await peer.send(garbage)
        peer.reset()


@pytest.mark.parametrize("garbage", [b"", b"\x16", b"\x16\x03\x01\x02", b"GET / HTTP/1.1\r\n\r\n"])
async def test_reset_within_the_tls_handshake(stage: Stage, garbage: bytes) -> None:
    async with stage(timeouts=PATIENT) as running:
        peer = await running.dial_tcp("wss")
        if garbage:
            await peer.send(garbage)
        peer.reset()


@both
@pytest.mark.parametrize("passes", [0, 1, 2, 3, 4, 6, 9])
async def test_upgrade_and_reset_before_it_is_accepted(stage: Stage, wire: Wire, scheme: str, passes: int) -> None:
    """After so many passes of the scheduler: each leaves the broker at another step of the handshake."""
    async with stage(timeouts=PATIENT) as running:
        peer = await running.dial(scheme)
        await peer.send(wire.upgrade_request())
        for _ in range(passes):
            await trio.lowlevel.checkpoint()
        peer.reset()


# 4. and 5. What arrives while our Close is pending ended the process later


@both
@pytest.mark.parametrize("lane", [True, False])
@pytest.mark.parametrize("opcode", [PING, PONG, TEXT, BINARY])
async def test_frame_behind_our_close(stage: Stage, wire: Wire, scheme: str, opcode: int, lane: bool) -> None:
    """Nothing is answered once our Close is out, and the peer's Close is still waited for."""
    async with stage(lane=lane) as running:
        peer = await running.open(scheme)
        await peer.send(wire.client_frame(BINARY, b"1003"))
        assert await peer.close_code() == 1003
        await peer.send(wire.client_frame(opcode, b"late") * 3 + wire.client_frame(CLOSE, b"\x03\xeb"))
        assert await peer.frame() is None
        await peer.end()


@both
async def test_oversized_message_behind_our_close(stage: Stage, wire: Wire, scheme: str) -> None:
    async with stage() as running:
        peer = await running.open(scheme)
        await peer.send(wire.client_frame(BINARY, b"1003"))
        assert await peer.close_code() == 1003
        # It is discarded, up to a bound and for as long as a goodbye takes.
        with pytest.raises(trio.BrokenResourceError):
            await peer.send(wire.client_frame(TEXT, bytes(MIB)) * 32)


@both
async def test_ping_during_a_drain(serve: Serve, wire: Wire, scheme: str) -> None:
    """The case of a graceful stop: every client pings while the Closes are on their way."""
    async with serve(timeouts=TIMEOUTS) as running:
        peers = [await running.open(scheme) for _ in range(10)]
        running.daemon.drain()
        codes: list[int | None] = []

        async def ping_to_the_end(peer: Peer) -> None:
            codes.append(await peer.close_code())
            try:
                for _ in range(100):
                    await peer.send(wire.client_frame(PING, b"still here?"))
                await peer.send(wire.client_frame(CLOSE, b"\x03\xf4"))
            except trio.BrokenResourceError:
                pass
            await peer.end()

        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery:
                for peer in peers:
                    nursery.start_soon(ping_to_the_end, peer)
        assert codes == [1012] * 10


# 6. A silent peer was never disconnected after a 1009


@both
async def test_silent_peer_after_1009_is_let_go(stage: Stage, baseline: Callable[[], Any], scheme: str) -> None:
    async with stage() as running:
        before = baseline()
        peer = await running.open(scheme)
        await peer.send(b"\x81\xff" + (MIB + 1).to_bytes(8, "big") + bytes(4))
        await before.regained(descriptors=1)  # our own end, still open and unread
        assert await peer.close_code() == 1009


# 7. Connecting and closing left tasks behind, for a minute or for ever

LEAVERS: dict[str, Callable[[Peer, Wire], Awaitable[None]]] = {}


def leaver(function: Callable[[Peer, Wire], Awaitable[None]]) -> Callable[[Peer, Wire], Awaitable[None]]:
    LEAVERS[function.__name__] = function
    return function


@leaver
async def at_once(peer: Peer, wire: Wire) -> None:
    await trio.lowlevel.checkpoint()


@leaver
async def within_the_head(peer: Peer, wire: Wire) -> None:
    await peer.send(wire.upgrade_request()[:50])


@leaver
async def before_the_last_byte_of_the_head(peer: Peer, wire: Wire) -> None:
    await peer.send(wire.upgrade_request()[:-1])


@leaver
async def behind_the_handshake(peer: Peer, wire: Wire) -> None:
    await peer.upgrade()


@leaver
async def within_a_frame_header(peer: Peer, wire: Wire) -> None:
    await peer.upgrade()
    await peer.send(b"\x81")


@leaver
async def within_a_mask(peer: Peer, wire: Wire) -> None:
    await peer.upgrade()
    await peer.send(b"\x81\x85\x01\x02")


@leaver
async def within_a_payload(peer: Peer, wire: Wire) -> None:
    await peer.upgrade()
    await peer.send(wire.request_frame("connect")[:-3])


@leaver
async def within_a_fragmented_message(peer: Peer, wire: Wire) -> None:
    await peer.upgrade()
    await peer.send(wire.client_frame(TEXT, b"{", fin=False))


@leaver
async def behind_a_subscription(peer: Peer, wire: Wire) -> None:
    await peer.connect()
    assert (await peer.ask("subscribe", id=2, filter="canary/#"))["op"] == "subscribed"


@both
@pytest.mark.parametrize("by_reset", [False, True])
@pytest.mark.parametrize("when", LEAVERS)
async def test_connect_and_leave(stage: Stage, wire: Wire, scheme: str, when: str, by_reset: bool) -> None:
    """Tasks and descriptors are free long before any timeout."""
    async with stage(timeouts=PATIENT) as running:
        peer = await running.dial(scheme)
        await LEAVERS[when](peer, wire)
        if by_reset:
            peer.reset()
        else:
            await trio.aclose_forcefully(peer.stream)


@pytest.mark.parametrize("when", LEAVERS)
async def test_connect_and_close_one_direction(stage: Stage, wire: Wire, when: str) -> None:
    async with stage(timeouts=PATIENT) as running:
        peer = await running.dial("ws")
        await LEAVERS[when](peer, wire)
        peer.sock.shutdown(1)
        await peer.end()


@both
@pytest.mark.parametrize("requests", [60, 70, 100, 500])
async def test_reset_with_replies_unsent(stage: Stage, wire: Wire, scheme: str, requests: int) -> None:
    """The flush that makes room for replies is what finds the peer gone, and nobody waits for room after that."""
    async with stage(timeouts=PATIENT) as running:
        peer = await running.open(scheme)
        await peer.send(b"".join(wire.request_frame("ping", id=number) for number in range(2, requests)))
        peer.reset()


@both
async def test_silence_instead_of_a_request_gets_408(stage: Stage, scheme: str) -> None:
    async with stage(timeouts=evolve(TIMEOUTS, handshake=1)) as running:
        peer = await running.dial(scheme)
        assert await peer.status() == 408
        await peer.end()


async def test_silence_instead_of_a_tls_handshake_is_ended(stage: Stage) -> None:
    async with stage(timeouts=evolve(TIMEOUTS, handshake=1)) as running:
        peer = await running.dial_tcp("wss")
        await peer.end()


@both
async def test_silence_instead_of_connect_gets_3008(stage: Stage, scheme: str) -> None:
    async with stage(timeouts=evolve(TIMEOUTS, connect=1)) as running:
        peer = await running.dial(scheme)
        await peer.upgrade()
        assert await peer.close_code() == 3008


# 8. to 10. Limits counted characters, fragments were free, lengths were believed


@both
@pytest.mark.parametrize("pieces", [1, 8])
@pytest.mark.parametrize("lane", [True, False])
async def test_four_megabytes_of_emoji(stage: Stage, wire: Wire, scheme: str, pieces: int, lane: bool) -> None:
    """A million characters, and so within a limit of 1 MiB for who counts those."""
    async with stage(lane=lane) as running:
        peer = await running.open(scheme)
        emoji = ("😀" * (MIB - 8)).encode()
        size = len(emoji) // pieces
        message = bytearray()
        for number in range(pieces):
            payload = emoji[number * size : (number + 1) * size]
            message += wire.client_frame(CONTINUATION if number else TEXT, payload, fin=number == pieces - 1)

        async def send() -> None:
            with contextlib.suppress(trio.BrokenResourceError):  # it need not hear us out
                await peer.send(bytes(message))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            assert await peer.close_code() == 1009
            nursery.cancel_scope.cancel()
        await peer.end()


@both
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
async def test_zero_length_fragments_without_end(stage: Stage, wire: Wire, scheme: str, opcode: int) -> None:
    async with stage() as running:
        peer = await running.open(scheme)
        await peer.send(wire.client_frame(opcode, fin=False))
        with pytest.raises(trio.BrokenResourceError):
            await peer.send(wire.client_frame(CONTINUATION, fin=False) * (6 * MIB))


@both
async def test_many_zero_length_fragments_close_with_1008(stage: Stage, wire: Wire, scheme: str) -> None:
    async with stage() as running:
        peer = await running.open(scheme)
        await peer.send(wire.client_frame(TEXT, fin=False) + wire.client_frame(CONTINUATION, fin=False) * 300)
        assert await peer.close_code() == 1008


@both
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("is_first", [True, False])
@pytest.mark.parametrize("length", [MIB + 1, 1 << 31, 1 << 32, 1 << 62, (1 << 63) - 1])
async def test_declared_length_closes_at_once(
    stage: Stage, wire: Wire, scheme: str, opcode: int, is_first: bool, length: int
) -> None:
    """With 1009, by the header alone: not a byte of the payload follows, nor does its mask."""
    async with stage() as running:
        peer = await running.open(scheme)
        if not is_first:
            await peer.send(wire.client_frame(opcode, b"{", fin=False))
        await peer.send(bytes([0x80 | (opcode if is_first else 0), 0xFF]) + length.to_bytes(8, "big"))
        assert await peer.close_code() == 1009


# 11. Pongs stalled behind messages that nobody had read


@both
@pytest.mark.parametrize("lane", [True, False])
async def test_pongs_come_between_messages(stage: Stage, wire: Wire, scheme: str, lane: bool) -> None:
    """Whole and fragmented messages and pings in one burst: everything is answered, in the order sent."""
    async with stage(lane=lane) as running:
        peer = await running.open(scheme)
        burst, expected = bytearray(), []
        for number in range(2, 302):
            request = json.dumps({"op": "publish", "id": number, "topic": "a/b", "data": number}).encode()
            ping = wire.client_frame(PING, str(number).encode())
            if number % 3:
                burst += wire.client_frame(TEXT, request) + ping
                expected += [("published", number), ("pong", number)]
            else:
                burst += wire.client_frame(TEXT, request[:9], fin=False) + ping
                burst += wire.client_frame(CONTINUATION, request[9:])
                expected += [("pong", number), ("published", number)]
        answers: list[tuple[str, int]] = []

        async def read() -> None:
            while len(answers) < len(expected):
                frame = await peer.frame()
                assert frame is not None
                opcode, payload = frame
                if opcode == PONG:
                    answers.append(("pong", int(payload)))
                else:
                    reply = json.loads(payload)
                    answers.append((reply["op"], reply["id"]))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await peer.send(bytes(burst))
        assert answers == expected
        await peer.leave()


@both
async def test_client_that_answers_no_ping_is_let_go(stage: Stage, scheme: str) -> None:
    """With 3008, and nothing of the ping is left behind."""
    async with stage(timeouts=evolve(TIMEOUTS, heartbeat=1, pong=1)) as running:
        peer = await running.open(scheme)
        assert await peer.frame() == (PING, b"")
        assert await peer.close_code() == 3008


# 12. A frame in the segment of the handshake was lost


@both
@pytest.mark.parametrize("lane", [True, False])
async def test_frames_in_the_segment_of_the_handshake(stage: Stage, wire: Wire, scheme: str, lane: bool) -> None:
    async with stage(lane=lane) as running:
        peer = await running.dial(scheme)
        frames = wire.request_frame("connect", id=1) + wire.request_frame("ping", id=2) + wire.client_frame(PING, b"3")
        cut = len(frames) - 4  # the last frame comes in two parts
        await peer.send(wire.upgrade_request() + frames[:cut])
        assert await peer.status() == 101
        await peer.send(frames[cut:])
        assert (await peer.message())["op"] == "connected"
        assert (await peer.message())["op"] == "pong"
        assert await peer.frame() == (PONG, b"3")
        await peer.leave()


@both
async def test_everything_byte_by_byte(stage: Stage, wire: Wire, scheme: str) -> None:
    async with stage() as running:
        peer = await running.dial(scheme)
        everything = wire.upgrade_request() + wire.request_frame("connect", id=1) + wire.request_frame("ping", id=2)
        for byte in everything:
            await peer.send(bytes([byte]))
        assert await peer.status() == 101
        assert (await peer.message())["op"] == "connected"
        assert (await peer.message())["op"] == "pong"
        await peer.leave()


# 13. Any Sec-WebSocket-Key was accepted

KEYS = [
    None,
    b"",
    b"AAAA",
    b"A" * 22,
    b"A" * 44,
    b"A" * 22 + b"\xe9=",
    b"AAAAAAAAAAAAAAAAAAAAAA==, AAAA",
    b"!" * 22 + b"==",
]


@both
@pytest.mark.parametrize("key", KEYS)
async def test_bad_key_gets_400(stage: Stage, wire: Wire, scheme: str, key: bytes | None) -> None:
    async with stage() as running:
        peer = await running.dial(scheme)
        await peer.send(wire.upgrade_request(sec_websocket_key=key))
        assert await peer.status() == 400
        await peer.end()


# 14. The peer's address was asked of a socket that has none


async def test_unix_socket_is_served(
    tmp_path_factory: pytest.TempPathFactory, baseline: Callable[[], Any], wire: Wire
) -> None:
    """Its peers have no address; one is served, others reset before anybody looks."""
    path = tmp_path_factory.mktemp("u") / "s"
    daemon = Daemon(DaemonSettings((ListenerSettings(f"unix:{path}"),), timeouts=PATIENT))
    with trio.fail_after(PATIENCE):
        async with open_daemon(daemon) as urls:
            assert urls == (f"ws+unix://{path}",)
            before = baseline()
            for data in (b"", wire.upgrade_request()[:9], wire.upgrade_request()):
                stream = await trio.open_unix_socket(str(path))
                if data:
                    await stream.send_all(data)
                await stream.aclose()
            stream = await trio.open_unix_socket(str(path))
            await stream.send_all(wire.upgrade_request() + wire.request_frame("connect", id=1))
            received = b""
            while b'"connected"' not in received:
                received += await stream.receive_some()
            await stream.aclose()
            await before.regained()


@both
async def test_reset_straight_after_connecting(stage: Stage, scheme: str) -> None:
    """Before the broker has accepted it: its address is gone by then."""
    async with stage(timeouts=PATIENT) as running:
        for _ in range(20):
            (await running.dial_tcp(scheme)).reset()


# 15. Our own close code was recorded as 1000


@both
@pytest.mark.parametrize(
    ("frame", "code"),
    [(b"\x82\x80" + bytes(4), 1003), (b"\x81\x81" + bytes(4) + b"\xff", 1007), (b"\xc1\x80" + bytes(4), 1002)],
)
async def test_close_code_is_logged_as_it_was_sent(
    stage: Stage, logged: list[Any], scheme: str, frame: bytes, code: int
) -> None:
    async with stage() as running:
        peer = await running.open(scheme)
        port = peer.sock.getsockname()[1]
        await peer.send(frame)
        assert await peer.close_code() == code
    (opened,) = [
        entry for entry in logged if entry["event"] == "connection opened" and entry["peer"].endswith(f":{port}")
    ]
    (closed,) = [
        entry
        for entry in logged
        if entry["event"] == "connection closed" and entry["connection"] == opened["connection"]
    ]
    assert (closed["by"], closed["code"]) == ("broker", code)


@both
async def test_peers_close_code_is_logged_as_it_came(stage: Stage, wire: Wire, logged: list[Any], scheme: str) -> None:
    async with stage() as running:
        peer = await running.open(scheme)
        await peer.send(wire.client_frame(CLOSE, (4321).to_bytes(2, "big") + b"had enough"))
        assert await peer.close_code() == 4321
    closed = [entry for entry in logged if entry["event"] == "connection closed" and entry["code"] == 4321]
    assert [(entry["by"], entry["reason"]) for entry in closed] == [("peer", "had enough")]


# 16. A cancelled send left half a frame on the wire


@both
async def test_slow_subscriber_gets_whole_frames_and_4000(stage: Stage, scheme: str) -> None:
    """Its socket takes parts of frames; what it reads in the end is whole ones, in order, then a Close."""
    async with stage(timeouts=evolve(TIMEOUTS, write=PATIENCE, close=PATIENCE)) as running:
        slow, publisher = await running.open(scheme), await running.open("ws")
        await slow.ask("subscribe", id=2, filter="load/#")
        number = 0
        text = "x" * 100_000
        while number < 1000 and not any(
            space.account.dropped[DropReason.OVERFLOW] for space in running.daemon.statistics().namespaces
        ):
            number += 1
            await publisher.ask("publish", id=number + 2, topic="load/a", data=f"{number} {text}")
        assert number < 1000
        received = 0
        while True:
            frame = await slow.frame()
            assert frame is not None, "the end came without a Close"
            opcode, payload = frame
            if opcode == CLOSE:
                break
            message = json.loads(payload)
            if message["op"] == "position":
                continue
            received += 1
            assert (message["op"], message["seq"], message["data"]) == ("message", received, f"{received} {text}")
        assert int.from_bytes(payload[:2], "big") == 4000
        assert 0 < received < number
        await publisher.leave()
        await publisher.end()


@both
async def test_stalled_subscriber_is_cut_after_the_write_timeout(stage: Stage, logged: list[Any], scheme: str) -> None:
    """It reads nothing, so nothing can be told to it: the log has 4000."""
    async with stage(timeouts=evolve(TIMEOUTS, write=0.5)) as running:
        slow, publisher = await running.open(scheme), await running.open("ws")
        await slow.ask("subscribe", id=2, filter="load/#")
        number = 0
        text = "x" * 400_000
        with trio.move_on_after(PATIENCE):
            while not any(entry.get("code") == 4000 for entry in logged):
                number += 1
                await publisher.ask("publish", id=number + 2, topic="load/a", data=text)
        assert [entry["by"] for entry in logged if entry.get("code") == 4000] == ["broker"]
        await publisher.leave()
        await publisher.end()


# 17. A protocol error ended the connection without a Close

VIOLATIONS = {
    "reserved bit 1": (b"\xc1\x80" + bytes(4), 1002),
    "reserved bit 2": (b"\xa1\x80" + bytes(4), 1002),
    "reserved bit 3": (b"\x91\x80" + bytes(4), 1002),
    "opcode 3": (b"\x83\x80" + bytes(4), 1002),
    "opcode 7": (b"\x87\x80" + bytes(4), 1002),
    "opcode 11": (b"\x8b\x80" + bytes(4), 1002),
    "opcode 15": (b"\x8f\x80" + bytes(4), 1002),
    "no mask": (b"\x81\x02{}", 1002),
    "long ping": (b"\x89\xfe\x00\x7e" + bytes(4 + 126), 1002),
    "fragmented ping": (b"\x09\x80" + bytes(4), 1002),
    "fragmented close": (b"\x08\x80" + bytes(4), 1002),
    "continuation of nothing": (b"\x80\x80" + bytes(4), 1002),
    "message within a message": (b"\x01\x80" + bytes(4) + b"\x81\x80" + bytes(4), 1002),
    "16-bit length of 5": (b"\x81\xfe\x00\x05" + bytes(9), 1002),
    "64-bit length of 5": (b"\x81\xff" + (5).to_bytes(8, "big") + bytes(9), 1002),
    "length over 2^63": (b"\x81\xff" + (1 << 63).to_bytes(8, "big"), 1002),
    "close of one byte": (b"\x88\x81" + bytes(5), 1002),
    "close with 999": (b"\x88\x82" + bytes(4) + (999).to_bytes(2, "big"), 1002),
    "close with 1005": (b"\x88\x82" + bytes(4) + (1005).to_bytes(2, "big"), 1002),
    "close with 1006": (b"\x88\x82" + bytes(4) + (1006).to_bytes(2, "big"), 1002),
    "close with 5000": (b"\x88\x82" + bytes(4) + (5000).to_bytes(2, "big"), 1002),
    "close whose reason is not UTF-8": (b"\x88\x83" + bytes(4) + b"\x03\xe8\xff", 1007),
    "text that is not UTF-8": (b"\x81\x82" + bytes(4) + b"\xc3\x28", 1007),
    "fragment that is not UTF-8": (b"\x01\x82" + bytes(4) + b"\xc3\x28", 1007),
    "text that ends within a character": (b"\x01\x81" + bytes(4) + b"\xc3\x80\x80" + bytes(4), 1007),
    "surrogate": (b"\x81\x83" + bytes(4) + b"\xed\xa0\x80", 1007),
    "binary": (b"\x82\x81" + bytes(5), 1003),
    "binary in fragments": (b"\x02\x80" + bytes(4) + b"\x80\x80" + bytes(4), 1003),
}


@both
@pytest.mark.parametrize("lane", [True, False])
@pytest.mark.parametrize(("data", "code"), VIOLATIONS.values(), ids=VIOLATIONS.keys())
async def test_violation_is_told_its_close_code(stage: Stage, scheme: str, data: bytes, code: int, lane: bool) -> None:
    """C-011, C-012 and RFC 6455: whatever the fault is, a Close names it before the end."""
    async with stage(lane=lane) as running:
        peer = await running.open(scheme)
        await peer.send(data)
        assert await peer.close_code() == code


@both
async def test_stranger_before_connect_gets_3000(stage: Stage, scheme: str) -> None:
    async with stage() as running:
        peer = await running.dial(scheme)
        await peer.upgrade()
        await peer.request("subscribe", id=2, filter="kept/#")
        error = await peer.message()
        assert (error["op"], error["code"], error["id"]) == ("error", "unauthorized", 2)
        assert await peer.close_code() == 3000
