"""Attacks with texts that are requests, or nearly."""

from __future__ import annotations

import trio
from tests.integration.hostile.attacking import CONTINUATION, TEXT, Siege, attack, end_of, error_of, pour


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


@attack("JSON", "published; one byte more is error too_large")
async def to_the_byte(siege: Siege) -> str:
    """requests of just `limits.message_bytes`, in characters of one, two and four bytes, whole and in fragments."""
    peer = await siege.connected()
    limit, got = siege.running.daemon.settings.broker.limits.message_bytes, set()
    for character in ("x", "é", "😀"):
        for more in (-1, 0, 1):
            rest = limit + more - len(siege.text("publish", id=2, topic="x/size", data=""))
            count, padding = divmod(rest, len(character.encode()))
            text = siege.text("publish", id=2, topic="x/size", data=character * count + "y" * padding)
            assert len(text) == limit + more
            for frames in (
                siege.frame(TEXT, text),
                siege.frame(TEXT, text[:1001], fin=False) + siege.frame(CONTINUATION, text[1001:]),
            ):
                await peer.send(frames)
                while (message := await peer.message()).get("id") != 2:
                    pass
                got.add((more > 0, message.get("code", message["op"])))
    assert got == {(False, "published"), (True, "too_large")}
    await peer.leave()
    return "published; one byte more is error too_large"
