"""The broker that everyone would write first, on trio-websocket: the baseline.

    python naive.py PORT [CERTIFICATE KEY]

It speaks as much of Tercet's protocol as a benchmark needs, with none of its
promises: the publisher waits for the slowest subscriber, nothing is bounded,
and a bad request ends the process.
"""

from __future__ import annotations

import json
import ssl
import sys
from collections import defaultdict
from functools import partial

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, WebSocketRequest, serve_websocket

topics: defaultdict[str, set[WebSocketConnection]] = defaultdict(set)


async def serve(request: WebSocketRequest) -> None:
    connection = await request.accept()
    try:
        while True:
            message = json.loads(await connection.get_message())
            match message["op"]:
                case "connect":
                    await connection.send_message(json.dumps({"op": "connected"}, separators=(",", ":")))
                case "subscribe":
                    topics[message["filter"]].add(connection)
                    await connection.send_message(json.dumps({"op": "subscribed", "id": message["id"]}))
                case "publish":
                    await publish(message["topic"], message["data"])
    except ConnectionClosed:
        pass
    finally:
        for subscribers in topics.values():
            subscribers.discard(connection)


async def publish(topic: str, data: object) -> None:
    text = json.dumps({"op": "message", "topic": topic, "data": data})
    for connection in list(topics[topic]):
        try:
            await connection.send_message(text)
        except ConnectionClosed:
            topics[topic].discard(connection)


def main(port: str, certificate: str = "", key: str = "") -> None:
    context = None
    if certificate:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate, key)
    trio.run(partial(serve_websocket, serve, "127.0.0.1", int(port), context))


if __name__ == "__main__":
    main(*sys.argv[1:])
