"""Forty connections that ask for ten megabytes each and read nothing, while what they asked for is replaced."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
import trio

from tercet_broker.core import BrokerSettings, HistorySettings, LimitSettings, NamespaceSettings
from tercet_broker.runtime import TimeoutSettings
from tercet_broker.runtime.memory import resident_bytes

if TYPE_CHECKING:
    from tests.integration.conftest import Peer, Running, Serve, Watched

KIB, MIB = 1 << 10, 1 << 20
CONNECTIONS, TOPICS, SIZE = 40, 100, 100 * KIB
BROKER = BrokerSettings(
    namespaces={
        "kept": NamespaceSettings(history=HistorySettings(messages=10, per_topic=1)),
        "canary": NamespaceSettings(history=HistorySettings(messages=100_000)),
    },
    limits=LimitSettings(),
)
TIMEOUTS = TimeoutSettings(write=60)
# What is queued for one connection: a page and a message, or a page and the one of `history` that came behind it.
PAGE, REPLIES = 64 * KIB + SIZE, 64 * KIB + BROKER.limits.history_bytes
SLACK = 30 * MIB  # copies on their way, and what the allocator has not sorted out
SLOWEST = 5.0  # seconds that a canary's message may take on a loaded machine
ASKS: dict[str, tuple[dict[str, Any], int]] = {
    "last": ({"op": "subscribe", "last": TOPICS}, PAGE),
    "since": ({"op": "subscribe", "since": {"epoch": "another", "seq": 0}}, PAGE),
    "retained": ({"op": "subscribe"}, PAGE),
    "history": ({"op": "history"}, REPLIES),
}


def return_memory() -> None:
    """Have what is free go back to the system: the C library may keep it for later."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


async def publish_all(peer: Peer) -> None:
    """Publish to each topic, in place of what is retained there and kept of it."""
    for number in range(TOPICS):
        await peer.request("publish", topic=f"kept/{number}", data="x" * SIZE, retain=True)
    await peer.ask("ping", id=1)


async def besiege(running: Running, publisher: Peer, scheme: str, ask: dict[str, Any]) -> int:
    """Have connection after connection ask; return the most memory that there was, in bytes."""
    most = 0
    for _ in range(CONNECTIONS):
        peer = await running.open(scheme)
        for id_ in range(2, 22):
            await peer.request(**ask, id=id_, filter="kept/#")
        await publish_all(publisher)
        most = max(most, resident_bytes())
    return most


@pytest.mark.parametrize("scheme", ["ws", "wss"])
@pytest.mark.parametrize("way", list(ASKS))
async def test_readers_of_nothing_hold_no_more_than_a_page(
    serve: Serve, watched: Watched, baseline: Callable[[], Any], way: str, scheme: str
) -> None:
    """Each of them begins with other messages, so that whatever a replay held would add up to 400 MB."""
    ask, bound = ASKS[way]
    async with serve(BROKER, TIMEOUTS) as running, watched(running) as canary:
        publisher = await running.open("ws")
        await publish_all(publisher)
        return_memory()
        before, memory, ours = baseline(), resident_bytes(), len(running.peers)
        with trio.fail_after(60):
            most = await besiege(running, publisher, scheme, ask)
        assert most - memory < CONNECTIONS * bound + SLACK
        assert sum(one.queued_bytes for one in running.daemon.statistics().sessions) > 0
        await running.hang_up(after=ours)
        await before.regained()
        return_memory()
        assert resident_bytes() - memory < SLACK
        assert canary.slowest < SLOWEST
        assert all(account.balanced for account in running.daemon.statistics().accounts)
