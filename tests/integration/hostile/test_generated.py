"""Hostile input out of a seed, at each level, beside a pair that must lose nothing.

    HOSTILE_SEED=7 python -m pytest tests/integration/hostile/test_generated.py

tries what another seed draws. The seed of the connection that something
happened to is in the message.
"""

from __future__ import annotations

import gc
import json
import os
import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
import trio
from attrs import evolve
from tests.integration.hostile import generators
from tests.integration.hostile.test_attacks import BROKER, MEMORY, SLOWEST, TIMEOUTS

from tercet_broker.runtime.memory import resident_bytes

if TYPE_CHECKING:
    from tests.integration.conftest import Peer, Running, Serve, Watched, Wire

SEED = int(os.environ.get("HOSTILE_SEED", "20"))
CONNECTIONS = 60  # of each level
AT_ONCE = 100
PATIENCE = 30.0
# A mistake among many must not end it at once.
SETTINGS = evolve(BROKER, limits=evolve(BROKER.limits, bad_requests=30))
GONE = (trio.BrokenResourceError, trio.ClosedResourceError)
LEVELS: dict[str, Callable[[random.Random], Iterator[bytes]]] = {
    "frame": generators.frames,
    "JSON": generators.texts,
    "semantics": generators.requests,
}
# What a client may be told at all: never that the fault is ours.
CODES = {1000, 1002, 1003, 1007, 1008, 1009, 3000, 3008, 4000}
STATUSES = {101, 200, 400, 403, 404, 405, 408, 414, 426, 431, 501, 503, 505}


async def heard(peer: Peer) -> str:
    """Read to the end, answering nothing; what comes has to be well-formed, whatever was sent."""
    while (found := await peer.frame()) is not None:
        opcode, payload = found
        if opcode == generators.TEXT:
            assert json.loads(payload).get("code") != "internal", payload
        elif opcode == generators.CLOSE:
            code = int.from_bytes(payload[:2], "big") if payload else 1005
            assert code in CODES | {1005}, payload
            return f"close {code}"
    return "cut"


async def answered(peer: Peer) -> str:
    status = await peer.status()
    assert status is None or status in STATUSES, status
    if status == 101:
        return await heard(peer)
    return "cut" if status is None else f"HTTP {status}"


async def pour(peer: Peer, pieces: Iterator[bytes]) -> None:
    with suppress(*GONE):
        for piece in pieces:
            await peer.send(piece)


async def visit(running: Running, wire: Wire, level: str, seed: int) -> str:
    """Be one connection, and return how it ended."""
    draw = random.Random(seed)
    peer = await (running.dial if level == "HTTP" else running.open)(draw.choice(("ws", "wss")))
    pieces = generators.head(draw, wire.upgrade_request()) if level == "HTTP" else LEVELS[level](draw)
    ending = draw.choice(("wait", "wait", "close", "reset", "leave"))
    try:
        with trio.fail_after(PATIENCE):
            if ending in {"reset", "leave"}:
                await pour(peer, pieces)
                if ending == "reset":
                    peer.reset()
                return ending
            async with trio.open_nursery() as nursery:

                async def send() -> None:
                    await pour(peer, pieces)
                    if ending == "close":
                        await pour(peer, iter([generators.frame(draw, generators.CLOSE, b"\x03\xe8")]))

                nursery.start_soon(send)
                # Who waits answers no ping, and is ended for that if for nothing else.
                got = await (answered if level == "HTTP" else heard)(peer)
                nursery.cancel_scope.cancel()
                return got
    finally:
        await trio.aclose_forcefully(peer.stream)
    raise AssertionError


@pytest.mark.filterwarnings("ignore:.*ssl.SSLSocket:pytest.PytestUnraisableExceptionWarning")
async def test_whatever_is_drawn(serve: Serve, watched: Watched, baseline: Callable[[], Any], wire: Wire) -> None:
    got: Counter[tuple[str, str]] = Counter()
    visits = iter([(level, SEED * 1_000_000 + number) for number in range(CONNECTIONS) for level in ("HTTP", *LEVELS)])
    async with serve(SETTINGS, TIMEOUTS) as running, watched(running) as canary:
        before, memory, ours = baseline(), resident_bytes(), len(running.peers)

        async def visit_on() -> None:
            for level, seed in visits:
                try:
                    got[level, await visit(running, wire, level, seed)] += 1
                except Exception as error:
                    error.add_note(f"level {level}, seed {seed}")
                    raise

        async with trio.open_nursery() as nursery:
            for _ in range(AT_ONCE):
                nursery.start_soon(visit_on)
        await running.hang_up(after=ours)
        await before.regained()
        gc.collect()
        assert resident_bytes() - memory < MEMORY
        assert canary.slowest < SLOWEST
        assert all(account.balanced for account in running.daemon.statistics().accounts)
    for level in ("HTTP", *LEVELS):
        endings = {ending: count for (found, ending), count in got.items() if found == level}
        assert sum(endings.values()) == CONNECTIONS
        assert len(endings) >= 4, f"{level} always ends the same way: {endings}"
