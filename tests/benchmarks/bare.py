"""A trio-websocket server whose connections are parked: what a connection costs before any broker.

python bare.py PORT
"""

from __future__ import annotations

import sys

import trio
from trio_websocket import WebSocketRequest, serve_websocket


async def park(request: WebSocketRequest) -> None:
    await request.accept()
    await trio.sleep_forever()


if __name__ == "__main__":
    trio.run(serve_websocket, park, "127.0.0.1", int(sys.argv[1]), None)
