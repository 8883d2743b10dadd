"""Attacks below any protocol."""

from __future__ import annotations

import trio
from tests.integration.hostile.attacking import Siege, attack, pour


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
