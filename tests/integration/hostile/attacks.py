"""What hostile clients do, level by level, and what each of them gets.

`python -m tests.integration.hostile` prints the table that docs/design/threats.md shows.
"""

from __future__ import annotations

import base64
import json
import ssl
import struct
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import trio
from attrs import frozen
from tests.tls_records import HandWrittenTls, Sealer12, Sealer13

if TYPE_CHECKING:
    from tests.integration.conftest import Peer, Running, Wire

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
LEVELS = ("raw socket", "HTTP", "frame", "JSON", "semantics", "tokens", "TLS")
_GONE = (trio.BrokenResourceError, trio.ClosedResourceError)
_DRIP = 0.05  # seconds between two bytes of a slow one


@frozen
class Siege:
    """What an attack has: the daemon, the way to it, and how to write its bytes."""

    running: Running
    wire: Wire
    scheme: str

    async def dial(self) -> Peer:
        return await self.running.dial(self.scheme)

    async def upgraded(self) -> Peer:
        peer = await self.dial()
        await peer.upgrade()
        return peer

    async def connected(self) -> Peer:
        return await self.running.open(self.scheme)

    def request(self, op: str, **fields: object) -> bytes:
        return self.wire.request_frame(op, **fields)

    def frame(self, opcode: int, payload: bytes = b"", **options: Any) -> bytes:
        return self.wire.client_frame(opcode, payload, **options)


Run = Callable[[Siege], Awaitable[str]]


@frozen
class Attack:
    """One attack.

    Attributes:
        level: where it attacks.
        name: what it does.
        gets: what it gets, in a few words; with TLS the same as without.
        run: does it, and returns what it got.
    """

    level: str
    name: str
    gets: str
    run: Run


ATTACKS: list[Attack] = []


def attack(level: str, gets: str) -> Callable[[Run], Run]:
    def add(run: Run) -> Run:
        name = getattr(run, "__doc__", "").strip().rstrip(".")
        ATTACKS.append(Attack(level, name, gets, run))
        return run

    return add


async def pour(peer: Peer, data: bytes) -> None:
    """Send for as long as somebody takes it."""
    with suppress(*_GONE):
        await peer.send(data)


async def end_of(peer: Peer) -> str:
    """Read on to the end, and say how that was."""
    code = await peer.close_code()
    return "cut" if code is None else f"close {code}"


async def answer_of(peer: Peer) -> str:
    status = await peer.status()
    return "cut" if status is None else f"HTTP {status}"


async def error_of(siege: Siege, peer: Peer, data: bytes) -> str:
    """Send something, and say which error comes, and that the connection goes on."""
    await peer.send(data)
    while (message := await peer.message())["op"] != "error":
        pass
    assert (await peer.ask("ping", id=9))["op"] == "pong"
    return f"error {message['code']}, and is served on"


async def drip(peer: Peer, data: bytes) -> None:
    try:
        for byte in data:
            await peer.send(bytes((byte,)))
            await trio.sleep(_DRIP)
    except _GONE:
        pass


# Raw socket


@attack("raw socket", "cut after `timeouts.handshake`")
async def silence(siege: Siege) -> str:
    """200 connections that say nothing."""
    peers = [await siege.running.dial_tcp(siege.scheme) for _ in range(200)]
    for peer in peers:
        await peer.end()
    return "cut after `timeouts.handshake`"


@attack("raw socket", "cut")
async def half_close(siege: Siege) -> str:
    """closes its own direction at once."""
    peer = await siege.running.dial_tcp(siege.scheme)
    assert isinstance(peer.stream, trio.SocketStream)
    await peer.stream.send_eof()
    await peer.end()
    return "cut"


@attack("raw socket", "nothing")
async def reset_everywhere(siege: Siege) -> str:
    """RST after any number of bytes of a whole conversation."""
    talk = siege.wire.upgrade_request() + siege.request("connect", id=1)
    talk += siege.request("subscribe", id=2, filter="#") + siege.request("publish", topic="x/y", data=1)
    for cut in range(0, len(talk), 9):
        peer = await siege.dial()
        await pour(peer, talk[:cut])
        peer.reset()
    return "nothing"


@attack("raw socket", "cut, or HTTP 400")
async def garbage(siege: Siege) -> str:
    """bytes that are no protocol."""
    for data in (bytes(range(256)) * 8, b"\x16\x03\x01" + bytes(500), b"\xff" * 20_000, b"SSH-2.0-x\r\n\r\n"):
        peer = await siege.running.dial_tcp(siege.scheme)
        await pour(peer, data)
        await peer.end()
    return "cut, or HTTP 400"


# HTTP


@attack("HTTP", "HTTP 408 after `timeouts.handshake`")
async def slow_head(siege: Siege) -> str:
    """slowloris: a request head byte by byte."""
    peer = await siege.dial()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(drip, peer, siege.wire.upgrade_request())
        got = await answer_of(peer)
        nursery.cancel_scope.cancel()
    return f"{got} after `timeouts.handshake`"


@attack("HTTP", "HTTP 431")
async def endless_head(siege: Siege) -> str:
    """a head without an end."""
    peer = await siege.dial()
    await pour(peer, b"GET / HTTP/1.1\r\n" + b"X-Y: %s\r\n" % (b"z" * 500) * 100)
    return await answer_of(peer)


@attack("HTTP", "HTTP 400")
async def smuggling(siege: Siege) -> str:
    """a body, by length or in chunks, in which another request hides."""
    got = set()
    for headers in ({"content_length": "40"}, {"transfer_encoding": "chunked"}):
        peer = await siege.dial()
        await pour(peer, siege.wire.upgrade_request(**headers) + b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        got.add(await answer_of(peer))
    return " ".join(got)


@attack("HTTP", "HTTP 400 or HTTP 404")
async def other_protocols(siege: Siege) -> str:
    """HTTP/2, a bad method, a line without a version."""
    got = set()
    for data in (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"G\x00T / HTTP/1.1\r\n\r\n", b"GET /\r\n\r\n"):
        peer = await siege.dial()
        await pour(peer, data)
        got.add(await answer_of(peer))
    return " or ".join(sorted(got))


@attack("HTTP", "HTTP 400")
async def token_in_url(siege: Siege) -> str:
    """a token in the URL."""
    peer = await siege.dial()
    await peer.send(siege.wire.upgrade_request("/?token=abc"))
    return await answer_of(peer)


@attack("HTTP", "HTTP 101, and is believed in nothing")
async def forwarded_spoof(siege: Siege) -> str:
    """`X-Forwarded-For` from an untrusted peer."""
    peer = await siege.dial()
    await peer.send(siege.wire.upgrade_request(x_forwarded_for="6.6.6.6", x_real_ip="6.6.6.6"))
    got = await answer_of(peer)
    peers = [one.peer for one in siege.running.daemon.statistics().connections]
    assert not any("6.6.6.6" in one for one in peers), peers
    return f"{got}, and is believed in nothing"


@attack("HTTP", "HTTP 400")
async def proxy_spoof(siege: Siege) -> str:
    """a PROXY header from an untrusted peer."""
    peer = await siege.dial()
    await peer.send(b"PROXY TCP4 6.6.6.6 1.1.1.1 1 1\r\n" + siege.wire.upgrade_request())
    return await answer_of(peer)


@attack("HTTP", "HTTP 400, 404 or 101; a line of the log, escaped")
async def log_injection(siege: Siege) -> str:
    """CR, LF and ANSI sequences for the log."""
    for path, headers in (("/\x1b[2J", {}), ("/%0d%0aevil", {}), ("/", {"origin": "\x1b]0;x\x07"})):
        peer = await siege.dial()
        await peer.send(siege.wire.upgrade_request(path, **headers))
        assert await answer_of(peer) in {"HTTP 400", "HTTP 404", "HTTP 101"}
    peer = await siege.upgraded()
    await peer.ask("connect", id=1, client="x\r\n\x1b[31mlevel=error")
    await peer.leave()
    return "HTTP 400, 404 or 101; a line of the log, escaped"


# Frame


@attack("frame", "close 1009, before the bytes come")
async def declared_length(siege: Siege) -> str:
    """a frame that says it has 2^62 bytes."""
    peer = await siege.connected()
    await peer.send(b"\x81\xff" + struct.pack("!Q", 1 << 62))
    return f"{await end_of(peer)}, before the bytes come"


@attack("frame", "close 1002")
async def not_allowed(siege: Siege) -> str:
    """the bit of compression, no mask, an unknown opcode, a ping in fragments, a length of 2^63."""
    got = set()
    for data in (
        siege.frame(TEXT, b"{}", reserved=0x40),
        b"\x81\x02{}",
        siege.frame(5),
        siege.frame(PING, fin=False),
        b"\x81\xff" + struct.pack("!Q", 1 << 63),
        siege.frame(CONTINUATION),
    ):
        peer = await siege.connected()
        await pour(peer, data)
        got.add(await end_of(peer))
    return " ".join(got)


@attack("frame", "close 1008")
async def ping_flood(siege: Siege) -> str:
    """50,000 pings."""
    peer = await siege.connected()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pour, peer, siege.frame(PING, bytes(50)) * 50_000)
        return await end_of(peer)


@attack("frame", "close 1008")
async def pong_flood(siege: Siege) -> str:
    """50,000 pongs that nobody asked for."""
    peer = await siege.connected()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pour, peer, siege.frame(PONG) * 50_000)
        return await end_of(peer)


@attack("frame", "close 1008")
async def empty_fragments(siege: Siege) -> str:
    """a message of empty fragments without an end."""
    peer = await siege.connected()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pour, peer, siege.frame(TEXT, fin=False) + siege.frame(CONTINUATION, fin=False) * 20_000)
        return await end_of(peer)


@attack("frame", "close 1009")
async def fragments_beyond_the_limit(siege: Siege) -> str:
    """fragments that add up to more than a message may have."""
    peer = await siege.connected()
    async with trio.open_nursery() as nursery:
        piece = siege.frame(CONTINUATION, b"x" * 1000, fin=False)
        nursery.start_soon(pour, peer, siege.frame(TEXT, b"x", fin=False) + piece * 600)
        return await end_of(peer)


@attack("frame", "close 1007")
async def not_utf8(siege: Siege) -> str:
    """text that is not UTF-8."""
    peer = await siege.connected()
    await peer.send(siege.frame(TEXT, b"\xc3\x28"))
    return await end_of(peer)


@attack("frame", "close 1003")
async def binary(siege: Siege) -> str:
    """a binary message."""
    peer = await siege.connected()
    await peer.send(siege.frame(BINARY, bytes(100)))
    return await end_of(peer)


@attack("frame", "close 3008 after `timeouts.connect`")
async def slow_frame(siege: Siege) -> str:
    """slowloris: the first frame byte by byte."""
    peer = await siege.upgraded()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(drip, peer, siege.request("connect", id=1, client="x" * 100))
        got = await end_of(peer)
        nursery.cancel_scope.cancel()
    return f"{got} after `timeouts.connect`"


@attack("frame", "close 3008 after `timeouts.pong`")
async def mute(siege: Siege) -> str:
    """connected, and then answers no ping."""
    peer = await siege.connected()
    peer.is_silent = True
    return f"{await end_of(peer)} after `timeouts.pong`"


@attack("frame", "close 3008 after `timeouts.read`, and more for what has come")
async def endless_request(siege: Siege) -> str:
    """slowloris: connected, and then a message that does not end, with a ping for each byte."""
    peer = await siege.connected()
    async with trio.open_nursery() as nursery:
        fragment = siege.frame(CONTINUATION, b" ", fin=False)

        async def send() -> None:
            await pour(peer, siege.frame(TEXT, b"{", fin=False))
            while True:
                await trio.sleep(0.5)
                await pour(peer, fragment + siege.frame(PING))

        nursery.start_soon(send)
        got = await end_of(peer)
        nursery.cancel_scope.cancel()
    return f"{got} after `timeouts.read`, and more for what has come"


@attack("frame", "an answer: each byte is a sign of life, and they are fast enough for `timeouts.read`")
async def slow_request(siege: Siege) -> str:
    """connected, and then a frame byte by byte, longer than `timeouts.pong`."""
    peer = await siege.connected()
    await drip(peer, siege.frame(TEXT, b'{"op":"ping","id":2}' + b" " * 60))
    while (message := await peer.message())["op"] != "pong":
        pass
    assert message["id"] == 2
    await peer.leave()
    return "an answer: each byte is a sign of life, and they are fast enough for `timeouts.read`"


@attack("frame", "close 1000, once")
async def close_flood(siege: Siege) -> str:
    """10,000 Closes."""
    peer = await siege.connected()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pour, peer, siege.frame(CLOSE, b"\x03\xe8") * 10_000)
        return f"{await end_of(peer)}, once"


# JSON


@attack("JSON", "error bad_request, and is served on")
async def deep_nesting(siege: Siege) -> str:
    """100,000 brackets."""
    data = b'{"op":"publish","id":2,"topic":"x/y","data":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    return await error_of(siege, await siege.connected(), siege.frame(TEXT, data))


@attack("JSON", "error bad_request, and is served on")
async def surrogates(siege: Siege) -> str:
    """half of a surrogate pair, which no UTF-8 can say."""
    data = b'{"op":"publish","id":2,"topic":"x/y","data":"\\ud800"}'
    return await error_of(siege, await siege.connected(), siege.frame(TEXT, data))


@attack("JSON", "error too_large, and is served on")
async def too_large(siege: Siege) -> str:
    """a request over `limits.message_bytes`."""
    peer = await siege.connected()
    return await error_of(siege, peer, siege.request("publish", id=2, topic="x/y", data="x" * 300_000))


@attack("JSON", "delivered as it was written")
async def huge_number(siege: Siege) -> str:
    """a number of 100,000 digits, which costs the square of that to read."""
    peer = await siege.connected()
    await peer.ask("subscribe", id=3, filter="x/#", retained=False)
    with trio.fail_after(5):
        await peer.send(siege.frame(TEXT, b'{"op":"publish","id":2,"topic":"x/number","data":' + b"9" * 100_000 + b"}"))
        while True:
            found = await peer.frame()
            assert found is not None
            if b"9" * 100_000 in found[1]:
                return "delivered as it was written"


@attack("JSON", "close 1008 after ten errors")
async def no_json(siege: Siege) -> str:
    """what is no JSON, again and again."""
    peer = await siege.connected()
    await pour(peer, siege.frame(TEXT, b"{") * 50)
    return f"{await end_of(peer)} after ten errors"


# Semantics


@attack("semantics", "error too_many_subscriptions from the 1001st on")
async def many_subscriptions(siege: Siege) -> str:
    """16,384 subscriptions."""
    peer = await siege.connected()
    counts = {"subscribed": 0, "error": 0}

    async def ask() -> None:
        for start in range(2, 16_386, 64):
            data = (siege.request("subscribe", id=n, filter=f"many/{n}/+") for n in range(start, start + 64))
            await peer.send(b"".join(data))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        while sum(counts.values()) < 16_384:
            message = await peer.message()
            if message["op"] in counts:
                counts[message["op"]] += 1
                assert message["op"] == "subscribed" or message["code"] == "too_many_subscriptions"
    await peer.leave()
    return f"error too_many_subscriptions from the {counts['subscribed'] + 1}st on"


@attack("semantics", "each message once")
async def hostile_filters(siege: Siege) -> str:
    """all 2^9 filters of `+` and `a` that match one topic, and publishes there."""
    peer = await siege.connected()
    for number in range(512):
        levels = ["+" if number >> bit & 1 else "a" for bit in range(9)]
        await peer.request("subscribe", id=number + 2, filter="/".join(["deep", *levels]))
    await peer.ask("ping", id=600)
    for number in range(50):
        await peer.request("publish", topic="deep" + "/a" * 9, data=number)
    await peer.request("ping", id=601)
    seen = []
    while (message := await peer.message()).get("id") != 601:
        if message["op"] == "message":
            seen.append(message["data"])
    assert seen == list(range(50))
    return "each message once"


@attack("semantics", "error unavailable, with `retry_after`")
async def namespaces_flood(siege: Siege) -> str:
    """a new namespace with each publish."""
    peer = await siege.connected()
    for number in range(100):
        reply = await peer.ask("publish", id=number + 2, topic=f"made-up-{siege.scheme}-{number}", data=1)
        if reply["op"] == "error":
            assert reply["retry_after"] > 0
            return f"error {reply['code']}, with `retry_after`"
    return "as many as it likes"


@attack("semantics", "error unavailable")
async def retained_flood(siege: Siege) -> str:
    """a new retained value with each publish."""
    peer = await siege.connected()
    for number in range(500):
        reply = await peer.ask("publish", id=number + 2, topic=f"kept/{number}", data=1, retain=True)
        if reply["op"] == "error":
            return f"error {reply['code']}"
    return "as many as it likes"


@attack("semantics", "error unavailable")
async def keys_flood(siege: Siege) -> str:
    """a new idempotency key with each publish."""
    peer = await siege.connected()
    for number in range(500):
        key = f"{siege.scheme}-{number:020d}"
        reply = await peer.ask("publish", id=number + 2, topic="kept/one", data=1, key=key)
        if reply["op"] == "error":
            return f"error {reply['code']}"
    return "as many as it likes"


@attack("semantics", "pages within `limits.history_*`")
async def history_walks(siege: Siege) -> str:
    """history with the largest limits, over and over, without reading the replies."""
    peer = await siege.connected()
    await peer.send(b"".join(siege.request("history", id=n, filter="kept/#", limit=1 << 40) for n in range(2, 150)))
    for _ in range(148):
        while (message := await peer.message())["op"] != "history":
            pass
        assert len(message["messages"]) <= 1000
    await peer.leave()
    return "pages within `limits.history_*`"


@attack("semantics", "each in pages, until it ends it")
async def last_walks(siege: Siege) -> str:
    """subscribes with the largest `last`, over and over, and ends half of those, without reading."""
    peer = await siege.connected()
    for number in range(100):
        await peer.request("publish", topic="kept/walked", data=number)
    asked = [siege.request("subscribe", id=n, filter="kept/walked", last=10_000) for n in range(2, 202)]
    for n in range(0, 200, 2):
        asked[n] += siege.request("unsubscribe", id=n + 1000, sub=n + 2)
    await peer.send(b"".join(asked) + siege.request("ping", id=300))
    live: set[int] = set()
    ended: set[int] = set()
    while len(live) < 100 or len(ended) < 100:
        message = await peer.message()
        assert message["op"] != "error", message
        if message["op"] == "live" and message["sub"] % 2:
            live.add(message["sub"])
        elif message["op"] == "unsubscribed":
            ended.add(message["id"] - 1000)
        assert message.get("sub") not in ended
    await peer.leave()
    return "each in pages, until it ends it"


@attack("semantics", "close 4000 (the subscriber who reads nothing), or the end of its stream")
async def never_reading(siege: Siege) -> str:
    """subscribes to what it publishes itself, and reads nothing."""
    peer = await siege.connected()
    await peer.request("subscribe", id=2, filter="kept/flood")
    try:
        with trio.move_on_after(10):
            while True:
                await peer.request("publish", topic="kept/flood", data="x" * 20_000)
    except _GONE:
        pass
    # Its own queue is full of what it did not read, so the Close may be behind more than the kernel holds.
    await peer.end()
    return "close 4000 (the subscriber who reads nothing), or the end of its stream"


@attack("semantics", "close 3000")
async def without_connect(siege: Siege) -> str:
    """requests before `connect`."""
    peer = await siege.upgraded()
    await pour(peer, siege.request("publish", id=1, topic="x/y", data=1) * 50)
    return await end_of(peer)


@attack("semantics", "error forbidden, and is served on")
async def broker_topics(siege: Siege) -> str:
    """publishes as the broker."""
    return await error_of(siege, await siege.connected(), siege.request("publish", id=2, topic="$sys/x", data=1))


# Tokens: the daemon knows one, and lets strangers in as well


def _jwt(header: Mapping[str, object], claims: Mapping[str, object]) -> str:
    parts = (json.dumps(part).encode() for part in (header, claims))
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


async def _verdict(siege: Siege, token: str) -> str:
    peer = await siege.upgraded()
    await peer.request("connect", id=1, token=token)
    found = await peer.frame()
    assert found is not None
    message = json.loads(found[1])
    return f"error {message.get('code')}, {await end_of(peer)}" if message["op"] == "error" else "let in"


@attack("tokens", "error unauthorized, close 3000")
async def unsigned_tokens(siege: Siege) -> str:
    """JSON Web Tokens without a signature, or with another algorithm's, or with a key of their own."""
    claims: dict[str, object] = {"iss": "i", "aud": "a", "exp": 1 << 40, "sub": "root"}
    got = set()
    for header in ({"alg": "none"}, {"alg": "HS256"}, {"alg": "RS256", "jku": "https://evil.example"}):
        for signature in ("", "AAAA"):
            got.add(await _verdict(siege, f"{_jwt(header, claims)}.{signature}"))
    return " ".join(got)


@attack("tokens", "error unauthorized, close 3000")
async def guessed_tokens(siege: Siege) -> str:
    """static tokens that are wrong, empty, huge or not text."""
    wrong = ("feed.", "feed.x", ".", "", "feed", "x" * 9000, "feed.\x00")
    return " ".join({await _verdict(siege, token) for token in wrong})


@attack("tokens", "error rate_limited, close 1013")
async def guessing_at_rate(siege: Siege) -> str:
    """wrong tokens, as fast as it can."""
    for number in range(200):
        got = await _verdict(siege, f"nobody.{number}")
        if got != "error unauthorized, close 3000":
            return got
    return "as many as it likes"


# TLS


@attack("TLS", "cut")
async def plain_text(siege: Siege) -> str:
    """HTTP to a TLS listener."""
    peer = await siege.running.dial_tcp("wss")
    await pour(peer, siege.wire.upgrade_request())
    await peer.end()
    return "cut"


@attack("TLS", "cut after `timeouts.handshake`")
async def slow_hello(siege: Siege) -> str:
    """slowloris: a ClientHello byte by byte."""
    peer = await siege.running.dial_tcp("wss")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(drip, peer, hello())
        await peer.end()
        nursery.cancel_scope.cancel()
    return "cut after `timeouts.handshake`"


@attack("TLS", "cut")
async def half_hello(siege: Siege) -> str:
    """a ClientHello of any length, and RST or half-close."""
    data = hello()
    for cut in range(1, len(data) + 1, 37):
        peer = await siege.running.dial_tcp("wss")
        await pour(peer, data[:cut])
        if cut % 2:
            peer.reset()
        else:
            assert isinstance(peer.stream, trio.SocketStream)
            await peer.stream.send_eof()
            await peer.end()
    return "cut"


@attack("TLS", "an alert")
async def old_version(siege: Siege) -> str:
    """TLS 1.1."""
    peer = await siege.running.dial_tcp("wss")
    # A ClientHello of TLS 1.1 as its RFC (4346, 7.4.1.2) has it; today's OpenSSL would not write one.
    body = b"\x03\x02" + bytes(32) + b"\x00" + b"\x00\x04\xc0\x14\x00\x35" + b"\x01\x00"
    handshake = b"\x01" + len(body).to_bytes(3, "big") + body
    await peer.send(b"\x16\x03\x01" + len(handshake).to_bytes(2, "big") + handshake)
    data = await peer.stream.receive_some(100)
    assert data[:1] == b"\x15", data  # RFC 4346, 6.2.1
    await peer.end()
    return "an alert"


@attack("TLS", "nothing: an end like any other")
async def truncation(siege: Siege) -> str:
    """TLS cut off without a close_notify, within a message."""
    for data in (b"", siege.request("connect", id=1), siege.request("connect", id=1)[:10]):
        peer = await siege.dial()
        await peer.upgrade()
        await peer.send(data)
        await trio.aclose_forcefully(peer.stream)
    return "nothing: an end like any other"


async def hand_written(siege: Siege, version: ssl.TLSVersion) -> HandWrittenTls:
    """Return a connection that has introduced itself, and can send records of any kind."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for authority in siege.running.context.get_ca_certs(binary_form=True):
        context.load_verify_locations(cadata=authority)
    context.maximum_version = version
    tcp = await siege.running.dial_tcp("wss")
    with tempfile.NamedTemporaryFile() as log:
        context.keylog_filename = log.name
        client = HandWrittenTls(tcp.stream, context)
        await client.handshake()
    await client.send(siege.wire.upgrade_request() + siege.request("connect", id=1))
    received = b""
    while b'"connected"' not in received:
        more = await client.receive()
        assert more, received
        received += more
    return client


@attack("TLS", "an answer, later: they are read at a rate of their own")
async def key_updates(siege: Siege) -> str:
    """1,500 KeyUpdates that ask for one in return, and then a ping."""
    client = await hand_written(siege, ssl.TLSVersion.TLSv1_3)
    assert isinstance(client.sealer, Sealer13)
    began = trio.current_time()
    for _ in range(15):
        await client.stream.send_all(b"".join(client.sealer.key_update(is_requested=True) for _ in range(100)))
    await client.send(siege.request("ping", id=2))
    received = b""
    while b'"pong"' not in received:
        more = await client.receive()
        assert more, "it was cut"
        received += more
    assert trio.current_time() - began > 0.9
    return "an answer, later: they are read at a rate of their own"


@attack("TLS", "an alert, and is served on")
async def renegotiation(siege: Siege) -> str:
    """100 requests to renegotiate, in TLS 1.2."""
    client = await hand_written(siege, ssl.TLSVersion.TLSv1_2)
    assert isinstance(client.sealer, Sealer12)
    await client.stream.send_all(b"".join(client.sealer.renegotiation() for _ in range(100)))
    await client.send(siege.request("ping", id=2))
    received = b""
    while b'"pong"' not in received:
        try:
            received += await client.receive()
        except ssl.SSLError as error:
            assert error.reason == "NO_RENEGOTIATION", error
            return "an alert, and is served on"
    return "no alert"


@attack("TLS", "cut")
async def records_of_garbage(siege: Siege) -> str:
    """a right handshake, and records behind it that are none."""
    peer = await siege.dial()
    await peer.upgrade()
    await peer.sock.send(b"\x17\x03\x03\x00\x20" + bytes(32))
    await peer.end()
    return "cut"


def hello() -> bytes:
    """Return a ClientHello."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    machine = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname="x.test")
    try:
        machine.do_handshake()
    except ssl.SSLWantReadError:
        return outgoing.read()
    raise AssertionError


def table() -> str:
    """Return the table for the docs."""
    lines = ["| level | the client | gets |", "|---|---|---|"]
    return "\n".join([*lines, *(f"| {one.level} | {one.name} | {one.gets} |" for one in ATTACKS)])
