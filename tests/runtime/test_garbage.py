"""A connection that has ended is freed at once: a collector that has to look for it would stop everybody."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
import trio
from trio.testing import MockClock

if TYPE_CHECKING:
    from tests.runtime.conftest import Serve


@pytest.fixture
def collected() -> Iterator[list[object]]:
    """What the collector finds, kept."""
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    yield gc.garbage
    gc.set_debug(0)
    gc.garbage.clear()
    gc.enable()


async def test_ended_connection_leaves_nothing_to_the_collector(
    serve: Serve, collected: list[object], autojump_clock: MockClock
) -> None:
    async with serve() as broker:
        for _ in range(3):
            client = await broker.client()
            await client.ask(op="subscribe", id=1, filter="a/#")
            await client.ask(op="publish", id=2, topic="a/b", data=1)
            await client.stream.aclose()
        await trio.sleep(60)
        gc.collect()
        ours = {type(item).__name__ for item in collected if type(item).__module__.startswith("tercet_broker")}
    assert ours == set()
