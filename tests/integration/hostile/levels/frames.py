"""Attacks with WebSocket frames."""

from __future__ import annotations

import struct

import trio
from tests.integration.hostile.attacking import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Siege,
    attack,
    drip,
    end_of,
    pour,
)


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


@attack("frame", "close 1002, or 1007")
async def odd_closes(siege: Siege) -> str:
    """Closes with half a code, with a code that nobody may send, with a reason that is no text; at any time."""
    got = set()
    for payload in (b"\x03", b"\0\0", b"\x03\xec", b"\x03\xed", b"\x03\xf7", b"\xff\xff", b"\x03\xe8\xff"):
        for peer in (await siege.upgraded(), await siege.connected()):
            await pour(peer, siege.frame(CLOSE, payload))
            got.add(await end_of(peer))
    return ", or ".join(sorted(got)).replace("or close", "or")


@attack("frame", "an answer")
async def empty_fragments_and_pings(siege: Siege) -> str:
    """a request in 200 fragments, all but two of them empty, with a ping behind each."""
    peer = await siege.connected()
    empty = siege.frame(CONTINUATION, fin=False) + siege.frame(PING)
    await peer.send(
        siege.frame(TEXT, b'{"op":"ping",', fin=False) + empty * 198 + siege.frame(CONTINUATION, b'"id":2}')
    )
    while (message := await peer.message()).get("id") != 2:
        pass
    assert message["op"] == "pong"
    await peer.leave()
    return "an answer"
