"""A connection with the lane and without: the client and the endpoint must not be able to tell."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import trio
import trio.testing
from tests.runtime import conftest as tools
from trio.testing import MockClock

from tercet_broker.core import BrokerSettings, LimitSettings
from tercet_broker.runtime import Connection, DaemonSettings

from . import frames

_SETTINGS = DaemonSettings(broker=BrokerSettings(limits=LimitSettings(message_bytes=200)))
_MOST = 4096  # bytes
_PIECES = 12

WORDS = frames.WORDS
SEEDS = frames.SEEDS


def run(data: bytes) -> None:
    """The first byte says in how many pieces the rest is sent."""
    if not data:
        return
    pieces, stream = data[0] % _PIECES + 1, data[1 : _MOST + 1]
    step = max(1, -(-len(stream) // pieces))
    with_lane = trio.run(_talk, stream, step, True, clock=MockClock(autojump_threshold=0))
    without = trio.run(_talk, stream, step, False, clock=MockClock(autojump_threshold=0))
    assert with_lane == without


async def _talk(stream: bytes, step: int, lane: bool) -> tuple[bytes, list[bytes], list[Exception], Any]:
    """Return what the client got, what the endpoint heard, our faults, and how it ended."""
    echoes: list[tools.Echo] = []

    def open_endpoint(connection: Connection) -> tools.Echo:
        echoes.append(tools.Echo(connection))
        return echoes[-1]

    async with tools.serve_in_memory(_SETTINGS, lane=lane, open_endpoint=open_endpoint) as broker:
        peer = await broker.raw()
        await peer.raw(tools.head())
        for start in range(0, len(stream), step):
            with suppress(trio.BrokenResourceError):
                await peer.raw(stream[start : start + step])
            await trio.testing.wait_all_tasks_blocked()
        with suppress(trio.BrokenResourceError):
            await peer.end_writing()
        await peer.ended()
        (echo,) = echoes
        assert not echo.faults, echo.faults
        return bytes(peer.received), echo.received, echo.faults, echo.ended_with
