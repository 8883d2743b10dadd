"""What every attack has: the daemon and the way to it, a place in the list, and how to tell what it got."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import trio
from attrs import frozen

if TYPE_CHECKING:
    from tests.integration.conftest import Peer, Running, Wire

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
GONE = (trio.BrokenResourceError, trio.ClosedResourceError)
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

    def text(self, op: str, **fields: object) -> bytes:
        return json.dumps({"op": op, **fields}, ensure_ascii=False).encode()

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
    with suppress(*GONE):
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
    except GONE:
        pass
