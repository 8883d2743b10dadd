"""Attacks on the request that is to become a WebSocket."""

from __future__ import annotations

import trio
from tests.integration.hostile.attacking import Siege, answer_of, attack, drip, pour


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


@attack("HTTP", "HTTP 400, 403 or 426; Upgrade and Connection are lists, and may")
async def twice(siege: Siege) -> str:
    """each header of the handshake twice."""
    got = {}
    for name in (
        "Host",
        "Sec-WebSocket-Key",
        "Sec-WebSocket-Version",
        "Origin",
        "Authorization",
        "Upgrade",
        "Connection",
    ):
        value = {"Origin": b"http://x", "Authorization": b"Bearer x"}.get(name)
        head = siege.wire.upgrade_request(**({} if value is None else {name.lower(): value}))
        line = next(line for line in head.split(b"\r\n") if line.lower().startswith(name.lower().encode() + b":"))
        peer = await siege.dial()
        await peer.send(head.removesuffix(b"\r\n") + line + b"\r\n\r\n")
        got[name] = await answer_of(peer)
    assert {got.pop("Upgrade"), got.pop("Connection")} == {"HTTP 101"}
    *few, last = sorted({answer.removeprefix("HTTP ") for answer in got.values()})
    return f"HTTP {', '.join(few)} or {last}; Upgrade and Connection are lists, and may"


@attack("HTTP", "HTTP 400, 404, 426 or 501, and none is understood in two ways")
async def odd_heads(siege: Siege) -> str:
    """lengths, codings, lines and targets that two readers may understand in two ways."""
    got = set()
    fields = (
        b"Content-Length: 00",
        b"Content-Length: +0",
        b"Content-Length: 1, 1",
        b"Transfer-Encoding: identity",
        b"Transfer-Encoding: \x0bchunked",
        b"X : a",
        b"X: a\rb",
        b"X: a\0b",
        b": a",
        b"\xff: a",
    )
    right = siege.wire.upgrade_request()
    heads = [right.removesuffix(b"\r\n") + line + b"\r\n\r\n" for line in fields]
    targets = (b"get /", b"GET //", b"GET /..", b"GET *", b"CONNECT x:1", b"GET  /", b"GET /\t")
    heads += [right.replace(b"GET /", target, 1) for target in targets]
    for head in heads:
        peer = await siege.dial()
        await pour(peer, head)
        got.add(await answer_of(peer))
    *few, last = sorted(answer.removeprefix("HTTP ") for answer in got)
    return f"HTTP {', '.join(few)} or {last}, and none is understood in two ways"
