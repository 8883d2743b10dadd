"""The conversation of client.mjs with the `websockets` package, on asyncio: `python asyncio_client.py URL CA`."""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
from typing import Any

from attrs import define, field
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

SUBPROTOCOL = "tercet.v1.json"


@define(eq=False)
class Client:
    """One connection."""

    socket: ClientConnection
    skipped: list[dict[str, Any]] = field(factory=list)

    async def next(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(await self.socket.recv())
        return message

    async def ask(self, **request: object) -> dict[str, Any]:
        await self.socket.send(json.dumps(request))
        while (message := await self.next()).get("id") != request["id"]:
            self.skipped.append(message)
        return message

    async def until(self, op: str) -> list[dict[str, Any]]:
        seen = [await self.next()]
        while seen[-1]["op"] != op:
            seen.append(await self.next())
        return seen


def ending(socket: ClientConnection) -> dict[str, Any]:
    protocol = socket.protocol
    is_clean = protocol.close_rcvd is not None and protocol.close_sent is not None
    return {"code": socket.close_code, "clean": is_clean}


async def converse(url: str, context: ssl.SSLContext | None) -> dict[str, Any]:
    """Return what was seen."""

    async def open_client() -> Client:
        return Client(await connect(url, ssl=context, subprotocols=[SUBPROTOCOL]))  # type: ignore[list-item]

    told: dict[str, Any] = {}
    client = await open_client()
    told["protocol"] = client.socket.subprotocol
    told["connected"] = await client.ask(op="connect", id=1, client="foreign/1")
    told["retain"] = await client.ask(op="publish", id=2, topic="kept/a", data="täglich 😀", retain=True)
    told["second"] = await client.ask(op="publish", id=3, topic="kept/b", data={"n": 2})
    told["third"] = await client.ask(op="publish", id=4, topic="kept/b", data=[3])
    told["subscribed"] = await client.ask(op="subscribe", id=5, filter="kept/+", last=2)
    told["replay"] = await client.until("live")
    await client.socket.send(json.dumps({"op": "publish", "topic": "kept/c", "data": "live"}))
    told["live"] = (await client.until("message"))[-1]
    told["history"] = await client.ask(op="history", id=6, filter="kept/#", limit=3)
    told["error"] = await client.ask(op="publish", id=7, topic="kept/+", data=1)
    await client.socket.close(1000)
    told["closed"] = ending(client.socket)

    position = {"epoch": told["subscribed"]["epoch"], "seq": told["live"]["seq"]}
    other = await open_client()
    await other.ask(op="connect", id=1)
    for number in range(2, 21):
        await other.ask(op="publish", id=number, topic=f"kept/{number}", data=number)
    client = await open_client()
    await client.ask(op="connect", id=1)
    told["resumed"] = await client.ask(op="subscribe", id=2, filter="kept/#", since=position)
    told["missed"] = await client.until("live")
    told["unsubscribed"] = await client.ask(op="unsubscribe", id=3, sub=2)
    await other.ask(op="publish", id=21, topic="kept/x", data="unheard")
    told["pong"] = await client.ask(op="ping", id=4)
    told["skipped"] = client.skipped

    await client.ask(op="publish", id=5, topic="foreign/done", data=True)
    told["drain"] = (await client.until("drain"))[-1]
    told["refused"] = await client.ask(op="publish", id=6, topic="kept/a", data=1)
    try:
        while True:
            await client.next()
    except ConnectionClosed:
        told["end"] = ending(client.socket)
    return told


if __name__ == "__main__":
    url, ca = sys.argv[1:]
    trust = ssl.create_default_context(cafile=ca) if url.startswith("wss:") else None
    sys.stdout.write(json.dumps(asyncio.run(converse(url, trust))))
